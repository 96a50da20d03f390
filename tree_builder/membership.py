"""Soft membership: a leaf that fits a second cluster nearly as well as its own hangs under both.

One wrong turn then does not lose it (5 % of the clusters that hold an answer are scored low by a frontier model). The
search shows and counts such a leaf once. Tested in tests/tree_builder/test_membership.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from branchwise.tree_builder.bottom_up import group_centres
from branchwise.tree_builder.cluster import FloatMatrix, FloatVector
from branchwise.tree_builder.outline import ROOT, Outline

NEARLY = 0.97
"""Cosine to the second cluster, as a share of that to the rest of the own one, from which it fits nearly as well."""


def second_homes(outline: Outline, row_of: Mapping[str, int], vectors: FloatMatrix, *, max_children: int) -> Outline:
    """The outline with second parents for the leaves that lie between two clusters, the closest calls first.

    No cluster gets more than `max_children` children, no leaf more than two parents; its home stays its first.
    """
    clusters = [node_id for node_id in outline.below_root() if _holds_leaves(outline, node_id) and node_id != ROOT]
    if len(clusters) < 2:
        return outline
    members = [np.array([row_of[leaf] for leaf in outline.children[node_id]]) for node_id in clusters]
    centres = group_centres(vectors, members)
    calls: list[tuple[float, int, int]] = []
    for place, rows in enumerate(members):
        own_vectors = np.asarray(vectors[rows])
        likeness = own_vectors @ centres.T
        own = _without_itself(own_vectors)
        likeness[:, place] = -np.inf
        second = likeness.argmax(axis=1)
        for row, home, other in zip(rows.tolist(), own.tolist(), second.tolist(), strict=True):
            cosine = float(np.asarray(vectors[row]) @ centres[other])
            if home > 0 and cosine >= NEARLY * home:
                calls.append((home - cosine, row, other))
    homes = {leaf: node_id for node_id in clusters for leaf in outline.children[node_id]}
    children = {node_id: list(below) for node_id, below in outline.children.items()}
    leaf_of = {row: leaf for leaf, row in row_of.items()}
    for _, row, other in sorted(calls):
        if len(children[clusters[other]]) < max_children:
            children[clusters[other]].append(leaf_of[row])
    return Outline({node_id: tuple(below) for node_id, below in children.items()}, outline.written, homes)


def _without_itself(members: FloatMatrix) -> FloatVector:
    """The cosine of each vector to the mean of the others of its cluster, (n,): a leaf must not vouch for itself."""
    others = members.sum(axis=0) - members
    lengths = np.linalg.norm(others, axis=1)
    return np.asarray((members * others).sum(axis=1) / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _holds_leaves(outline: Outline, node_id: str) -> bool:
    below = outline.children[node_id]
    return bool(below) and below[0] not in outline.children
