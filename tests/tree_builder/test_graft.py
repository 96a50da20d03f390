"""Leaves in and out of a tree, in any order: the tree stays sound."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from branchwise.tree_builder.bottom_up import bottom_up
from branchwise.tree_builder.graft import Graft
from branchwise.tree_builder.outline import ROOT, Outline

SPACE = 400
VECTORS = np.random.default_rng(0).standard_normal((SPACE, 6)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
ROWS = {f"p:{number}": number for number in range(SPACE)}


def faults(outline: Outline, leaves: set[str], max_children: int) -> list[str]:
    """What is wrong with a tree."""
    found = []
    stands = [child for below in outline.children.values() for child in below]
    if sorted(child for child in stands if child not in outline.children) != sorted(leaves):
        found.append("leaves are lost, doubled or invented")
    if len(stands) != len(set(stands)) or set(outline.children) - set(stands) != {ROOT}:
        found.append("a node is under no parent, or under two")
    for node_id, below in outline.children.items():
        if len(below) > max_children:
            found.append(f"{node_id} has {len(below)} children")
        if len(below) < 2 and node_id != ROOT:
            found.append(f"{node_id} has {len(below)} child")
        if len({child in outline.children for child in below}) > 1:
            found.append(f"{node_id} has leaves and nodes for children")
    return found


class LivingTree(RuleBasedStateMachine):
    """Batches of leaves come and go."""

    @initialize(count=st.integers(0, 120), max_children=st.integers(4, 12))
    def build(self, count: int, max_children: int) -> None:
        """A tree to begin with."""
        self.max_children = max_children
        self.leaves = {f"p:{number}" for number in range(count)}
        ordered = sorted(self.leaves, key=ROWS.__getitem__)
        rows = VECTORS[[ROWS[leaf] for leaf in ordered]] if ordered else VECTORS[:0]
        self.outline = bottom_up(ordered, rows, ordered, max_children=max_children, seed=0)
        self.round = 0

    def graft(self) -> Graft:
        """The tree, open for change."""
        self.round += 1
        return Graft(
            self.outline.children, VECTORS, ROWS, {}, max_children=self.max_children, seed=0, salt=str(self.round)
        )

    @rule(picks=st.sets(st.integers(0, SPACE - 1), max_size=60), together=st.booleans())
    def come(self, picks: set[int], together: bool) -> None:
        """New leaves, one by one or as a cluster of their own."""
        graft = self.graft()
        new = [f"p:{number}" for number in sorted(picks) if f"p:{number}" not in self.leaves]
        if together and 2 <= len(new) <= self.max_children:
            graft.insert_cluster(new, graft.clusters()[0])
        else:
            for leaf in new:
                clusters = graft.clusters()
                graft.insert(leaf, clusters[ROWS[leaf] % len(clusters)])
        self.leaves |= set(new)
        self.outline = graft.settle()

    @rule(share=st.floats(0, 1), seed=st.integers(0, 99))
    def go(self, share: float, seed: int) -> None:
        """Some leaves, or all, leave."""
        graft = self.graft()
        rng = np.random.default_rng(seed)
        gone = {leaf for leaf in sorted(self.leaves) if rng.random() < share}
        for leaf in sorted(gone):
            graft.remove(leaf)
        self.leaves -= gone
        self.outline = graft.settle()

    @invariant()
    def sound(self) -> None:
        """Every leaf once, no node of one child or of too many, children of a kind."""
        if hasattr(self, "outline"):
            assert faults(self.outline, self.leaves, self.max_children) == []


TestLivingTree = LivingTree.TestCase
TestLivingTree.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


def test_untouched_nodes_keep_their_ids() -> None:
    """One leaf more changes one cluster, and no id besides."""
    leaves = [f"p:{number}" for number in range(200)]
    before = bottom_up(leaves, VECTORS[:200], leaves, max_children=10, seed=0)
    graft = Graft(before.children, VECTORS, ROWS, {}, max_children=10, seed=0, salt="x")
    smallest = min(graft.clusters(), key=lambda node_id: len(graft.children[node_id]))
    graft.insert("p:300", smallest)
    after = graft.settle()
    assert after.children.keys() == before.children.keys()
    assert [n for n in before.children if before.children[n] != after.children[n]] == [smallest]
    assert graft.made == set()


def test_a_full_cluster_is_split_beside_itself() -> None:
    """The M + 1st leaf makes two clusters of one; the larger keeps the id."""
    leaves = [f"p:{number}" for number in range(200)]
    before = bottom_up(leaves, VECTORS[:200], leaves, max_children=10, seed=0)
    graft = Graft(before.children, VECTORS, ROWS, {}, max_children=10, seed=0, salt="x")
    cluster = graft.clusters()[0]
    for number in range(300, 300 + 11 - len(before.children[cluster])):
        graft.insert(f"p:{number}", cluster)
    after = graft.settle()
    made = graft.made - before.children.keys()
    assert len(made) == 1
    assert cluster in graft.made
    assert len(after.children[cluster]) >= len(after.children[made.pop()])
