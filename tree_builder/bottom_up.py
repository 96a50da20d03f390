"""LATTICE's bottom-up tree: passages into clusters, clusters into clusters, until one node holds all.

Where documents have several passages, the first clusters are the passages of one document, cut by position where they
are more than M; short documents share a cluster with similar ones. Shapes come from vectors alone and never from what
a model writes: a model that fails, or a budget that ends, changes texts but no tree. Knows no texts. Tested in
tests/tree_builder/test_bottom_up.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from branchwise.tree_builder.cluster import Each, FloatMatrix, Rows, Sizes, group, one_by_one, unit
from branchwise.tree_builder.outline import ROOT, Outline, inner_id


def bottom_up(
    leaf_ids: Sequence[str],
    vectors: FloatMatrix,
    documents: Sequence[str],
    *,
    max_children: int,
    seed: int,
    each: Each = one_by_one,
) -> Outline:
    """The tree over leaves whose rows of `vectors` (n, d) are unit or zero and whose documents are `documents` (n).

    Rows are in the order of the documents' text. Every leaf stands at the same depth; no node has more than
    `max_children` children, none but the root fewer than two.
    """
    if len(leaf_ids) <= max_children:
        return Outline({ROOT: tuple(leaf_ids)})
    clusters = leaf_clusters(vectors, documents, max_children=max_children, seed=seed, each=each)
    children = {inner_id(below): below for below in ([leaf_ids[row] for row in rows] for rows in clusters)}
    centres = group_centres(vectors, clusters)
    return Outline(stack({node: tuple(below) for node, below in children.items()}, centres, max_children, seed))


def stack(
    clusters: Mapping[str, tuple[str, ...]], centres: FloatMatrix, max_children: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Levels above `clusters` (their `centres` in the same order) up to the root, of even fan-out at every level."""
    children = dict(clusters)
    layer = list(clusters)
    while len(layer) > max_children:
        groups = mend(centres, group(centres, even_sizes(len(layer), max_children), seed=seed), max_children)
        centres = group_centres(centres, groups)
        layer = [_add(children, [layer[row] for row in rows]) for rows in groups]
    children[ROOT] = tuple(layer)
    return children


def even_sizes(count: int, max_children: int) -> Sizes:
    """Sizes with which `count` nodes come under one root in as few levels as `max_children` allows, all alike.

    Filling each level to the brim instead would end in a root with two or three children, which tells a judge little.
    """
    levels = 2
    while (count / max_children**levels) > 0.85:
        levels += 1
    fan_out = max(2.0, count ** (1 / levels))
    return Sizes(least=max(2.0, fan_out / 2), target=fan_out, most=float(max_children))


def leaf_clusters(
    vectors: FloatMatrix, documents: Sequence[str], *, max_children: int, seed: int, each: Each = one_by_one
) -> list[Rows]:
    """Rows of the leaves in clusters of at most `max_children`: by document where documents have several passages."""
    sizes = Sizes.for_children(max_children)
    runs = document_runs(documents, max_children)
    if len(runs) == len(documents):
        return mend(vectors, group(vectors, sizes, seed=seed, each=each), max_children)
    full = [run for run in runs if len(run) >= sizes.least]
    short = [run for run in runs if len(run) < sizes.least]
    if short:
        weights = np.array([len(run) for run in short], dtype=np.float32)
        joined = group(group_centres(vectors, short), sizes, seed=seed, weights=weights, each=each)
        full += [np.concatenate([short[place] for place in places]) for places in joined]
    return mend(vectors, sorted(full, key=lambda rows: int(rows[0])), max_children)


def document_runs(documents: Sequence[str], max_children: int) -> list[Rows]:
    """Rows of each document, in order; those of a long one cut by position into runs of equal length."""
    rows: dict[str, list[int]] = {}
    for row, document in enumerate(documents):
        rows.setdefault(document, []).append(row)
    runs: list[Rows] = []
    for members in rows.values():
        runs += np.array_split(np.array(members, dtype=np.int64), -(-len(members) // max_children))
    return runs


def mend(vectors: FloatMatrix, groups: Sequence[Rows], max_children: int) -> list[Rows]:
    """No group of one: it joins the most similar group, or takes over that group's most similar row if it is full."""
    lone = [place for place, rows in enumerate(groups) if len(rows) == 1]
    if not lone or len(groups) == 1:
        return list(groups)
    mended = [list(map(int, rows)) for rows in groups]
    centres = group_centres(vectors, groups)
    for place in lone:
        if len(mended[place]) != 1:  # another lone row joined it meanwhile
            continue
        row = mended[place][0]
        for other in np.argsort(-(centres @ vectors[row]), kind="stable").tolist():
            if other == place or not mended[other]:
                continue
            if len(mended[other]) < max_children:
                mended[other].append(row)
                mended[place] = []
                break
            if len(mended[other]) > 2:
                nearest = max(mended[other], key=lambda near: (float(vectors[near] @ vectors[row]), -near))
                mended[other].remove(nearest)
                mended[place].append(nearest)
                break
    return [np.array(sorted(rows), dtype=np.int64) for rows in mended if rows]


def group_centres(vectors: FloatMatrix, groups: Sequence[Rows]) -> FloatMatrix:
    """The unit mean of each group's vectors, (len(groups), d)."""
    centres = np.zeros((len(groups), vectors.shape[1]), dtype=np.float32)
    for place, rows in enumerate(groups):
        centres[place] = unit(np.asarray(vectors[rows]).sum(axis=0))
    return centres


def _add(children: dict[str, tuple[str, ...]], below: Sequence[str]) -> str:
    node_id = inner_id(below)
    children[node_id] = tuple(below)
    return node_id
