"""Trees, paths, hits, health and progress as people see them; nothing in a text is markup or a control sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from branchwise.agent.surfaces.cli.show import cost, draw_estimate, draw_hits, path_line, scores_of, summary
from branchwise.agent.surfaces.health_view import draw_health, health_json
from branchwise.agent.surfaces.progress import Lines, step_line, watch
from branchwise.agent.surfaces.tree_view import draw_tree, fitting_depth, plain
from branchwise.stores.index import Index
from branchwise.stores.records import Event, Hit, Passage, Question, SearchResult, Step, Usage
from branchwise.tree_builder.estimate import Estimate, Range
from branchwise.tree_builder.health import measure

HOSTILE = "\x1b[31m[bold]red[/bold]\x07 \u202eneddih\nnext line"


def drawn(*parts: object, width: int = 100) -> str:
    """What a terminal of `width` would show."""
    console = Console(width=width, markup=False, highlight=False, emoji=False, force_terminal=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()


@given(st.text())
def test_plain_text_holds_no_control_characters(text: str) -> None:
    """Whatever comes in, one line of printable text comes out."""
    shown = plain(text)
    assert "\n" not in shown
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in "\u202e\u2066" for letter in shown)


def test_a_tree_fits_a_screen(library: Path) -> None:
    """Without a depth as many levels are shown as fit; every line keeps to the terminal's width."""
    with Index.open(library) as index:
        depth = fitting_depth(index, "n:root")
        assert depth == index.tree.height("n:root"), "13 passages fit as a whole"
        for width in (30, 60, 100):
            lines = drawn(draw_tree(index, "n:root", depth=depth), width=width).splitlines()
            assert max(map(len, lines)) <= width
        whole = drawn(draw_tree(index, "n:root", depth=depth))
        assert "13 passages" in whole
        assert all(name in whole for name in ("owls.txt", "tides.md"))


def hit(title: str, *, judged: bool = True, reason: str = "") -> Hit:
    """A hit two levels down."""
    steps = (
        Step(node_id="n:root", title="root", path=1.0),
        Step(node_id="n:a", title="Water", path=1.0),
        Step(node_id="p:x", title=title, local=0.625, calibrated=0.61 if judged else None, path=0.8),
    )
    passage = Passage(passage_id="x", doc_id="x", text=title, start=0, end=len(title), title=title, page=3)
    return Hit(passage=passage, score=0.7, rank=1, node_id="p:x", steps=steps, reason=reason, judged=judged)


def test_a_hit_says_why() -> None:
    """Title, page, path with scores and the judge's reason are shown; a node nobody judged shows no score."""
    shown = drawn(*draw_hits([hit("Ice", reason="it says so")]))
    assert "Water › Ice .80" in shown
    assert "why: it says so" in shown
    assert "page 3" in shown
    assert "not read by the judge" in drawn(*draw_hits([hit("Ice", judged=False)]))
    every = drawn(*draw_hits([hit("Ice")], why=True))
    assert "judge .62 calibrated .61 path .80" in every
    assert scores_of(Step(node_id="n", title="t", path=1.0)) == ""
    assert path_line(hit("Ice", judged=False).steps) == "Water › Ice"


def test_hostile_titles_stay_text() -> None:
    """Escape sequences, markup and line breaks in a title do nothing."""
    shown = drawn(*draw_hits([hit(HOSTILE)], why=True))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]red[/bold]" in shown


def test_costs_are_told_honestly() -> None:
    """No call costs time alone; an unknown price is unknown; cached tokens stand apart."""
    assert cost(Usage(seconds=0.5)) == "0.50 s"
    paid = Usage(calls=1, input_tokens=1_200, cached_tokens=200, output_tokens=30, seconds=1, cost=None)
    assert cost(paid) == "1.00 s, 1 model call, 1,200 tokens in (200 cached), 30 out, price unknown"
    result = SearchResult(question=Question(text="?"), hits=(), stopped="budget", partial=True)
    assert summary(result).startswith("0 passages, 0 slates judged, stopped by a limit, partial")


def test_an_estimate_tells_bounds_and_unknown_prices() -> None:
    """Expected figures, bounds, and that an unknown price is not free."""
    one = Range(expected=1_000, most=2_500)
    estimate = Estimate(
        tree="hybrid", documents=2, passages=1, nodes=3, calls=one, input_tokens=one, output_tokens=one, minutes=one,
        cost=None,
    )  # fmt: skip
    told = "\n".join(draw_estimate(estimate, "m"))
    assert "2 documents, 1 passage, about 3 inner nodes, hybrid tree" in told
    assert "1,000" in told
    assert "2,500" in told
    assert "price of m is unknown" in told
    assert "Costs nothing" in "\n".join(draw_estimate(estimate, None))


def test_health_is_drawn_and_is_json(library: Path) -> None:
    """Every figure is in the JSON; the picture has a line a level."""
    with Index.open(library) as index:
        health = measure(index)
        shown = drawn(*draw_health(health, index.tree))
    assert shown.count("level ") == len(health.level_sizes)
    assert "13 leaves" in shown
    assert health_json(health)["leaf_depth"].keys() == {str(depth) for depth in health.leaf_depth}


def test_progress_is_sparse_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a stage is told at its end and every ten seconds, skipped files at once, all on stderr."""
    now = [0.0]
    lines = Lines(Console(stderr=True, width=100), clock=lambda: now[0])
    for done in range(1, 101):
        now[0] += 0.25
        lines(Event(seq=done, kind="embedded", payload={"done": done, "total": 100}))
    lines(Event(seq=101, kind="skipped", payload={"where": "a.bin", "why": "not text"}))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Embedding passages: 41 of 100",
        "Embedding passages: 81 of 100",
        "Embedding passages: 100 of 100",
        "Skipped a.bin: not text",
    ]


def test_progress_is_a_bar_on_a_terminal() -> None:
    """On a terminal each stage has its bar."""
    console = Console(force_terminal=True, width=80, color_system=None)
    with console.capture() as capture, watch(console) as listen:
        listen(Event(seq=0, kind="embedded", payload={"done": 5, "total": 10}))
    assert "Embedding passages" in capture.get()
    assert "5/10" in capture.get()


def test_steps_of_a_search_are_told_in_words(library: Path) -> None:
    """A slate names the branch it opens, a judgement its best node; events without news say nothing."""
    with Index.open(library) as index:
        root = index.tree.node("n:root").title
        opened = {"slate": 0, "parent": "n:root", "candidates": ["n:a", "n:b"], "kind": "inner"}
        assert step_line(Event(seq=0, kind="slate", payload=opened), index.tree) == f"  1  open {root}: 2 branches"
        heard = {"scores": {"p:ice.txt": 0.9, "p:owls.txt": None}}
        assert (step_line(Event(seq=1, kind="judged", payload=heard), index.tree) or "").startswith("     best 0.90")
        assert step_line(Event(seq=2, kind="calibrated", payload={}), index.tree) is None
