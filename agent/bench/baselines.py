"""The rivals, written out: what ours has to beat with the same judge, the same slates and the same budget.

Each takes what the cheap legs say and a purse, and returns leaves with scores, best first; when the purse is empty it
returns what it has. Tested in tests/bench/test_methods.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from branchwise.agent.bench.spend import Purse
from branchwise.agent.bench.testbed import DEPTH, Bench, Floats, Legs
from branchwise.stores.errors import BudgetSpent
from branchwise.stores.records import Slate

Leaves = list[tuple[str, float]]
Walk = Callable[[Bench, Legs, Purse], Awaitable[Leaves]]

WINDOW, STRIDE = 20, 10
"""Listwise reranking as RankGPT does it (arXiv:2304.09542)."""
UNLIMITED_CALLS = 40
"""Calls a reranker plans for when no number is set: LATTICE's own budget, rounded."""
SETWISE_DEPTH, SETWISE_KEPT = 100, 10
ALPHA = 0.5


async def sliding_window(bench: Bench, legs: Legs, purse: Purse) -> Leaves:
    """Slide a window from the end of the hybrid ranking to its top, sorting each window by the judge's scores.

    As deep as the calls allow: depth = window + (calls - 1) * stride. A candidate without a score keeps its place.
    """
    order = _ids(bench, legs.order(legs.fused(), max(DEPTH, WINDOW + (_calls(purse) - 1) * STRIDE)))
    depth = min(len(order), WINDOW + (_calls(purse) - 1) * STRIDE)
    start = max(0, depth - WINDOW)
    try:
        while _calls(purse) > 0:
            window = order[start : start + WINDOW]
            scores = await purse.ask(Slate(parent=None, candidate_ids=tuple(window), kind="leaf"))
            order[start : start + WINDOW] = _sorted_in_place(window, scores)
            if start == 0:
                break
            start = max(0, start - STRIDE)
    except BudgetSpent:
        pass
    return _by_place(order)


async def slates_fused(bench: Bench, legs: Legs, purse: Purse) -> Leaves:
    """Judge the hybrid's best once each, in disjoint slates, and fuse: .6 judge, .4 hybrid, both 0..1.

    What was not judged keeps its hybrid score and stands below what was.
    """
    hybrid = legs.scaled(legs.fused())
    rows = legs.order(hybrid, max(DEPTH, _calls(purse) * WINDOW))
    judged: dict[int, float] = {}
    try:
        for start in range(0, min(len(rows), _calls(purse) * WINDOW), WINDOW):
            slate = rows[start : start + WINDOW]
            scores = await purse.ask(Slate(parent=None, candidate_ids=tuple(_ids(bench, slate)), kind="leaf"))
            judged |= {int(row): score for row in slate if (score := scores[bench.tree.leaf_ids[row]]) is not None}
    except BudgetSpent:
        pass
    fused = {int(row): 0.6 * judged.get(int(row), 0.0) + 0.4 * float(hybrid[row]) for row in rows}
    best = sorted(fused.items(), key=lambda pair: (pair[0] not in judged, -pair[1]))
    return _by_place(_ids(bench, [row for row, _ in best]))


async def setwise(bench: Bench, legs: Legs, purse: Purse) -> Leaves:
    """Setwise heapsort (arXiv:2310.09497): each call names the best of a parent and its children in a wide heap.

    The heap is built from the bottom over the hybrid's best 100 and popped ten times; the rest keeps its order.
    """
    order = _ids(bench, legs.order(legs.fused(), DEPTH))
    heap, rest = order[:SETWISE_DEPTH], order[SETWISE_DEPTH:]
    place = {leaf: rank for rank, leaf in enumerate(order)}
    width = WINDOW - 1
    top: list[str] = []

    async def sift(at: int) -> None:
        while (first := at * width + 1) < len(heap):
            family = [at, *range(first, min(first + width, len(heap)))]
            scores = await purse.ask(Slate(parent=None, candidate_ids=tuple(heap[i] for i in family), kind="leaf"))
            best = max(family, key=lambda i: (_or_lowest(scores[heap[i]]), -place[heap[i]]))
            if best == at:
                return
            heap[at], heap[best] = heap[best], heap[at]
            at = best

    try:
        for at in range((len(heap) - 2) // width, -1, -1):
            await sift(at)
        while heap and len(top) < SETWISE_KEPT:
            top.append(heap[0])
            last = heap.pop()
            if heap:
                heap[0] = last
                await sift(0)
    except BudgetSpent:
        pass
    left = sorted(set(heap) - set(top), key=place.__getitem__)
    if heap and len(top) < SETWISE_KEPT:
        left.sort(key=lambda leaf: leaf != heap[0])
    return _by_place([*top, *left, *rest])


async def best_first(bench: Bench, legs: Legs, purse: Purse) -> Leaves:
    """Open the node with the best raw path relevance, one a call, from the root; leaves rank by path relevance.

    No seeds, no anchors, no calibration, no fusion: the walk itself and nothing else.
    """
    tree = bench.tree
    found: dict[str, float] = {}
    if tree.root_id is None:
        return []
    frontier: list[tuple[float, int, str]] = [(-1.0, 0, tree.root_id)]
    issued = 0
    allowed = legs.allowed
    try:
        while frontier:
            path, _, node = heapq.heappop(frontier)
            children = [child for child in tree.children(node) if allowed[tree.leaf_rows(child)].any()]
            for slate in _homogeneous(bench, node, children):
                scores = await purse.ask(slate)
                for child in slate.candidate_ids:
                    relevance = ALPHA * -path + (1 - ALPHA) * (scores[child] or 0.0)
                    if slate.kind == "leaf":
                        found[child] = max(found.get(child, 0.0), relevance)
                    else:
                        issued += 1
                        heapq.heappush(frontier, (-relevance, issued, child))
    except BudgetSpent:
        pass
    else:
        purse.stopped = "exhausted"
    return sorted(found.items(), key=lambda pair: -pair[1])[:DEPTH]


async def collapsed_tree(bench: Bench, legs: Legs, purse: Purse) -> Leaves:
    """RAPTOR's collapsed tree (arXiv:2401.18059): all nodes compete by cosine; a summary speaks for its passages.

    A leaf scores the higher of its own cosine and its parents' summary's, its own deciding among equals. No call.
    """
    index, tree = bench.index, bench.tree
    vector = index.embedder.embed_query(purse.question.text)
    inner = np.asarray(index.inner_matrix @ vector, dtype=np.float64)
    score = legs.dense.copy()
    for row, node in enumerate(tree.inner_ids):
        if tree.height(node) == 1:
            below = tree.leaf_rows(node)
            score[below] = np.maximum(score[below], inner[row])
    score += 1e-3 * legs.dense
    return _scored(bench, score, legs)


def _homogeneous(bench: Bench, parent: str, children: Sequence[str]) -> list[Slate]:
    """Children as slates of leaves or of inner nodes; most parents make one."""
    leaves = tuple(child for child in children if bench.tree.is_leaf(child))
    inner = tuple(child for child in children if not bench.tree.is_leaf(child))
    slates = [
        Slate(parent=parent, candidate_ids=inner, kind="inner"),
        Slate(parent=parent, candidate_ids=leaves, kind="leaf"),
    ]
    return [slate for slate in slates if slate.candidate_ids]


def _sorted_in_place(window: Sequence[str], scores: dict[str, float | None]) -> list[str]:
    """The window by falling score; who has none stays where it stood, and equals keep their order."""
    scored = iter(
        sorted((leaf for leaf in window if scores[leaf] is not None), key=lambda leaf: -(scores[leaf] or 0.0))
    )
    return [leaf if scores[leaf] is None else next(scored) for leaf in window]


def _calls(purse: Purse) -> int:
    left = purse.calls_left
    return UNLIMITED_CALLS if left is None else left


def _or_lowest(score: float | None) -> float:
    return -1.0 if score is None else score


def _ids(bench: Bench, rows: Sequence[int] | np.ndarray) -> list[str]:
    return [bench.tree.leaf_ids[row] for row in rows]


def _by_place(order: Sequence[str]) -> Leaves:
    return [(leaf, 1.0 / (place + 1)) for place, leaf in enumerate(order)]


def _scored(bench: Bench, score: Floats, legs: Legs) -> Leaves:
    return [(bench.tree.leaf_ids[row], float(score[row])) for row in legs.order(score, DEPTH)]
