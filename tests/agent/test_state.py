"""What one search knows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.state import SearchState
from branchwise.stores.records import Judgement, Slate

sys.path.insert(0, str(Path(__file__).parent))
from worlds import make_tree, prior_for

TREE = make_tree()
SLATES = [
    Slate(parent="n:root", candidate_ids=("n:0", "n:1", "n:2", "n:3")),
    Slate(parent="n:2", candidate_ids=("n:2.0", "n:2.1"), anchor_ids=("n:0",)),
    Slate(parent="n:2.1", candidate_ids=TREE.children("n:2.1"), anchor_ids=(), kind="leaf"),
    Slate(parent=None, candidate_ids=("p:0.0.0", "p:1.1.1"), anchor_ids=("p:2.1.0", "p:2.1.1"), kind="leaf"),
]


def state_after(order: list[int], scores: list[float]) -> SearchState:
    """The state after the slates were answered in this order."""
    state = SearchState(TREE, prior_for(TREE, {"p:0.0.0": 1.0, "p:1.1.1": 0.5}), SearchConfig())
    for slate in SLATES:
        state.issue(slate)
    for number in order:
        slate = SLATES[number]
        said = {node: scores[(number * 5 + i) % len(scores)] for i, node in enumerate(slate.node_ids)}
        state.record(number, Judgement(slate=slate, scores=said, judge="test"))
    return state


@given(order=st.permutations(range(4)), scores=st.lists(st.floats(0, 1), min_size=7, max_size=7))
@settings(max_examples=40, deadline=None)
def test_a_function_of_the_set_of_replies(order: list[int], scores: list[float]) -> None:
    """Whatever the order of the replies, latent scores and paths come out the same."""
    first, other = state_after([0, 1, 2, 3], scores), state_after(order, scores)
    for node_id in (*first.judged_leaves(), *first.judged_clusters()):
        a, b = first.latent(node_id), other.latent(node_id)
        assert a is not None
        assert b is not None
        assert a.theta == pytest.approx(b.theta, abs=1e-9)
        assert a.sd == pytest.approx(b.sd, abs=1e-9)
        assert first.path(node_id) == pytest.approx(other.path(node_id), abs=1e-9)


def test_unjudged_is_unknown() -> None:
    """A node that no judge scored has neither a local nor a latent score; the root's path is 1."""
    state = state_after([0], [0.5])
    assert state.local("p:3.3.3") is None
    assert state.latent("p:3.3.3") is None
    assert state.path("n:root") == 1.0


def test_a_branch_nobody_judged_is_worth_what_is_expected_of_it() -> None:
    """Of two unjudged clusters below one branch, the one with the good seed makes the better path; both below 1."""
    state = SearchState(TREE, prior_for(TREE, {"p:0.0.0": 1.0}), SearchConfig())
    slate = SLATES[0]
    state.issue(slate)
    state.record(0, Judgement(slate=slate, scores=dict.fromkeys(slate.candidate_ids, 0.9), judge="test"))
    seeded, bare = state.likely_path("n:0.0"), state.likely_path("n:0.1")
    assert bare < seeded < 1.0
    assert state.path("n:0.0") == state.path("n:0.1") == state.path("n:0")
    assert state.likely_path("n:0") == pytest.approx(state.path("n:0"))
    assert state.likely_path("n:root") == 1.0


def test_a_good_leaf_speaks_for_its_cluster() -> None:
    """A cluster in which a passage was found good comes into reach, and more is expected of its siblings."""
    state = SearchState(TREE, prior_for(TREE, {"p:0.0.0": 1.0}), SearchConfig())
    slate = Slate(parent=None, candidate_ids=("p:3.3.3", "p:1.1.1"), kind="leaf")
    state.issue(slate)
    before = state.expect(["p:3.3.4"], "leaf")[0]
    state.record(0, Judgement(slate=slate, scores={"p:3.3.3": 0.95, "p:1.1.1": 0.02}, judge="test"))
    assert "n:3.3" in state.frontier
    assert "n:1.1" not in state.frontier
    assert state.expect(["p:3.3.4"], "leaf")[0] > before


def test_scores_of_a_fallback_measure_nobody() -> None:
    """What the embedded judge said in a model's place stands where the model said nothing, and is no measurement."""
    state = SearchState(TREE, prior_for(TREE, {}), SearchConfig())
    leaves = ("p:0.0.0", "p:0.0.1")
    for number, (scores, weak) in enumerate([((0.9, 0.1), False), ((0.2, 0.8), True), ((0.9, None), False)]):
        slate = Slate(parent=None, candidate_ids=leaves, kind="leaf", repeat=number)
        state.issue(slate)
        said = dict(zip(leaves, scores, strict=True))
        state.record(number, Judgement(slate=slate, scores=said, judge="test", weak=weak))
    assert state.judge["leaf"][0] < 0.08
    first = state.latent("p:0.0.0")
    assert first is not None
    assert first.theta > 0.7


def test_what_moved_is_told_once() -> None:
    """An event tells the nodes whose latent score moved, and not again while it stays."""
    state = state_after([0, 1], [0.2, 0.9, 0.4])
    assert set(state.told()["nodes"]) == {"n:0", "n:1", "n:2", "n:3", "n:2.0", "n:2.1"}
    assert state.told()["nodes"] == {}
