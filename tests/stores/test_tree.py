"""The semantic tree: shape, paths, rows, and every way in which it can be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.stores.errors import IndexMissing
from branchwise.stores.records import Part, TreeNode
from branchwise.stores.tree import SemanticTree

MOST = 4


def leaf(name: str) -> TreeNode:
    """A leaf record."""
    return TreeNode(node_id=f"p:{name}", passage_id=name)


def small() -> tuple[list[TreeNode], dict[str, list[str]]]:
    """Two groups of leaves; leaf c hangs under both, at home in the second."""
    nodes = [leaf("a"), leaf("b"), replace(leaf("c"), parent_ids=("n:2",)), leaf("d")]
    nodes += [TreeNode(node_id="n:root"), TreeNode(node_id="n:1"), TreeNode(node_id="n:2")]
    children = {"n:root": ["n:1", "n:2"], "n:1": ["p:b", "p:a", "p:c"], "n:2": ["p:c", "p:d"]}
    return nodes, children


def make(max_children: int = MOST) -> SemanticTree:
    """The small tree."""
    nodes, children = small()
    return SemanticTree.from_nodes(nodes, children, max_children=max_children)


def test_tree_answers_for_shape() -> None:
    """Root, children in order, home first, depth, height, path and levels are those that were given."""
    tree = make()
    assert tree.root_id == "n:root"
    assert tree.children("n:1") == ("p:b", "p:a", "p:c")
    assert tree.parents("p:c") == ("n:2", "n:1")
    assert tree.path_to("p:c") == ("n:root", "n:2", "p:c")
    assert (tree.depth("p:a"), tree.height("n:root"), tree.height("p:a")) == (2, 2, 0)
    assert [sorted(level) for level in tree.levels()][1] == ["n:1", "n:2"]
    assert "p:a" in tree
    assert "p:z" not in tree
    assert len(tree) == 7


def test_leaf_rows_are_distinct_and_follow_the_given_order() -> None:
    """A leaf under two parents counts once; rows are places in leaf_ids."""
    tree = make()
    assert tree.leaf_ids == ("p:a", "p:b", "p:c", "p:d")
    assert tree.leaf_rows("n:root").tolist() == [0, 1, 2, 3]
    assert tree.leaf_rows("n:2").tolist() == [2, 3]
    assert tree.leaf_rows("n:2").dtype == np.int32
    assert tree.leaves("p:b") == ("p:b",)


def test_unknown_node_is_missing_not_empty() -> None:
    """Every question about an unknown node raises IndexMissing."""
    tree = make()
    for ask in (tree.node, tree.children, tree.parents, tree.path_to, tree.leaves, tree.height, tree.is_leaf):
        with pytest.raises(IndexMissing, match="n:nowhere"):
            ask("n:nowhere")


def test_children_must_be_given_as_nodes() -> None:
    """An edge to a node that was not given is a mistake of the builder."""
    with pytest.raises(ValueError, match="p:ghost"):
        SemanticTree.from_nodes([TreeNode(node_id="n:root")], {"n:root": ["p:ghost"]}, max_children=3)


@pytest.mark.parametrize("count", [0, 1])
def test_smallest_trees_are_sound(count: int) -> None:
    """A root alone, and a root with one leaf, break no invariant."""
    leaves = [leaf(str(i)) for i in range(count)]
    nodes = [*leaves, TreeNode(node_id="n:root")]
    tree = SemanticTree.from_nodes(nodes, {"n:root": [node.node_id for node in leaves]}, max_children=2)
    assert tree.check() == []
    assert tree.leaf_rows("n:root").tolist() == list(range(count))
    assert tree.height("n:root") == count


@st.composite
def trees(draw: st.DrawFn) -> SemanticTree:
    """Trees of any shape within the rules, soft membership included."""
    most = draw(st.integers(2, 6))
    level = [f"p:{i}" for i in range(draw(st.integers(0, 60)))]
    nodes = [leaf(node_id[2:]) for node_id in level]
    children: dict[str, list[str]] = {}
    inner: list[str] = []
    while len(level) > most:
        above, left = [], list(level)
        while left:
            size = draw(st.integers(1, most)) if len(above) < len(level) // 2 else most
            node_id = f"n:{len(inner)}"
            children[node_id], left = left[:size], left[size:]
            inner.append(node_id)
            above.append(node_id)
        level = above
    children["n:root"] = level
    groups = [node_id for node_id in inner if children[node_id][0].startswith("p:")]
    for group in groups:
        guest = draw(st.sampled_from(nodes)).node_id
        elsewhere = sum(guest in listed for listed in children.values())
        if len(children[group]) < most and guest not in children[group] and elsewhere < 2:
            children[group].append(guest)
    nodes += [TreeNode(node_id=node_id) for node_id in [*inner, "n:root"]]
    return SemanticTree.from_nodes(nodes, children, max_children=most)


@settings(max_examples=60, deadline=None)
@given(trees())
def test_any_lawful_tree_is_sound(tree: SemanticTree) -> None:
    """check() finds nothing, and every leaf is at the end of its path, below the root, once."""
    assert tree.check() == []
    assert tree.leaf_rows("n:root").tolist() == list(range(len(tree.leaf_ids)))
    for node_id in tree.leaf_ids:
        path = tree.path_to(node_id)
        assert (path[0], path[-1], len(path) - 1) == ("n:root", node_id, tree.depth(node_id))
    for node_id in tree.inner_ids:
        below = {row for child in tree.children(node_id) for row in tree.leaf_rows(child).tolist()}
        assert set(tree.leaf_rows(node_id).tolist()) == below


def change(tree: SemanticTree, node_id: str, **values: object) -> None:
    """Replace fields of a record."""
    tree._nodes[node_id] = replace(tree._nodes[node_id], **values)  # type: ignore[index, arg-type]


def too_many(tree: SemanticTree) -> None:
    """The limit is lower than the tree."""
    tree.max_children = 2


def second_root(tree: SemanticTree) -> None:
    """A group loses its parent."""
    tree.graph.remove_edge("n:root", "n:1")
    change(tree, "n:1", parent_ids=(), depth=0)


def lost_leaf(tree: SemanticTree) -> None:
    """A leaf loses its parent."""
    tree.graph.remove_edge("n:1", "p:a")


def cycle(tree: SemanticTree) -> None:
    """The root hangs under a group."""
    tree.graph.add_edge("n:1", "n:root")


def island(tree: SemanticTree) -> None:
    """A group and its leaf hang under each other alone."""
    tree.graph.remove_edge("n:root", "n:1")
    tree.graph.add_edge("p:a", "n:1")


def mixed(tree: SemanticTree) -> None:
    """The root takes a leaf beside its groups."""
    tree.graph.add_edge("n:root", "p:a")


def third_parent(tree: SemanticTree) -> None:
    """A leaf hangs under three nodes."""
    tree.graph.add_edge("n:root", "p:c")


def inner_twice(tree: SemanticTree) -> None:
    """A group hangs under two nodes."""
    tree.graph.add_edge("n:1", "n:2")


def empty_inner(tree: SemanticTree) -> None:
    """A group loses its children."""
    tree.graph.remove_edges_from([("n:2", "p:c"), ("n:2", "p:d")])


def leaf_with_child(tree: SemanticTree) -> None:
    """A leaf takes a child."""
    tree.graph.add_edge("p:a", "p:b")


def wrong_depth(tree: SemanticTree) -> None:
    """A record names another depth."""
    change(tree, "p:a", depth=7)


def wrong_parent(tree: SemanticTree) -> None:
    """A record names another parent."""
    change(tree, "p:a", parent_ids=("n:2",))


def stray_part(tree: SemanticTree) -> None:
    """A part speaks of another group's leaf."""
    change(tree, "n:1", parts=(Part(child_id="p:d", text="not mine"),))


def doubled_passage(tree: SemanticTree) -> None:
    """Two leaves stand for one passage."""
    change(tree, "p:a", passage_id="b")


def root_depth(tree: SemanticTree) -> None:
    """The root is not at the top."""
    change(tree, "n:root", depth=1)


@pytest.mark.parametrize(
    ("corrupt", "told"),
    [
        (too_many, "n:1 has 3 children; 2 are allowed"),
        (second_root, "2 roots instead of one"),
        (lost_leaf, "leaf hangs under no node: p:a"),
        (cycle, "0 roots instead of one"),
        (cycle, "There is a cycle: "),
        (island, "cannot be reached"),
        (mixed, "n:root has both leaves and inner nodes"),
        (third_parent, "p:c has 3 parents; 2 allowed"),
        (inner_twice, "n:2 has 2 parents; 1 allowed"),
        (empty_inner, "Inner node n:2 has no children"),
        (leaf_with_child, "Leaf p:a has children: p:b"),
        (wrong_depth, "p:a has depth 7 instead of 2"),
        (wrong_parent, "p:a names n:2 as parents, but hangs under n:1"),
        (stray_part, "n:1 has parts on nodes that are not its children: p:d"),
        (doubled_passage, "1 passages have several leaves: b"),
        (root_depth, "Root n:root has depth 1 instead of 0"),
    ],
)
def test_each_broken_invariant_is_found(corrupt: Callable[[SemanticTree], None], told: str) -> None:
    """One corruption at a time, and the sentence that names it; no question about the tree hangs on it."""
    tree = make()
    assert tree.check() == []
    corrupt(tree)
    assert any(told in line for line in tree.check()), tree.check()
    tree.leaf_rows("n:root")
    tree.height("n:root")
    tree.path_to("p:a")
