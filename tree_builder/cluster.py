"""Similar things into groups of bounded size: spherical bisection, refined by a balanced re-assignment.

Every level of every tree is made here, from unit vectors and weights alone; nothing is known of texts, nodes or models.
Bisection (a set is cut in two along its main direction, then in two again) is what stays fast, deterministic and
bounded at any size; the refinement gives back what greedy cuts lose. Plain k-means leaves sizes from 1 to hundreds,
and its cost grows with the number of groups. Tested in tests/tree_builder/test_cluster.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from branchwise.stores.linear_algebra import one_thread

FloatMatrix = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SAMPLE = 8_192
"""Rows that decide where a larger set is cut; more change the cut by less than its own noise."""
ROUNDS = 6
"""Rounds of 2-means in one cut; later ones move under 1 % of the rows."""
BLOCK = 4_096
"""Rows whose groups are refined together. Larger blocks let a row go farther from where the cuts left it, at a cost
that grows with the square (scifact, mean cosine to the own centroid: .638 without, .667 at 2,048, .679 at 8,192)."""
REFINEMENTS = 3
"""Rounds of refinement; twice as many gain .003."""
CHOICES = 32
"""Groups a row may ask in one refinement before all of the block are sorted for it."""


A = TypeVar("A")
B = TypeVar("B")


class Each(Protocol):
    """Does one thing for each of many, anywhere; results in order."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """`[function(item) for item in items]`, however it is done."""
        ...


def one_by_one(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Here, one after the other."""
    return [function(item) for item in items]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Weight of a group: `least` (wished, not promised), `target`, and `most` (never passed)."""

    least: float
    target: float
    most: float

    @property
    def limit(self) -> float:
        """Weight above which a set is cut: it would make two groups nearer to the target."""
        return min(self.most, 1.5 * self.target)

    @classmethod
    def for_children(cls, max_children: int) -> Sizes:
        """Groups of about 0.6 of `max_children`, with room for later additions.

        Fuller groups mean fewer nodes to write but more leaves to read in the wrong ones (scifact, top 10 of the judge
        found in 5 % of the leaves: .883 at a target of 6, .852 at 9, .813 at 12, .818 at 14).
        """
        target = max(2.0, 0.6 * max_children)
        return cls(least=max(2.0, target / 2), target=target, most=float(max_children))


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a large set that is grouped by itself: vectors (m, d), masses (m,), and how."""

    vectors: FloatMatrix
    mass: FloatVector
    sizes: Sizes
    seed: int
    refined: bool


def group(
    vectors: FloatMatrix, sizes: Sizes, *, seed: int, weights: FloatVector | None = None, each: Each = one_by_one
) -> list[Rows]:
    """Rows of `vectors` (n, d; unit or zero) in groups whose weight never passes `sizes.most`.

    `weights` (n,) are each at most `sizes.most`; None counts every row as 1. Groups come in the order of the cuts, so
    that neighbours in the list are neighbours in space; rows within a group ascend. Deterministic for a seed, and the
    same whoever works: `each` may do the blocks of a large set side by side, or elsewhere. Memory beyond `vectors` is
    bounded by the block and sample sizes and 24 bytes a row.
    """
    if not len(vectors):
        return []
    with one_thread():
        return _group(vectors, sizes, seed, weights, each)


def _group(vectors: FloatMatrix, sizes: Sizes, seed: int, weights: FloatVector | None, each: Each) -> list[Rows]:
    mass = np.ones(len(vectors), dtype=np.float32) if weights is None else weights.astype(np.float32)
    everything = np.arange(len(vectors), dtype=np.int64)
    limit = max(BLOCK, sizes.most)
    blocks = [np.sort(rows) for rows in _cut_until(vectors, mass, everything, sizes, seed, limit=limit, by_count=True)]
    work = (Block(np.asarray(vectors[rows]), mass[rows], sizes, seed, weights is None) for rows in blocks)
    found = each(group_block, work)
    return [rows[members] for rows, groups in zip(blocks, found, strict=True) for members in groups]


def group_block(block: Block) -> list[Rows]:
    """The groups of one block, by its own rows."""
    rows = np.arange(len(block.vectors), dtype=np.int64)
    limit = block.sizes.limit
    with one_thread():
        parts = _cut_until(block.vectors, block.mass, rows, block.sizes, block.seed, limit=limit, by_count=False)
        if block.refined and len(parts) > 1:
            parts = _refine(block.vectors, parts, block.sizes)
    return [np.sort(part) for part in parts]


def _cut_until(
    vectors: FloatMatrix,
    mass: FloatVector,
    start: Rows,
    sizes: Sizes,
    seed: int,
    *,
    limit: float,
    by_count: bool,
) -> list[Rows]:
    """Cut `start` in two until each is within `limit`; left before right, without recursion (depth is no concern)."""
    done: list[Rows] = []
    todo = [start]
    while todo:
        rows = todo.pop()
        size = len(rows) if by_count else float(mass[rows].sum())
        if size <= limit or len(rows) < 2:
            done.append(rows)
            continue
        left, right = _cut(vectors, mass, rows, sizes, seed)
        todo += [right, left]
    return done


def _cut(vectors: FloatMatrix, mass: FloatVector, rows: Rows, sizes: Sizes, seed: int) -> tuple[Rows, Rows]:
    """Two sets by spherical 2-means, the cut moved as little as needed for both to be made of well-filled groups."""
    rng = np.random.default_rng((seed, len(rows), int(rows[0])))
    sample = rows if len(rows) <= SAMPLE else np.sort(rng.choice(rows, SAMPLE, replace=False))
    axis = _axis(vectors[sample], mass[sample], rng)
    margin = np.concatenate([vectors[part] @ axis for part in _slices(rows)])
    order = np.lexsort((rows, -margin))  # equal margins (duplicates) keep the order of the rows
    reach = np.cumsum(mass[rows[order]], dtype=np.float64)
    total = float(reach[-1])
    natural = float(reach[np.searchsorted(-margin[order], 0.0, side="left") - 1]) if margin[order[0]] > 0 else 0.0
    wished = _wished_cut(natural, total, sizes)
    position = int(np.clip(np.searchsorted(reach, wished, side="left") + 1, 1, len(rows) - 1))
    if position > 1 and abs(reach[position - 2] - wished) < abs(reach[position - 1] - wished):
        position -= 1
    return rows[np.sort(order[:position])], rows[np.sort(order[position:])]


def _wished_cut(natural: float, total: float, sizes: Sizes) -> float:
    """The weight left of the cut that is nearest to `natural` and lets both sides be cut into well-filled groups."""
    count = max(2, round(total / sizes.target), int(np.ceil(total / sizes.most)))
    clipped = float(np.clip(natural, total / 4, total * 3 / 4))
    left = int(np.clip(round(clipped / total * count), 1, count - 1))
    low = max(left * sizes.least, total - (count - left) * sizes.most)
    high = min(left * sizes.most, total - (count - left) * sizes.least)
    return float(np.clip(clipped, low, high)) if low <= high else total * left / count


def _axis(sample: FloatMatrix, mass: FloatVector, rng: np.random.Generator) -> FloatVector:
    """The direction whose sign tells the two halves apart: main direction first, then rounds of spherical 2-means."""
    centre = np.asarray(np.average(sample, axis=0, weights=mass), dtype=np.float32)
    axis: FloatVector = np.asarray(rng.standard_normal(sample.shape[1]), dtype=np.float32)
    for _ in range(4):
        along = (sample @ axis - centre @ axis) * mass
        axis = unit(along @ sample - along.sum() * centre)
    margin = sample @ axis - centre @ axis
    for _ in range(ROUNDS):
        left = margin > 0
        if left.all() or not left.any():
            break
        axis = unit(mass[left] @ sample[left]) - unit(mass[~left] @ sample[~left])
        margin = sample @ axis
    return axis


def _refine(vectors: FloatMatrix, parts: list[Rows], sizes: Sizes) -> list[Rows]:
    """Balanced k-means from the cuts on: rows to the most similar group with room; groups left too small dissolve."""
    rows = np.sort(np.concatenate(parts))
    block = np.asarray(vectors[rows])
    labels = np.empty(len(rows), dtype=np.int64)
    for label, part in enumerate(parts):
        labels[np.searchsorted(rows, part)] = label
    centres = centroids(block, labels, len(parts))
    room = max(int(sizes.limit), max(map(len, parts)))
    for _ in range(REFINEMENTS):
        labels = balanced_assignment(block @ centres.T, room)
        centres = centroids(block, labels, len(parts))
    counts = np.bincount(labels, minlength=len(parts))
    kept = np.flatnonzero(counts >= sizes.least / 2)
    if 0 < len(kept) < len(parts) and len(kept) * room >= len(rows):
        labels = kept[balanced_assignment(block @ centres[kept].T, room)]
    found = (rows[labels == label] for label in range(len(parts)))
    return [group for group in found if len(group)]


def balanced_assignment(likeness: FloatMatrix, room: int) -> npt.NDArray[np.int64]:
    """For every row the column it is assigned to, at most `room` rows a column: a stable assignment.

    `likeness` is (n, k) with n <= k * room. Rows propose to columns from best to worst, a full column keeps its best;
    ties go to the lower row (Gale and Shapley 1962: no row and column would both rather have each other).
    """
    n, k = likeness.shape
    choices = min(CHOICES, k)
    if choices < k:
        nearest = np.sort(np.argpartition(-likeness, choices - 1, axis=1)[:, :choices], axis=1)
        order = np.argsort(-np.take_along_axis(likeness, nearest, axis=1), axis=1, kind="stable")
        wishes = np.take_along_axis(nearest, order, axis=1)
    else:
        wishes = np.argsort(-likeness, axis=1, kind="stable")
    later: dict[int, npt.NDArray[np.int64]] = {}
    turn = np.zeros(n, dtype=np.int64)
    home = np.full(n, -1, dtype=np.int64)
    free = np.arange(n)
    while len(free):
        early = free[turn[free] < choices]
        home[early] = wishes[early, turn[early]]
        for row in free[turn[free] >= choices]:  # few: all of the row's best choices were full
            if row not in later:
                later[row] = np.setdiff1d(np.arange(k), wishes[row])
                later[row] = later[row][np.argsort(-likeness[row, later[row]], kind="stable")]
            home[row] = later[row][turn[row] - choices]
        turn[free] += 1
        order = np.lexsort((np.arange(n), -likeness[np.arange(n), home], home))
        starts = np.searchsorted(home[order], np.arange(k))
        rank = np.arange(n) - starts[home[order]]
        free = np.sort(order[rank >= room])
    return home


def centroids(vectors: FloatMatrix, labels: npt.NDArray[np.int64], count: int) -> FloatMatrix:
    """The unit mean of the vectors of each label, (count, d); zero where a label has only zero vectors, or none."""
    order = np.argsort(labels, kind="stable")
    means = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    bounds = np.searchsorted(labels[order], np.arange(count + 1))
    for label in range(count):
        if bounds[label] < bounds[label + 1]:
            means[label] = unit(np.asarray(vectors[order[bounds[label] : bounds[label + 1]]]).sum(axis=0))
    return means


def unit(vector: FloatVector) -> FloatVector:
    """The vector at length 1; a zero vector stays zero."""
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 0 else vector).astype(np.float32)


def _slices(rows: Rows, length: int = 65_536) -> list[Rows]:
    return [rows[start : start + length] for start in range(0, len(rows), length)]
