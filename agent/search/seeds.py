"""What BM25 and the vectors already know, before the first call: the prior of every leaf.

LATTICE starts blind at the root and finds nothing for its first iterations. Here the two cheap legs speak first: their
best leaves can be judged at once, the clusters these leaves lie in are open to the search from the start, and every
later score is weighed against them. Unread leaves keep this prior as their only evidence.

Does not judge and does not call a model. Tested in tests/agent/test_seeds.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from branchwise.stores.index import Index
    from branchwise.stores.tree import SemanticTree

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What the cheap legs say of each leaf, row by row of `tree.leaf_ids`; 1 is the best leaf of the corpus.

    `lexical` and `dense` are in [0, 1], shape (leaves,); `fused` is their mean; `ranked` holds the rows of the best
    leaves, best first. A row that the search must not see has -1 everywhere and is never ranked.
    """

    lexical: Floats
    dense: Floats
    fused: Floats
    ranked: npt.NDArray[np.intp]

    def best_below(self, tree: SemanticTree, node_id: str) -> float:
        """The highest prior beneath a node: what the cheap legs say of a cluster. 0 where all is out of sight."""
        rows = tree.leaf_rows(node_id)
        return max(0.0, float(self.fused[rows].max())) if len(rows) else 0.0


def make_prior(lexical: Floats, dense: Floats, allowed: Mask | None, *, pool: int) -> Prior:
    """Put both legs on one scale and rank the best `pool` leaves of the two together.

    BM25 runs from 0 to the best score; cosine from its mean over the corpus (what an unrelated text has) to its best.
    Rows not `allowed` count for neither and are not ranked.
    """
    sight = np.ones(len(lexical), dtype=np.bool_) if allowed is None else allowed
    words = _unit(lexical, 0.0, sight)
    meaning = _unit(dense, float(dense[sight].mean()) if sight.any() else 0.0, sight)
    fused = np.where(sight, 0.5 * words + 0.5 * meaning, -1.0).astype(np.float32)
    count = min(pool, int(sight.sum()))
    best = np.argpartition(-fused, count - 1)[:count] if 0 < count < len(fused) else np.flatnonzero(sight)
    # Equal scores keep the order of the leaves, so that a search is the same everywhere.
    ranked = best[np.lexsort((best, -fused[best]))]
    return Prior(
        lexical=np.where(sight, words, -1.0).astype(np.float32),
        dense=np.where(sight, meaning, -1.0).astype(np.float32),
        fused=fused,
        ranked=ranked,
    )


def prior_of(index: Index, words: str, vector: Floats, allowed: Mask | None, *, pool: int) -> Prior:
    """The prior of every leaf for a query: `words` for BM25, `vector` (d,) for the vectors."""
    lexical = np.asarray(index.lexical.scores(words), dtype=np.float32)
    dense = np.asarray(index.leaf_matrix @ vector, dtype=np.float32)
    return make_prior(lexical, dense, allowed, pool=pool)


def no_prior(leaves: int, allowed: Mask | None) -> Prior:
    """A prior that says nothing: the walk starts blind, as LATTICE does."""
    blank = np.zeros(leaves, dtype=np.float32)
    fused = blank if allowed is None else np.where(allowed, blank, -1.0).astype(np.float32)
    return Prior(lexical=blank, dense=blank, fused=fused, ranked=np.zeros(0, dtype=np.intp))


def _unit(scores: Floats, low: float, sight: Mask) -> Floats:
    high = float(scores[sight].max()) if sight.any() else 0.0
    if high <= low:
        return np.zeros_like(scores)
    return np.asarray(np.clip((scores - low) / (high - low), 0.0, 1.0), dtype=np.float32)
