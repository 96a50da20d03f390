"""How good a tree is to walk: balance, fan-out, depth, duplicates, lost text, lengths, and how alike siblings are.

Sibling confusability is measured on the leaves: the share of them that lie nearer to a sibling of their cluster than to
their own cluster, vectors against vectors. A judge that sends a reader to the wrong one of two such siblings is not to
blame. 0 is perfect; a tree of random clusters has about 1 - 1 / fan-out. Reads an index, changes nothing. Tested in
tests/tree_builder/test_health.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from branchwise.stores.index import Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Least, median, mean and most of a set of numbers; all 0 for an empty set."""

    least: float = 0.0
    median: float = 0.0
    mean: float = 0.0
    most: float = 0.0

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """The spread of `numbers`."""
        if not len(numbers):
            return cls()
        found = np.asarray(numbers, dtype=np.float64)
        return cls(
            least=float(found.min()), median=float(np.median(found)), mean=float(found.mean()), most=float(found.max())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Two siblings that are hard to tell apart: the cosine of their vectors."""

    first: str
    second: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`level_sizes` counts nodes by depth, the root first; `leaf_depth` leaves by their depth.

    `balance` is the mean, over inner nodes whose children are inner, of the entropy of their children's leaf counts
    divided by its maximum: 1 where all are alike. `duplicates` counts passages merged into another's leaf,
    `second_homes` leaves under two parents, `orphaned_characters` text of documents that stands in no passage (spaces
    left out). `confusable` is the share of leaves nearer to a sibling of their cluster than to it; `confusions` names
    the most similar siblings. `written_by` counts inner nodes.
    """

    leaves: int
    inner: int
    level_sizes: tuple[int, ...]
    leaf_depth: Mapping[int, int]
    fan_out: Spread
    cluster_size: Spread
    balance: float
    single_children: int
    duplicates: int
    second_homes: int
    orphaned_characters: int
    text_length: Spread
    title_length: Spread
    untitled: int
    equal_titles: int
    confusable: float
    confusions: tuple[Confusion, ...]
    written_by: Mapping[str, int]
    faults: tuple[str, ...]


def measure(index: Index) -> Health:
    """The health of an open index; reads every inner node's text and every passage's span."""
    tree = index.tree
    inner = list(tree.inner_ids)
    texts = [
        text for start in range(0, len(inner), 2_000) for text in index.texts(inner[start : start + 2_000]).values()
    ]
    titles = [tree.node(node_id).title for node_id in inner if tree.parents(node_id)]
    children = {node_id: tree.children(node_id) for node_id in inner}
    clusters = [node_id for node_id in inner if children[node_id] and tree.is_leaf(children[node_id][0])]
    upper = [node_id for node_id in inner if children[node_id] and not tree.is_leaf(children[node_id][0])]
    equal = sum(count - 1 for count in Counter(title for title in titles if title).values())
    confusable, confusions = _confusion(index, clusters)
    return Health(
        leaves=len(tree.leaf_ids),
        inner=len(inner),
        level_sizes=tuple(len(level) for level in tree.levels()),
        leaf_depth=dict(sorted(Counter(tree.depth(leaf) for leaf in tree.leaf_ids).items())),
        fan_out=Spread.of([len(below) for below in children.values()]),
        cluster_size=Spread.of([len(children[node_id]) for node_id in clusters]),
        balance=float(np.mean([_evenness(index, children[node_id]) for node_id in upper])) if upper else 1.0,
        single_children=sum(len(below) == 1 for below in children.values()) if len(tree.leaf_ids) > 1 else 0,
        duplicates=index.manifest.counts["passages"] - len(tree.leaf_ids),
        second_homes=sum(len(tree.parents(leaf)) > 1 for leaf in tree.leaf_ids),
        orphaned_characters=_orphaned(index),
        text_length=Spread.of([len(text) for text in texts]),
        title_length=Spread.of([len(title) for title in titles]),
        untitled=sum(not title for title in titles),
        equal_titles=equal,
        confusable=confusable,
        confusions=confusions,
        written_by=dict(Counter(tree.node(node_id).written_by for node_id in inner)),
        faults=tuple(tree.check()),
    )


def _evenness(index: Index, children: Sequence[str]) -> float:
    """Entropy of the children's leaf counts over its maximum, in [0, 1]; 1 for a single child."""
    counts = np.array([len(index.tree.leaf_rows(child)) for child in children], dtype=np.float64)
    shares = counts[counts > 0] / counts.sum()
    if len(counts) < 2:
        return 1.0
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def _confusion(index: Index, clusters: Sequence[str]) -> tuple[float, tuple[Confusion, ...]]:
    """The share of confusable leaves, and the ten most similar pairs of sibling clusters."""
    tree = index.tree
    row_of = {node_id: row for row, node_id in enumerate(tree.inner_ids)}
    families: dict[str, list[str]] = {}
    for cluster in clusters:
        for parent in tree.parents(cluster)[:1]:
            families.setdefault(parent, []).append(cluster)
    wrong = total = 0
    pairs: list[Confusion] = []
    for family in families.values():
        centres = np.asarray(index.inner_matrix[[row_of[cluster] for cluster in family]])
        for place, cluster in enumerate(family):
            rows = [tree.leaf_row[leaf] for leaf in tree.children(cluster) if tree.parents(leaf)[0] == cluster]
            if rows and len(family) > 1:
                likeness = np.asarray(index.leaf_matrix[rows]) @ centres.T
                own = likeness[:, place].copy()
                likeness[:, place] = -np.inf
                wrong += int((likeness.max(axis=1) > own + 1e-6).sum())
            total += len(rows)
        cosines = centres @ centres.T
        for first, second in zip(*np.triu_indices(len(family), 1), strict=True):
            pairs.append(Confusion(first=family[first], second=family[second], cosine=float(cosines[first, second])))
    pairs.sort(key=lambda pair: (-pair.cosine, pair.first, pair.second))
    return (wrong / total if total else 0.0), tuple(pairs[:10])


def _orphaned(index: Index) -> int:
    """Characters of documents, spaces left out, that stand in no passage and in none of its duplicates."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for passage in index.iter_passages():
        spans.setdefault(passage.doc_id, []).append((passage.start, passage.end))
        for origin in passage.duplicates:
            spans.setdefault(origin.doc_id, []).append((origin.start, origin.end))
    lost = 0
    for document in index.iter_documents():
        place = 0
        for start, end in [*sorted(spans.get(document.doc_id, [])), (len(document.text), len(document.text))]:
            if start > place:
                lost += sum(not letter.isspace() for letter in document.text[place:start])
            place = max(place, end)
    return lost
