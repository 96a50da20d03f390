"""Where gold was lost, and whether a judge's scores mean what they say.

Fates of a relevant document, of one search: found (within the cutoff), ranked low (read and scored .5 or more, yet
below the cutoff), judged low (read and scored under .5), never read (no judge saw it: how far down its path the search
had come is said by `level`). Knows no method. Tested in tests/bench/test_diagnose.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from branchwise.stores.records import Judgement

if TYPE_CHECKING:
    from branchwise.stores.tree import SemanticTree

Fate = Literal["found", "ranked low", "judged low", "never read"]
FATES: tuple[Fate, ...] = get_args(Fate)
CUTOFF = 10
LOW = 0.5
BINS = 11
"""Bins of a reliability table: scores rounded to tenths."""

Table = list[list[int]]
"""BINS rows of [how many candidates got this score, how many of them were relevant]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What became of one relevant document. `score` is the judge's last word on it, or on the last node of its path
    that was judged; `level` is that node's depth (0: nothing on the path was judged)."""

    document: str
    fate: Fate
    level: int
    score: float | None


def fates(
    tree: SemanticTree,
    judgements: Sequence[Judgement],
    ranking: Sequence[str],
    gold_leaves: Mapping[str, Sequence[str]],
) -> list[Loss]:
    """The fate of each relevant document: `gold_leaves` by document, `ranking` of documents, best first."""
    last = last_scores(judgements)
    top = set(ranking[:CUTOFF])
    losses = []
    for document, leaves in gold_leaves.items():
        read = [leaf for leaf in leaves if last.get(leaf) is not None]
        level, score = max((_reached(tree, leaf, last) for leaf in leaves), key=lambda pair: pair[0], default=(0, None))
        if read:
            score = max(last[leaf] or 0.0 for leaf in read)
        fate: Fate = "never read"
        if document in top:
            fate = "found"
        elif read:
            fate = "judged low" if (score or 0.0) < LOW else "ranked low"
        losses.append(Loss(document=document, fate=fate, level=level, score=score))
    return losses


def last_scores(judgements: Iterable[Judgement]) -> dict[str, float | None]:
    """The last score that each node was given."""
    last: dict[str, float | None] = {}
    for judgement in judgements:
        last.update({node: score for node, score in judgement.scores.items() if score is not None})
    return last


def first_read(judgements: Sequence[Judgement], gold: Iterable[str]) -> int | None:
    """Number of the first slate, from 1, with a leaf of `gold` among its candidates; None where there is none."""
    relevant = set(gold)
    numbered = enumerate(judgements, start=1)
    return next((number for number, j in numbered if relevant.intersection(j.slate.candidate_ids)), None)


def reliability(tree: SemanticTree, judgements: Iterable[Judgement], gold: Iterable[str]) -> dict[str, Table]:
    """How often a score meant gold: for leaves that they are gold, for inner nodes that gold lies beneath."""
    relevant = set(gold)
    above = {node for leaf in relevant for parent in tree.parents(leaf) for node in tree.path_to(parent)}
    tables: dict[str, Table] = {
        "inner": [[0, 0] for _ in range(BINS)],
        "leaf": [[0, 0] for _ in range(BINS)],
    }
    for judgement in judgements:
        kind = judgement.slate.kind
        for node, score in judgement.scores.items():
            if score is not None:
                row = tables[kind][round(score * (BINS - 1))]
                row[0] += 1
                row[1] += node in (relevant if kind == "leaf" else above)
    return tables


def _reached(tree: SemanticTree, leaf: str, last: Mapping[str, float | None]) -> tuple[int, float | None]:
    """Depth and score of the deepest judged node on a leaf's way, itself included."""
    reached: tuple[int, float | None] = (0, None)
    for parent in tree.parents(leaf):
        for node in (*tree.path_to(parent), leaf):
            if node in last and tree.depth(node) >= reached[0]:
                reached = (tree.depth(node), last[node])
    return reached
