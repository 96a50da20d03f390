"""Shapes and ids."""

from __future__ import annotations

from branchwise.tree_builder.outline import ROOT, Outline, inner_id

CHILDREN = {ROOT: ("n:a", "n:b"), "n:a": ("p:1", "p:2"), "n:b": ("n:c",), "n:c": ("p:2", "p:3")}


def test_children_come_before_parents_in_heights() -> None:
    """Heights are edges to the farthest leaf, and their order is safe to write in."""
    heights = Outline(CHILDREN).heights()
    assert heights == {"n:c": 1, "n:b": 2, "n:a": 1, ROOT: 3}
    order = list(heights)
    assert order.index("n:c") < order.index("n:b") < order.index(ROOT)


def test_leaf_rows_are_distinct_and_ascending() -> None:
    """A leaf under two parents is counted once above them."""
    rows = Outline(CHILDREN).leaf_rows({"p:1": 0, "p:2": 1, "p:3": 2})
    assert rows[ROOT].tolist() == [0, 1, 2]
    assert rows["n:a"].tolist() == [0, 1]


def test_ids_depend_on_what_is_held_alone() -> None:
    """The order of children does not matter, their set and the salt do."""
    assert inner_id(["p:1", "p:2"]) == inner_id(["p:2", "p:1"])
    assert inner_id(["p:1", "p:2"]) != inner_id(["p:1", "p:3"])
    assert inner_id(["p:1"], salt="x") != inner_id(["p:1"])
