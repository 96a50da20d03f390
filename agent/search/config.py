"""The dials of a search, each written once, with its unit and its reason.

`SearchConfig()` is ours; `lattice()` and `lattice_paper()` are the published method, from its code and from its paper.
Every part of ours can be switched off by itself: the ablations of the benchmark are these switches and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How a search is run. Scores are in [0, 1]; counts are of slates, nodes or passages."""

    mode: Literal["branchwise", "lattice"] = "branchwise"
    alpha: float = 0.5
    """Weight of the parent in path relevance (the paper's value)."""
    anchors: int = 4
    """Known leaves shown again in a slate of leaves: what ties slates together. More than 5 add nothing (paper)."""
    slate_size: int = 20
    """Candidates in a slate that is not the children of one node."""
    in_flight: int = 2
    """Slates judged at the same time. A slate is chosen on the replies of all but the last `in_flight` - 1 before it,
    whatever has arrived: so the same replies give the same search. More is faster, and decides on less."""
    pool: int = 200
    """Leaves taken from BM25 and from the vectors before the first call."""
    confidence: float = 0.98
    """Stop when no call is expected to add more than (1 - confidence) of what the ranking is worth already, less for a
    noisy judge."""

    calibrate: bool = True
    """Infer latent scores across slates; off: a node's score is the mean of its raw scores."""
    prior: bool = True
    """Let BM25 and vectors speak for what no judge has read, and shrink what one judge said once."""
    seeds: bool = True
    """Put BM25's and the vectors' best leaves before the judge; off: start at the root, knowing nothing."""
    tree: bool = True
    """Open branches; off: rerank the seeds only."""
    rescore: bool = True
    """Judge finalists again, side by side, where their order is in doubt."""
    fuse: bool = True
    """Let BM25 and vectors order what the judge cannot tell apart."""
    stop: bool = True
    """End when it is decided; off: use the whole budget."""

    beam: int = 2
    """LATTICE: nodes expanded in one step (B)."""
    iterations: int = 20
    """LATTICE: steps (N); with B = 2 this is the paper's 39 calls."""
    frontier: Literal["raw", "calibrated"] = "raw"
    """LATTICE: what orders the frontier: raw path scores (the code), calibrated ones (the paper)."""
    cut_off: float = 0.09
    """LATTICE: a score of this or less takes no credit from the parent (the code; the paper has none)."""
    own_weight: float = 0.5
    """LATTICE: weight of a leaf's own score in the final order; 0.75 for sets with exclusions by query (the code)."""
    seed: int = 0
    """LATTICE draws its leaf anchors at random; ours draws nothing."""


def lattice(**changes: object) -> SearchConfig:
    """The published method as its code runs it: 1 + 2 x 19 = 39 calls, raw frontier, 10 leaf anchors."""
    off = dict.fromkeys(("seeds", "prior", "fuse", "rescore", "stop"), False)
    return SearchConfig(**{"mode": "lattice", "anchors": 10, **off, **changes})  # type: ignore[arg-type]


def lattice_paper(**changes: object) -> SearchConfig:
    """The published method as its paper tells it: calibrated frontier, anchors by path relevance, no cut-off."""
    return lattice(**{"frontier": "calibrated", "cut_off": 0.0, **changes})
