"""Bottom-up shapes of every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.tree_builder.bottom_up import bottom_up, document_runs, leaf_clusters, mend
from branchwise.tree_builder.outline import ROOT, Outline


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((count, 12)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if count else rows


def assert_sound(outline: Outline, leaves: list[str], max_children: int) -> None:
    """Every leaf once, fan-out kept, no chains, children of a kind, all leaves at one depth."""
    seen = [child for below in outline.children.values() for child in below if child not in outline.children]
    assert sorted(seen) == sorted(leaves)
    for node_id, below in outline.children.items():
        assert len(below) <= max_children
        assert len(below) >= 2 or node_id == ROOT
        assert len({child in outline.children for child in below}) <= 1
    depths: set[int] = set()
    todo = [(ROOT, 0)]
    while todo:
        node_id, depth = todo.pop()
        if node_id in outline.children:
            todo += [(child, depth + 1) for child in outline.children[node_id]]
        else:
            depths.add(depth)
    assert len(depths) <= 1


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 18, 31, 33, 256, 257, 300, 1_000])
def test_every_size_builds_a_sound_tree(count: int) -> None:
    """0, 1, 2, M, M + 1, M squared and more: each passage is one leaf, and no node has too many children or one."""
    leaves = [f"p:{number}" for number in range(count)]
    outline = bottom_up(leaves, vectors_of(count), leaves, max_children=16, seed=0)
    assert_sound(outline, leaves, 16)
    assert (len(outline.children) == 1) == (count <= 16)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    max_children=st.integers(4, 20),
    seed=st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_documents_of_any_length_build_a_sound_tree(lengths: list[int], max_children: int, seed: int) -> None:
    """Whatever the documents' lengths, the tree is sound."""
    documents = [f"doc-{number}" for number, length in enumerate(lengths) for _ in range(length)]
    leaves = [f"p:{number}" for number in range(len(documents))]
    outline = bottom_up(leaves, vectors_of(len(leaves), seed), documents, max_children=max_children, seed=seed)
    assert_sound(outline, leaves, max_children)


def test_a_long_document_is_cut_by_position() -> None:
    """Passages of one giant document stand in clusters of neighbours, in order."""
    clusters = leaf_clusters(vectors_of(100), ["giant"] * 100, max_children=16, seed=0)
    assert [row for rows in clusters for row in rows.tolist()] == list(range(100))
    assert max(map(len, clusters)) - min(map(len, clusters)) <= 1


def test_passages_of_a_document_stay_together() -> None:
    """A document of several passages that fits under one node is one cluster, or a part of one."""
    documents = [f"doc-{number // 6}" for number in range(120)]
    clusters = leaf_clusters(vectors_of(120), documents, max_children=16, seed=0)
    home = {row: place for place, rows in enumerate(clusters) for row in rows.tolist()}
    assert all(len({home[row] for row in range(start, start + 6)}) == 1 for start in range(0, 120, 6))


def test_runs_of_a_document_are_even() -> None:
    """17 passages under nodes of 16 are 9 and 8, not 16 and 1."""
    assert [len(run) for run in document_runs(["a"] * 17 + ["b"], 16)] == [9, 8, 1]


def test_a_lone_row_finds_company_in_full_groups() -> None:
    """A group of one takes a row over from a full neighbour rather than stay alone."""
    groups = mend(vectors_of(9), [np.arange(8), np.array([8])], 8)
    assert sorted(map(len, groups)) == [2, 7]


def test_the_same_vectors_give_the_same_ids() -> None:
    """Shapes and ids depend on nothing but input and seed."""
    leaves = [f"p:{number}" for number in range(200)]
    first, second = (bottom_up(leaves, vectors_of(200), leaves, max_children=10, seed=4) for _ in range(2))
    assert dict(first.children) == dict(second.children)


def test_no_level_is_a_staircase() -> None:
    """Levels above the clusters have alike fan-outs, and the root is no bottleneck of two or three."""
    leaves = [f"p:{number}" for number in range(5_000)]
    outline = bottom_up(leaves, vectors_of(5_000), leaves, max_children=16, seed=0)
    assert 5 <= len(outline.children[ROOT]) <= 16
