"""The final order: what the judge said, what the path says, what BM25 and the vectors say, as one score a leaf.

The path counts half, as in the paper, where the judge is trusted: its view of the branches above is made of other
calls, and so of other errors, than its view of the leaf. A seed's branch may not have been judged; then it counts what
is expected of it, for nothing heard is no praise.

A judged leaf's latent score is a posterior: its prior was made of the cheap legs and the path (agent.search.belief),
and the noisier the judge has proved to be, the more of that prior is left. But repeats show only the noise that comes
fresh with every reply; a weak judge also errs the same way every time. Two things that the search has measured tell how
far to trust it: its noise, and whether it can say no: a judge that finds everything half relevant has found nothing. So
BM25 and the vectors get a share of the final score that grows with both (`legs_share`): next to nothing against a judge
that is steady and picks a few, half of it and more against one that is neither. Tested in tests/agent/test_fuse.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from branchwise.agent.search.calibrate import Floats
from branchwise.agent.search.state import SearchState

NOISE_AT_HALF = 0.05
"""Noise at which an indiscriminate judge is trusted as much as the cheap legs."""
TOP = 40
"""Best scores that are looked at."""
CROWD = 25.0
CROWDED = 0.35
"""So many leaves scored alike high, or this share of all that were read, and the judge is taken to be
indiscriminate."""
ENOUGH = 30
"""Leaves to have read before their share counts in full: the first slate is all of one topic with any judge."""
MOST = 0.95
"""A judge is never ignored altogether."""
UNREAD = 0.8
"""An unread leaf counts this much of what is expected of it: what was read comes first among equals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A leaf in its place: `score` in [0, 1] orders; `judged` where a judge has read it."""

    node_id: str
    score: float
    judged: bool


def rank(state: SearchState, *, limit: int) -> list[Ranked]:
    """The best `limit` leaves of all that were read or are known to the cheap legs, best first; ties by row."""
    judged = list(state.judged_leaves())
    unread, expected = state.unread_leaves()
    leaves = judged + unread
    if not leaves:
        return []
    theta = np.array([latent.theta for leaf in judged if (latent := state.latent(leaf))])
    score = np.concatenate([theta, UNREAD * expected])
    rows = np.array([state.tree.leaf_row[leaf] for leaf in leaves])
    share = legs_share(theta, state.judge["leaf"][0]) if state.config.fuse else 0.0
    score = (1 - share) * score + share * np.maximum(state.prior.fused[rows], 0.0)
    if state.tree.root_id in state.opened:
        above = np.array([state.likely_path(state.tree.parents(leaf)[0]) for leaf in leaves], dtype=np.float64)
        alpha = state.config.alpha * (1 - share)
        score = alpha * above + (1 - alpha) * score
    order = np.lexsort((rows, -score))[:limit]
    return [Ranked(node_id=leaves[i], score=float(score[i]), judged=int(i) < len(judged)) for i in order]


def legs_share(theta: Floats, noise: float) -> float:
    """Share of BM25 and vectors in the final score, in [0, 1), for a judge of this noise that gave these scores.

    How many leaves the judge holds to be good is the participation ratio of its best scores cubed, (sum t^3)^2 /
    sum t^6: 1 where one stands out, n where n are equal. Only the best count, so that reading much that is worthless
    does not look like liking it. (Tuned on simulated judges over the even queries of two collections and a synthetic
    world; agent/bench/suite.py repeats the ablation.)
    """
    power = np.sort(theta)[::-1][:TOP] ** 3
    if not power.any():
        return 1.0 if not len(theta) else noise / (noise + NOISE_AT_HALF)
    crowd = float(power.sum() ** 2 / (power**2).sum())
    crowded = crowd / len(power) / CROWDED * min(1.0, len(theta) / ENOUGH)
    return min(MOST, noise / (noise + NOISE_AT_HALF) * max(crowd / CROWD, crowded))
