"""The final order."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.fuse import legs_share
from branchwise.stores.records import Budget

sys.path.insert(0, str(Path(__file__).parent))
from worlds import Oracle, make_tree, prior_for, search

TREE = make_tree()


def test_steady_and_choosy_judge_is_trusted() -> None:
    """A judge that is steady and picks one leaves the cheap legs next to nothing to say."""
    assert legs_share(np.array([0.97] + [0.03] * 19), 0.014) < 0.04


def test_shaky_judge_that_likes_everything_is_not() -> None:
    """A judge that is unsteady and finds all half relevant leaves most of the order to them."""
    assert legs_share(np.full(60, 0.5), 0.15) > 0.7


def test_share_grows_with_noise_and_with_liking() -> None:
    """More noise, or a better word for the usual leaf, never lowers the share of the cheap legs."""
    no, half = np.array([0.9] * 3 + [0.02] * 20), np.array([0.9] * 3 + [0.4] * 20)
    assert legs_share(no, 0.05) < legs_share(no, 0.2)
    assert legs_share(no, 0.1) < legs_share(half, 0.1)


def test_many_answers_are_no_reason_to_doubt() -> None:
    """A steady judge that likes eight of twenty and says no to the rest is trusted as one that likes a single one."""
    one, many = np.array([0.95] + [0.02] * 19), np.array([0.95] * 8 + [0.02] * 12)
    assert legs_share(many, 0.03) == legs_share(one, 0.03) < 0.05


def test_nothing_found_is_a_clear_word() -> None:
    """A judge that scores everything 0 has said no; with no leaf read there is nobody to trust."""
    assert legs_share(np.zeros(30), 0.02) < 0.05
    assert legs_share(np.zeros(0), 0.02) == 1.0


async def test_ties_are_ordered_by_the_legs() -> None:
    """Leaves that the judge scores alike come in the order of BM25 and vectors."""
    gold = frozenset({"p:0.0.1", "p:0.0.5", "p:0.0.3"})
    likes = {"p:0.0.5": 1.0, "p:0.0.3": 0.7, "p:0.0.1": 0.4}
    found = await search(TREE, Oracle(TREE, gold), prior_for(TREE, likes))
    assert [leaf.node_id for leaf in found.ranked[:3]] == list(likes)


async def test_read_comes_before_unread() -> None:
    """A leaf that was read and found good stands above every unread one."""
    found = await search(TREE, Oracle(TREE, frozenset({"p:2.1.3"})), prior_for(TREE, {"p:0.0.0": 1.0}))
    assert found.ranked[0].judged
    assert not found.ranked[-1].judged


async def test_every_leaf_is_ranked_once() -> None:
    """No leaf stands in the ranking twice."""
    config = SearchConfig(confidence=0.999)
    found = await search(
        TREE, Oracle(TREE, frozenset({"p:2.1.3"}), noise=0.2), prior_for(TREE, {}), config, budget=Budget(max_calls=20)
    )
    ids = [leaf.node_id for leaf in found.ranked]
    assert len(ids) == len(set(ids))
