"""What is asked next."""

from __future__ import annotations

import sys
from pathlib import Path

from branchwise.agent.search.choose import GainPolicy
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.state import SearchState
from branchwise.agent.search.view import View
from branchwise.stores.records import Judgement

sys.path.insert(0, str(Path(__file__).parent))
from worlds import make_tree, prior_for

TREE = make_tree()
LIKES = {f"p:0.0.{i}": 1 - i / 10 for i in range(8)}


def fresh(**config: object) -> tuple[SearchState, GainPolicy]:
    """A search that has heard nothing yet."""
    chosen = SearchConfig(**config)  # type: ignore[arg-type]
    return SearchState(TREE, prior_for(TREE, LIKES), chosen), GainPolicy(chosen, k=10, max_slate=40)


def test_seeds_come_first() -> None:
    """The first slate holds the best leaves of BM25 and vectors, side by side."""
    state, policy = fresh()
    choice = policy.next(state)
    assert choice is not None
    assert choice.slate.parent is None
    assert choice.slate.candidate_ids[:8] == tuple(LIKES)


def test_without_seeds_the_root_comes_first() -> None:
    """Switched off, the search begins at the root."""
    state, policy = fresh(seeds=False)
    choice = policy.next(state)
    assert choice is not None
    assert choice.slate.parent == "n:root"


def test_slates_fit_the_judge() -> None:
    """No slate, anchors included, is larger than the judge can read."""
    config = SearchConfig()
    state, policy = SearchState(TREE, prior_for(TREE, LIKES), config), GainPolicy(config, k=10, max_slate=6)
    for _ in range(6):
        choice = policy.next(state)
        if choice is None:
            break
        assert len(choice.slate.node_ids) <= 6
        number = state.issue(choice.slate)
        said = {node_id: 0.1 + 0.1 * (i % 3) for i, node_id in enumerate(choice.slate.node_ids)}
        state.record(number, Judgement(slate=choice.slate, scores=said, judge="test"))


def test_waits_for_the_name_of_a_branch() -> None:
    """The children of a branch that is still being judged are not opened on a guess."""
    state, policy = fresh(seeds=False, in_flight=4)
    choice = policy.next(state)
    assert choice is not None
    state.issue(choice.slate)
    assert policy.next(state) is None


def test_view_ranks_what_was_read() -> None:
    """Read leaves come best first, unread ones by promise, and none is in both."""
    state, policy = fresh()
    choice = policy.next(state)
    assert choice is not None
    number = state.issue(choice.slate)
    said = {node_id: i / 20 for i, node_id in enumerate(choice.slate.node_ids)}
    state.record(number, Judgement(slate=choice.slate, scores=said, judge="test"))
    view = View.of(state, 10)
    assert list(view.theta) == sorted(view.theta, reverse=True)
    assert not set(view.judged) & set(view.unread)
    assert len(view.anchors(4)) == 4
    assert view.good() == [leaf for leaf, theta in zip(view.judged, view.theta, strict=True) if theta > view.level / 2]
