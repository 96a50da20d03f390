"""The records: frozen, and honest about what is not known."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.stores.records import Slate, TreeNode, Usage

_counts = st.integers(0, 10**9)
_costs = st.one_of(st.none(), st.integers(0, 1000).map(float))
_usages = st.builds(
    Usage, calls=_counts, input_tokens=_counts, cached_tokens=_counts, output_tokens=_counts, cost=_costs
)


@given(_usages, _usages, _usages)
def test_usage_adds_up(a: Usage, b: Usage, c: Usage) -> None:
    """In any order; a cost that is unknown anywhere is unknown in the sum, and nothing adds nothing."""
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == a
    assert ((a + b).cost is None) == (a.cost is None or b.cost is None)


def test_records_do_not_change() -> None:
    """A record that was handed out stays what it was."""
    with pytest.raises(FrozenInstanceError):
        TreeNode(node_id="n:root").title = "new"  # type: ignore[misc]


def test_a_node_is_a_leaf_by_its_passage() -> None:
    """And a slate lists its candidates before its anchors."""
    assert TreeNode(node_id="p:a", passage_id="a").is_leaf
    assert not TreeNode(node_id="n:1").is_leaf
    assert Slate(parent=None, candidate_ids=("a", "b"), anchor_ids=("c",)).node_ids == ("a", "b", "c")
