"""What to ask next, and when there is nothing left worth asking.

Three kinds of slate compete for the next call, each with what it is expected to add to the first k hits:

    seeds     the best unread leaves of anywhere, side by side        sum of their odds x the worth of a find
    open v    the children of a frontier node                         the same, for what lies beneath, a level at a time
    rescore   finalists once more, side by side                       what knowing them better would add

The search stops when none of them is expected to add more than a small share of what the ranking is worth already. A
strong judge makes every doubt small at once and ends in a handful of calls; a weak one keeps its doubts and is asked
again. Nothing here draws at random. Tested in tests/agent/test_choose.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from branchwise.agent.search import gain
from branchwise.agent.search.calibrate import NOISE, Floats, shape
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.seeds import leaves_in_sight
from branchwise.agent.search.state import SearchState
from branchwise.stores.records import Slate

GOOD = 0.6
"""A find is expected to be at least this good, until better ones are read."""
RESCORED = 6
"""Most times that one leaf is shown: beyond it, a further score says more of the judge than of the leaf."""
SEED_CLUSTERS = 20
"""The leaf clusters of this many best seeds are open to the search from the start."""


SATISFIED = 0.1
"""How much each good passage already read beneath a branch takes from the wish to look for another one there."""
WORTH_SPECULATING = 0.5
"""A slate is sent while another is being judged only if it promises at least this share of what that one does."""
LEVEL_COST = 0.3
"""Calls that a further level down costs, of those that would be made for its own sake anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A slate, what its call is expected to add (DCG of the first k), and why it was chosen, in words for the trace."""

    slate: Slate
    expected_gain: float
    why: str


class GainPolicy:
    """Chooses one slate after another by expected gain; the default way to search."""

    def __init__(self, config: SearchConfig, *, k: int, max_slate: int) -> None:
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
        choices = [self._seeds(state, view), *self._open(state, view), self._rescore(state, view)]
        best = max((c for c in choices if c), key=lambda choice: choice.expected_gain, default=None)
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

    def _seeds(self, state: SearchState, view: View) -> Choice | None:
        """The best unread leaves of anywhere."""
        if not self.config.seeds:
            return None
        return self._leaves(state, view, None, [])

    def _open(self, state: SearchState, view: View) -> Iterator[Choice | None]:
        """Every node of the frontier: its children, and what lies beneath them."""
        if not self.config.tree:
            return
        for node_id in frontier(state):
            children = [c for c in visible_children(state, node_id) if c not in state.asked]
            if not children:
                continue
            if state.tree.is_leaf(children[0]):
                yield self._leaves(state, view, node_id, children)
            else:
                yield self._descend(state, view, node_id, children)

    def _leaves(self, state: SearchState, view: View, parent: str | None, own: list[str]) -> Choice | None:
        """A slate of unread leaves: a cluster's own, filled up with the best unread ones of elsewhere."""
        room = self.slate_size - len(own)
        others = [leaf for leaf in view.unread if leaf not in own][: max(0, room)] if self.config.seeds else []
        candidates = own[: self.slate_size] + others
        if not candidates:
            return None
        odds = view.odds(state, candidates)
        slate = Slate(
            parent=parent, candidate_ids=tuple(candidates), anchor_ids=view.leaf_anchors(self.anchors), kind="leaf"
        )
        why = f"about {odds:.1f} good passages expected among {len(candidates)} unread"
        expected = gain.worth_of_finds(view.find, odds, pending=self._pending(state, view))
        return Choice(slate=slate, expected_gain=expected, why=why)

    def _pending(self, state: SearchState, view: View) -> float:
        """Good passages expected of the slates that are still being judged."""
        leaves = [leaf for number in state.awaited() for leaf in state.slates[number].candidate_ids]
        unread = [leaf for leaf in leaves if state.tree.is_leaf(leaf) and state.latent(leaf) is None]
        return view.odds(state, unread) if unread else 0.0

    def _descend(self, state: SearchState, view: View, node_id: str, children: list[str]) -> Choice:
        """A slate of clusters: worth a find, if there is one left beneath, once all levels down to it are read."""
        good = state.worth(node_id)
        left = good / (1.0 + SATISFIED * view.found_below(state, node_id))
        anchors = cluster_anchors(state, node_id, children)
        slate = Slate(parent=node_id, candidate_ids=tuple(children), anchor_ids=anchors, kind="inner")
        expected = gain.worth_of_finds(view.find, left) / (1.0 + LEVEL_COST * (state.tree.height(node_id) - 1))
        return Choice(slate=slate, expected_gain=expected, why=f"odds {left:.2f} of an unread good passage beneath")

    def _rescore(self, state: SearchState, view: View) -> Choice | None:
        """Finalists once more, side by side, where knowing them better would change their order."""
        if not self.config.rescore or len(view.judged) < 2:
            return None
        doubt = np.where(view.times < RESCORED, view.doubt, 0.0)
        best = [int(i) for i in np.argsort(-doubt, kind="stable")[: self.slate_size] if doubt[i] > 0]
        if len(best) < 2:
            return None
        rows = state.tree.leaf_row
        candidates = tuple(sorted((view.judged[i] for i in best), key=rows.__getitem__))
        repeat = sum(slate.candidate_ids == candidates for slate in state.slates)
        slate = Slate(parent=None, candidate_ids=candidates, kind="leaf", repeat=repeat)
        expected = float(doubt[best].sum())
        return Choice(slate=slate, expected_gain=expected, why=f"order of {len(best)} finalists in doubt")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The leaves as they stand: `judged` best first, with `theta`, `times` shown and `doubt`; `unread` by promise."""

    judged: tuple[str, ...]
    theta: Floats
    times: Floats
    doubt: Floats
    unread: tuple[str, ...]
    level: float
    junk: float
    find: float

    @classmethod
    def of(cls, state: SearchState, k: int) -> View:
        """Rank what was read, and what was not."""
        known = [(leaf, latent) for leaf in state.judged_leaves() if (latent := state.latent(leaf))]
        known.sort(key=lambda pair: -pair[1].theta)
        theta = np.array([latent.theta for _, latent in known])
        sd = np.array([latent.sd for _, latent in known])
        times = Counter(node_id for slate in state.slates for node_id in slate.node_ids)
        noise = state.judge["leaf"][0] * np.sqrt(shape(theta))
        level = max(GOOD, float(theta[0])) if len(theta) else GOOD
        junk = min(float(np.median(theta)), level / 2) if len(theta) else 0.0
        return cls(
            judged=tuple(leaf for leaf, _ in known),
            theta=theta,
            times=np.array([times[leaf] for leaf, _ in known]),
            doubt=gain.worth_of_rescoring(theta, sd, noise, k, junk=junk, level=level) if len(theta) else theta,
            unread=unread_leaves(state),
            level=level,
            junk=junk,
            find=gain.worth_of_find(theta, k, level=level),
        )

    def odds(self, state: SearchState, leaves: Sequence[str]) -> float:
        """How many of these unread leaves are expected to be good, on a scale from what junk scores to the best."""
        return float(np.clip((state.expect(leaves, "leaf") - self.junk) / (self.level - self.junk), 0.0, 1.0).sum())

    def leaf_anchors(self, count: int) -> tuple[str, ...]:
        """Known leaves to show again: the best, which give the scale, and the most doubtful, which gain by it."""
        best = list(self.judged[: count // 2])
        doubtful = (self.judged[int(i)] for i in np.argsort(-self.doubt, kind="stable"))
        best.extend(leaf for leaf in doubtful if leaf not in best)
        return tuple(best[:count])

    def found_below(self, state: SearchState, node_id: str) -> int:
        """How many good leaves beneath a node were read already."""
        below = set(state.tree.leaves(node_id)) if len(self.judged) else set()
        return sum(leaf in below for leaf, theta in zip(self.judged, self.theta, strict=True) if theta > self.level / 2)


def frontier(state: SearchState) -> list[str]:
    """Inner nodes that may be opened: the root, children of opened nodes, and the clusters of the best seeds."""
    tree = state.tree
    if tree.root_id is None:
        return []
    nodes = {tree.root_id: None}
    waiting = {state.slates[number].parent for number in state.awaited()}
    for node_id in state.opened:
        if node_id not in waiting:
            nodes.update((child, None) for child in visible_children(state, node_id) if not tree.is_leaf(child))
    nodes.update((tree.parents(tree.leaf_ids[row])[0], None) for row in state.prior.ranked[:SEED_CLUSTERS])
    nodes.update((parent, None) for parent in state.promising_clusters())
    return [node_id for node_id in nodes if node_id not in state.opened]


def visible_children(state: SearchState, node_id: str) -> list[str]:
    """The children that have anything in sight beneath them."""
    return [child for child in state.tree.children(node_id) if leaves_in_sight(state.prior, state.tree, child)]


def cluster_anchors(state: SearchState, node_id: str, children: Sequence[str]) -> tuple[str, ...]:
    """The best cluster already judged at the children's depth, if it is not one of them."""
    depth = state.tree.depth(node_id) + 1
    known = {
        other: latent.theta
        for other in state.judged_clusters()
        if state.tree.depth(other) == depth and other not in children and (latent := state.latent(other))
    }
    return (max(known, key=known.__getitem__),) if known else ()


def unread_leaves(state: SearchState) -> tuple[str, ...]:
    """Leaves that nobody was asked about, most promising first: the seeds, and what lies in judged leaf clusters."""
    tree = state.tree
    rows = dict.fromkeys(int(row) for row in state.prior.ranked)
    for cluster in state.judged_clusters():
        if tree.height(cluster) == 1:
            rows.update((int(row), None) for row in tree.leaf_rows(cluster) if state.prior.fused[row] >= 0)
    leaves = [leaf for row in rows if (leaf := tree.leaf_ids[row]) not in state.asked]
    if not leaves:
        return ()
    order = np.argsort(-state.expect(leaves, "leaf"), kind="stable")
    return tuple(leaves[int(i)] for i in order)
