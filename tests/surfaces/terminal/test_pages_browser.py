"""The exported pages in a real Chromium: they fold, search and replay, and nothing in a document runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import branchwise
from branchwise.agent.surfaces.export import tree_html, write_text
from branchwise.agent.surfaces.trace_view import draw_search
from branchwise.stores.records import Document

pytestmark = pytest.mark.browser

ATTACKS = (
    "<script>document.title = 'pwned'</script>",
    "</script><script>document.title = 'pwned'</script>",
    "<img src=x onerror=\"document.title = 'pwned'\">",
    "<svg onload=\"document.title = 'pwned'\">",
    "javascript:document.title='pwned'",
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[branchwise.Collection]:
    """An index of documents whose titles and texts want to be code."""
    path = tmp_path_factory.mktemp("hostile") / "index"
    documents = [
        Document(doc_id=f"d{n}", title=f"{attack} {n}", text=f"{attack} Moths circle lamps, number {n}. " * 3)
        for n, attack in enumerate(ATTACKS * 5)
    ]
    with branchwise.build(documents, index=path, title=ATTACKS[1], max_children=4, duplicate_similarity=0) as library:
        yield library


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a network."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("BRANCHWISE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that notes what it fetches and what goes wrong in it."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.fetched, opened.troubles = [], []
    opened.on("request", lambda request: opened.fetched.append(request.url))
    opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
    opened.on("console", lambda message: opened.troubles.append(message.text))
    yield opened
    opened.close()


def show(page: Any, path: Path, html: str) -> None:
    """Open a page from disk; only the file itself is read, and nothing in it runs that is not ours."""
    write_text(path, html)
    page.goto(path.as_uri())
    assert page.fetched == [path.as_uri()]
    assert page.troubles == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_tree_folds_and_searches(page: Any, hostile: branchwise.Collection, tmp_path: Path, width: int) -> None:
    """Branches open by click and key, a search finds a passage and leads to it, nothing overflows or runs."""
    page.set_viewport_size({"width": width, "height": 800})
    show(page, tmp_path / "tree.html", tree_html(hostile.index))
    assert ATTACKS[1] in page.inner_text("h1")
    branch = page.locator("#tree details details").first
    branch.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert branch.get_attribute("open") is not None
    page.fill("#query", "lamps 7.")
    page.wait_for_selector(".hit")
    page.locator(".hit button").first.click()
    assert page.locator(".here").count() == 1
    page.click("#fold")
    assert page.locator("#tree details details[open]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.title() != "pwned"
    assert page.troubles == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_picture_of_a_search_replays(page: Any, hostile: branchwise.Collection, tmp_path: Path, width: int) -> None:
    """Step by step backwards to the beginning; the relevant passage is marked; nothing overflows or runs."""
    page.set_viewport_size({"width": width, "height": 800})
    events = hostile.trace("why do moths circle lamps?", k=3)
    show(page, tmp_path / "trace.html", draw_search(events, hostile.index, gold=["d7"]))
    assert "relevant" in page.inner_text("#tree")
    assert "hit 1" in page.inner_text("#tree")
    calls = int(page.get_attribute("#step", "max"))
    for _ in range(calls):
        page.click("#back")
    assert page.inner_text("#at").startswith("0 of ")
    assert "Before the first call" in page.inner_text("#now")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.title() != "pwned"
    assert page.troubles == []
