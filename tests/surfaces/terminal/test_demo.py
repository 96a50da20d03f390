"""The demo prints what just happened, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.agent.surfaces.demo import QUESTIONS
from tests.surfaces.terminal.conftest import Ran, branchwise


def test_every_figure_adds_up(call: Callable[..., Ran], library: Path) -> None:
    """On an index that is there: on the path and beside it everything is counted once, and citations are checked."""
    told = call("demo", "-i", library, "--json").json()
    assert not told["built"]
    assert [asked["query"] for asked in told["questions"]] == list(QUESTIONS)
    for asked in told["questions"]:
        leaves = told["counts"]["leaves"]
        for fork in asked["path"]:
            assert fork["leaves"] + fork["beside"]["leaves"] >= fork["leaves"]
            assert fork["read"] <= fork["leaves"]
            assert fork["leaves"] + fork["beside"]["leaves"] == leaves
            leaves = fork["leaves"]


def test_the_first_line_says_that_no_model_was_used(call: Callable[..., Ran], library: Path) -> None:
    """No key, no network, no model: it is said before anything else, and at the end what to try next."""
    ran = call("demo", "-i", library)
    assert ran.out.startswith("No LLM was used")
    assert "What to try next" in ran.out
    assert all(question in ran.out for question in QUESTIONS)


@pytest.mark.slow
def test_the_real_demo_answers(tmp_path: Path) -> None:
    """From nothing: at least 2,000 passages, three cited answers; the second time nothing is built."""
    first = branchwise("demo", "--json", cwd=tmp_path)
    assert first.code == 0, first.err
    told = first.json()
    assert told["built"]
    assert told["counts"]["passages"] >= 2_000
    assert all(asked["found"] and asked["citations"] for asked in told["questions"])
    again = branchwise("demo", "--json", cwd=tmp_path)
    assert not again.json()["built"]
