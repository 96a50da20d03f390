"""The final order: what the judge said, what the path says, what BM25 and the vectors say, as one score a leaf.

The path counts half, as in the paper: the judge's view of the branches above is made of other calls, and so of other
errors, than its view of the leaf. A seed's branch may not have been judged; then it counts what is expected of it, for
nothing heard is no praise.

A judged leaf's latent score is a posterior: its prior was made of the cheap legs and the path (agent.search.belief),
and the noisier the judge has proved to be, the more of that prior is left. But repeats show only the noise that comes
fresh with every reply; a weak judge also errs the same way every time. Two things that the search has measured tell how
far to trust it: its noise, and whether it can say no: a judge that finds everything half relevant has found nothing. So
BM25 and the vectors get a share of the final score that grows with both (`legs_share`): next to nothing against a judge
that is steady and says no to most of what it reads, most of it against one that does neither. Only the usual leaf
counts here, not how many are liked: some questions have many answers. Tested in tests/agent/test_fuse.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from branchwise.agent.search.calibrate import Floats
from branchwise.agent.search.state import SearchState

NOISE_AT_HALF = 0.2
"""Noise at which a judge's order is trusted as much as that of the cheap legs."""
SAYS_NO, LIKES_ALL = 0.1, 0.4
"""Median score as a share of the best: of a judge that says no as it should, and of one that cannot."""
ENOUGH = 20
"""Leaves to have read before their median counts in full: a few may well be all of one topic."""
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
        score = state.config.alpha * above + (1 - state.config.alpha) * score
    order = np.lexsort((rows, -score))[:limit]
    return [Ranked(node_id=leaves[i], score=float(score[i]), judged=int(i) < len(judged)) for i in order]


def legs_share(theta: Floats, noise: float) -> float:
    """Share of BM25 and vectors in the final score, in [0, 1], for a judge of this noise that gave these scores.

    Noise and liking everything are two reasons to doubt a judge, and it is trusted as far as neither holds. (Tuned on
    simulated judges over the even queries of nine collections and a synthetic world, where the best fixed share is .1
    for the strong judge, .4 for the middling and .9 for the weak; agent/bench/suite.py repeats the ablation.)
    """
    if not len(theta):
        return 1.0
    noisy = noise**2 / (noise**2 + NOISE_AT_HALF**2)
    best = float(theta.max())
    usual = float(np.median(theta)) / best if best > 0 else 0.0
    likes_all = float(np.clip((usual - SAYS_NO) / (LIKES_ALL - SAYS_NO), 0.0, 1.0)) * min(1.0, len(theta) / ENOUGH)
    return min(MOST, 1.0 - (1.0 - noisy) * (1.0 - likes_all))
