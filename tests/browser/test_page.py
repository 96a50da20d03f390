"""The web page in a real Chromium: what a person does with it, with the mouse, the keyboard, and a small screen."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
QUESTION = "How are the names in a nested function looked up?"
SHOTS = os.environ.get("BRANCHWISE_SCREENSHOTS")


def shoot(page: Any, name: str) -> None:
    """Keep a picture of the page where BRANCHWISE_SCREENSHOTS names a folder."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png")


def ask(page: Any, question: str = QUESTION) -> None:
    """Type a question and wait for its answer."""
    page.fill("#question", question)
    page.keyboard.press("Enter")
    page.locator(".message.assistant").last.locator(".foot, .failed").first.wait_for(timeout=60_000)


def opened(page: Any, url: str) -> Any:
    """The page at `url`, once it knows what may be asked."""
    page.goto(url)
    page.locator("#index option").first.wait_for(state="attached")
    return page


def test_ask_and_see_answer_tree_and_evidence(page: Any, embedded: str) -> None:
    """A question fills all three panes, says that no model was used, and draws only what the search touched."""
    opened(page, embedded)
    assert "no model" in page.locator("#backend").inner_text()
    shoot(page, "1280-empty")
    ask(page)
    assert page.locator(".cite").count() >= 1
    assert "extractive, no model" in page.locator(".message.assistant").inner_text()
    assert page.locator(".node[data-state=cited]").count() >= 1
    assert 5 < page.locator(".node").count() < 200
    assert page.locator("#evidence .card").count() >= 10
    assert re.search(r"\d+ slates? judged", page.locator("#status").inner_text())
    shoot(page, "1280-answer")


def test_hovering_a_citation_lights_its_way(page: Any, embedded: str) -> None:
    """Citation, card and the way through the tree light up together, and go dark together."""
    ask(opened(page, embedded))
    page.locator(".cite").first.hover()
    lit = page.locator(".node.lit")
    assert lit.count() >= 2
    levels = [int(lit.nth(at).get_attribute("aria-level")) for at in range(lit.count())]
    assert levels == list(range(1, len(levels) + 1))
    assert lit.last.get_attribute("data-state") == "cited"
    assert page.locator(".card.lit").count() >= 1
    shoot(page, "1280-citation")
    page.mouse.move(5, 5)
    assert page.locator(".lit").count() == 0


def test_the_quote_stands_marked_in_its_document(page: Any, embedded: str) -> None:
    """ "Read in document" opens the text with exactly the quote marked."""
    ask(opened(page, embedded))
    quote = page.locator("#evidence blockquote").first.text_content()
    page.locator("#evidence .card button").first.click()
    mark = page.locator("#document mark")
    mark.wait_for()
    assert mark.text_content() == quote
    shoot(page, "1280-document")
    page.keyboard.press("Escape")
    assert not page.locator("#document").is_visible()


def test_everything_can_be_done_from_the_keyboard(page: Any, embedded: str) -> None:
    """Tab to the tree, walk it with the arrows, fold and unfold; each row speaks its state and its scores."""
    ask(opened(page, embedded))
    page.locator(".node[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    focused = page.locator(".node:focus")
    assert focused.get_attribute("aria-selected") == "true"
    assert page.locator("#detail").is_visible()
    page.keyboard.press("Home")
    before = page.locator(".node").count()
    assert focused.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowLeft")
    assert page.locator(".node").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.locator(".node").count() == before
    page.keyboard.press("End")
    assert focused.get_attribute("data-id") != ""
    for row in page.locator(".node").all():
        label = row.get_attribute("aria-label")
        assert re.search(r"(opened|judged|read|results|answer)", label), label
    page.locator(".cite").first.focus()
    assert page.locator(".node.lit").count() >= 2


def test_steps_can_be_scrubbed_and_replayed(page: Any, embedded: str) -> None:
    """The slider shows the tree as it was; replay runs to the end and stops there."""
    ask(opened(page, embedded))
    scrub = page.locator("#scrub")
    last = int(scrub.get_attribute("max"))
    assert last >= 1
    assert page.locator(".node[data-state=cited]").count() >= 1
    scrub.focus()
    page.keyboard.press("Home")
    assert page.locator(".node[data-state=cited]").count() == 0
    assert page.locator("#step-text").inner_text() == f"1 / {last + 1}"
    page.keyboard.press("End")
    assert page.locator(".node[data-state=cited]").count() >= 1
    page.keyboard.press("Home")
    page.locator("#play").click()
    page.locator("#step-text", has_text=f"{last + 1} / {last + 1}").wait_for(timeout=30_000)
    page.locator("#play:not(.playing)").wait_for()


def test_stop_and_answer_now(page: Any, serve: Any, slow_model: str, topics_path: Path) -> None:
    """With a slow model: the budget is counted, the search is stopped, and an answer still comes."""
    opened(page, serve({"topics": topics_path}, model_url=slow_model))
    assert "stand-in" in page.locator("#backend").inner_text()
    page.locator("#options summary").click()
    page.fill("#max-calls", "40")
    page.fill("#question", QUESTION)
    page.locator("#send").click()
    page.locator(".node[data-state=judging]").first.wait_for()
    assert "of 40 slates" in page.locator("#meter-text").inner_text()
    shoot(page, "1280-live")
    page.locator("#stop").click()
    page.locator(".message.assistant .foot").first.wait_for(timeout=30_000)
    assert "ended early" in page.locator(".message.assistant").inner_text()
    assert not page.locator("#meter").is_visible()
    assert page.locator("#evidence .card").count() >= 1
    shoot(page, "1280-model")


def test_a_conversation_keeps_each_turns_tree(page: Any, embedded: str) -> None:
    """A second question has its own tree; going back to the first answer brings its own back."""
    ask(opened(page, embedded))
    first = page.locator(".node").evaluate_all("rows => rows.map((row) => row.dataset.id)")
    ask(page, "What does the with statement do?")
    assert page.locator(".message.assistant").count() == 2
    assert page.locator(".node").evaluate_all("rows => rows.map((row) => row.dataset.id)") != first
    page.locator(".message.assistant .foot").first.click()
    assert page.locator(".node").evaluate_all("rows => rows.map((row) => row.dataset.id)") == first
    page.locator("#clear").click()
    assert page.locator(".message").count() == 0
    assert page.locator("#tree-empty").is_visible()


def test_filters_and_exclusions_reach_the_search(page: Any, embedded: str) -> None:
    """What is filtered out or excluded stands nowhere on the page."""
    opened(page, embedded)
    page.locator("#options summary").click()
    page.fill("#filters", "letter=w")
    page.fill("#excluded", "while")
    ask(page, "Which statement takes a context manager?")
    names = page.locator("#evidence .card").evaluate_all("cards => cards.map((card) => card.dataset.passage)")
    assert names
    assert all(name.startswith("w") and not name.startswith("while") for name in names)
    with page.expect_response(lambda answer: "/document" in answer.url) as asked:
        page.locator("#evidence .card button").first.click()
    assert "letter" in asked.value.url
    assert "excluded_ids=while" in asked.value.url
    page.locator("#document mark").wait_for()


def test_nothing_found_is_said(page: Any, embedded: str) -> None:
    """An error of the server is shown as what it is, never as an empty answer."""
    opened(page, embedded)
    page.locator("#options summary").click()
    page.fill("#filters", "letter=nonsense")
    ask(page)
    assert "not found" in page.locator(".message.assistant").inner_text().lower()
    assert "Nothing was found" in page.locator("#evidence").inner_text()


def test_a_lost_connection_is_resumed(page: Any, serve: Any, slow_model: str, topics_path: Path) -> None:
    """The stream breaks in the middle; the page comes back for the rest and shows the whole answer once."""
    opened(page, serve({"topics": topics_path}, model_url=slow_model))
    resumed: list[str] = []
    page.on("request", lambda request: resumed.append(request.url) if "/runs/" in request.url else None)
    page.add_init_script(BREAK_FIRST_STREAM)
    opened(page, page.url)
    ask(page, "What is a decorator?")
    assert resumed
    assert "failed" not in page.locator(".message.assistant").get_attribute("class")
    steps = page.locator("#step-text").inner_text()
    assert steps.split(" / ")[0] == steps.split(" / ")[1]


BREAK_FIRST_STREAM = """
const real = window.fetch;
window.fetch = async (path, options) => {
  const response = await real(path, options);
  if (path !== "/ask") return response;
  const reader = response.body.getReader();
  const first = await reader.read();
  const body = new ReadableStream({
    start(stream) {
      stream.enqueue(first.value.slice(0, first.value.length - 7));
      stream.error(new TypeError("network error"));
    },
  });
  reader.cancel();
  return new Response(body, { status: response.status, headers: response.headers });
};
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_have_contrast(browser: Any, embedded: str, scheme: str) -> None:
    """Text stands out from its ground by at least 4.5 to 1 in both themes, quiet text included."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    ask(opened(page, embedded))
    ratios = page.evaluate(CONTRAST)
    shoot(page, f"1280-{scheme}")
    context.close()
    assert min(ratios.values()) >= 4.5, ratios


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.querySelector(".pane")).backgroundColor);
  const found = {};
  const texts = [".message.assistant", ".quiet", ".name", ".count", ".cite", ".card h3", ".way", "#status", ".more"];
  for (const selector of texts) {
    const element = document.querySelector(selector);
    if (!element) continue;
    const own = light(getComputedStyle(element).color);
    found[selector] = (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
  }
  return found;
}"""


def test_a_narrow_screen_has_one_pane_at_a_time(browser: Any, embedded: str) -> None:
    """At 400 pixels nothing overflows, and tabs lead to each pane."""
    context = browser.new_context(viewport={"width": 400, "height": 800})
    page = context.new_page()
    ask(opened(page, embedded))
    for tab, pane in (("#tab-chat", "#chat"), ("#tab-tree", "#tree-pane"), ("#tab-evidence", "#evidence")):
        page.locator(tab).click()
        assert page.locator(pane).is_visible()
        assert page.locator("main > .pane:visible").count() == 1
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
        shoot(page, f"400-{pane[1:]}")
    page.locator("#tab-chat").click()
    page.locator(".cite").first.click()
    assert page.locator("#evidence").is_visible()
    context.close()


def test_a_token_is_asked_for_and_kept_for_the_tab(page: Any, serve: Any, topics_path: Path) -> None:
    """Without the token the page shows nothing but the question for it; a link with it opens at once."""
    token = "a-token-of-thirty-two-characters"
    url = serve({"topics": topics_path}, token=token)
    page.goto(url)
    page.locator("#token-dialog").wait_for()
    assert page.locator("#index option").count() == 0
    page.fill("#token", "wrong-wrong-wrong")
    page.locator("#token-form button").click()
    page.locator("#token-dialog").wait_for()
    page.fill("#token", token)
    page.locator("#token-form button").click()
    page.locator("#index option").first.wait_for(state="attached")
    other = page.context.new_page()
    opened(other, f"{url}/#token={token}")
    assert token not in other.url


def test_a_citations_link_opens_its_document(page: Any, embedded: str) -> None:
    """The address that OpenAI clients get for a citation leads to the marked characters."""
    page.goto(f"{embedded}/#index=again&doc=lambda&start=0&end=6")
    mark = page.locator("#document mark")
    mark.wait_for()
    assert len(mark.text_content()) == 6
    assert page.locator("#index").input_value() == "again"
