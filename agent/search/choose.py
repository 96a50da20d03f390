"""What to ask next, and when there is nothing left worth asking.

Three kinds of slate compete for the next call, each with what it is expected to add to the first k hits:

    seeds     the best unread leaves of anywhere, side by side        odds that they are good x the worth of a find
    open v    the children of a frontier node                         the same, for what lies beneath, a level at a time
    rescore   finalists once more, side by side                       what knowing them better would add

The search stops when none of them is expected to add more than a small share of what the ranking is worth already. A
strong judge makes every doubt small at once and ends in a handful of calls; a weak one keeps its doubts and is asked
again. Nothing here draws at random. Tested in tests/agent/test_choose.py and tests/agent/test_walk.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice

import numpy as np

from branchwise.agent.search import gain
from branchwise.agent.search.calibrate import NOISE
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.state import SearchState
from branchwise.agent.search.view import GOOD, ODDS_POWER, View
from branchwise.stores.records import Slate

RESCORED = 6
"""Most times that one leaf is shown: beyond it, a further score says more of the judge than of the leaf."""
WEIGHED = 6
"""Frontier nodes of either kind that are weighed against each other in full, after a first look at all."""
SATISFIED = 0.1
"""How much each good passage already read beneath a branch takes from the wish to look for another one there."""
WORTH_SPECULATING = 0.5
"""A slate is sent while another is being judged only if it promises at least this share of what that one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A slate, what its call is expected to add (DCG of the first k), and why it was chosen, in words for the trace."""

    slate: Slate
    expected_gain: float
    why: str


class GainPolicy:
    """Chooses one slate after another by expected gain; the default way to search."""

    def __init__(self, config: SearchConfig, *, k: int, max_slate: int) -> None:
        """`k` ranks count; a slate holds at most `max_slate` nodes, anchors included."""
        self.config = config
        self.k = k
        self.anchors = min(config.anchors, max_slate // 4)
        self.slate_size = max(1, min(config.slate_size, max_slate - self.anchors))
        self._gains: dict[int, float] = {}

    def next(self, state: SearchState) -> Choice | None:
        """The next slate to send; None where replies are to be waited for first, or the search is decided."""
        if state.in_flight >= self.config.in_flight:
            return None
        view = View.of(state, self.k)
        pending = self._pending(state, view)
        choices = [self._seeds(view, pending), *self._open(state, view, pending), self._rescore(state, view)]
        # Rounded, so that the first of equals is taken on every machine.
        best = max((choice for choice in choices if choice), key=lambda c: round(c.expected_gain, 9), default=None)
        if best is None or (self.config.stop and best.expected_gain < self._enough(state, view)):
            return None
        if any(best.expected_gain < WORTH_SPECULATING * self._gains[number] for number in state.awaited()):
            return None
        self._gains[len(state.slates)] = best.expected_gain
        return best

    def _enough(self, state: SearchState, view: View) -> float:
        """The gain below which a call is not worth making; nothing is enough before something was read.

        What a noisy judge's scores promise is worth less certain, so it is asked longer.
        """
        if not state.judgements:
            return 0.0
        steady = NOISE / (NOISE + state.judge["leaf"][0])
        return (1.0 - self.config.confidence) * steady * max(gain.worth(view.theta, self.k), GOOD)

    def _pending(self, state: SearchState, view: View) -> float:
        """Good passages expected of the slates that are still being judged."""
        slates = [state.slates[number] for number in state.awaited()]
        leaves = [leaf for slate in slates if slate.kind == "leaf" for leaf in slate.candidate_ids]
        return view.odds_of(state, [leaf for leaf in leaves if state.latent(leaf) is None])

    def _seeds(self, view: View, pending: float) -> Choice | None:
        """The best unread leaves of anywhere."""
        if not self.config.seeds or not view.unread:
            return None
        return self._leaves(view, None, [], 0.0, pending)

    def _open(self, state: SearchState, view: View, pending: float) -> Iterator[Choice]:
        """The most promising nodes of the frontier: their children, and what lies beneath these."""
        if not self.config.tree:
            return
        low = [node_id for node_id in state.frontier if state.tree.height(node_id) == 1]
        high = [node_id for node_id in state.frontier if state.tree.height(node_id) > 1]
        for node_id in nlargest(WEIGHED, low, key=state.promise):
            own = [leaf for leaf in state.visible_children(node_id) if leaf not in state.asked]
            if own:
                odds = max(view.odds_of(state, own[: self.slate_size]), branch_odds(state, node_id, len(own)))
                yield self._leaves(view, node_id, own, odds, pending)
            else:
                state.close_branch(node_id)
        found = Counter(node_id for leaf in view.good() for node_id in state.tree.path_to(leaf))
        votes: Counter[str] = Counter()
        for leaf, vote in islice(zip(view.judged, view.votes.tolist(), strict=True), 2 * self.k):
            for node_id in state.tree.path_to(leaf):
                votes[node_id] += vote
        for node_id in nlargest(WEIGHED, high, key=lambda n: state.worth(n) + votes[n]):
            if children := state.visible_children(node_id):
                yield self._descend(state, view, node_id, children, found[node_id], votes[node_id])

    def _leaves(self, view: View, parent: str | None, own: list[str], odds: float, pending: float) -> Choice:
        """A slate of unread leaves: a cluster's own, filled up with the best unread ones of elsewhere."""
        own = own[: self.slate_size]
        candidates = list(own)
        if self.config.seeds and len(own) < self.slate_size:
            mine = set(own)
            others = ((leaf, i) for i, leaf in enumerate(view.unread) if leaf not in mine)
            for leaf, i in islice(others, self.slate_size - len(own)):
                candidates.append(leaf)
                odds += float(view.odds[i])
        slate = Slate(
            parent=parent, candidate_ids=tuple(candidates), anchor_ids=view.anchors(self.anchors), kind="leaf"
        )
        why = f"about {odds:.1f} good passages expected among {len(candidates)} unread"
        return Choice(slate=slate, expected_gain=gain.worth_of_finds(view.find, odds, pending=pending), why=why)

    def _descend(
        self, state: SearchState, view: View, node_id: str, children: tuple[str, ...], found: int, votes: float
    ) -> Choice:
        """A slate of clusters: worth a find, if there is one left beneath.

        And worth a second opinion on what was read already: the finalists beneath are judged once more by their path.
        The levels between cost nothing: each of them tells where not to look, and orders what is found.
        """
        left = state.worth(node_id) / (1.0 + SATISFIED * found)
        anchors = cluster_anchors(state, node_id, children)
        slate = Slate(parent=node_id, candidate_ids=children, anchor_ids=anchors, kind="inner")
        expected = gain.worth_of_finds(view.find, left) + self.config.alpha * votes
        return Choice(slate=slate, expected_gain=expected, why=f"odds {left:.2f} of an unread good passage beneath")

    def _rescore(self, state: SearchState, view: View) -> Choice | None:
        """Finalists once more, side by side, where knowing them better would change their order."""
        if not self.config.rescore or len(view.judged) < 2:
            return None
        doubt = np.where(view.times < RESCORED, view.doubt, 0.0)
        best = [int(i) for i in np.argsort(-doubt, kind="stable")[: self.slate_size] if doubt[i] > 0]
        if len(best) < 2:
            return None
        candidates = tuple(sorted((view.judged[i] for i in best), key=state.tree.leaf_row.__getitem__))
        repeat = sum(slate.candidate_ids == candidates for slate in state.slates)
        slate = Slate(parent=None, candidate_ids=candidates, kind="leaf", repeat=repeat)
        return Choice(
            slate=slate, expected_gain=float(doubt[best].sum()), why=f"order of {len(best)} finalists in doubt"
        )


def branch_odds(state: SearchState, cluster: str, unread: int) -> float:
    """Odds in [0, 1] that a judged cluster holds a good leaf that nobody has read; 0 for a cluster nobody judged.

    Its worth to the power that makes odds of leaves too, times the share that is unread: a summary that is half
    relevant seldom stands for a passage that is relevant. A cluster's own score is evidence that the scores of leaves
    elsewhere say nothing against.
    """
    if state.latent(cluster) is None:
        return 0.0
    return float(state.worth(cluster) ** ODDS_POWER * unread / len(state.visible_children(cluster)))


def cluster_anchors(state: SearchState, node_id: str, children: tuple[str, ...]) -> tuple[str, ...]:
    """The best cluster already judged at the children's depth, if it is not one of them."""
    depth = state.tree.depth(node_id) + 1
    known = {
        other: latent.theta
        for other in state.judged_clusters()
        if state.tree.depth(other) == depth and other not in children and (latent := state.latent(other))
    }
    return (max(known, key=known.__getitem__),) if known else ()
