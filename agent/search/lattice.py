"""LATTICE as published, step by step: beam search with fixed calls (arXiv:2510.13217v2, section 3; the authors' code).

Each step expands the `beam` best nodes of the frontier together; 1 + beam x (iterations - 1) calls in all. Where paper
and code differ, SearchConfig says which is followed: `frontier` "raw" (code) or "calibrated" (paper), `cut_off`,
`own_weight`. The code's frontier orders by a path score that is made once, from raw scores, when a node is created;
calibration then only picks anchors and orders the leaves at the end. Its two-component mixture for drawing leaf anchors
is kept; its draws are seeded here, since the original's are not. Tested in tests/agent/test_lattice.py, against the
recorded run of the original.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from branchwise.agent.search.calibrate import Floats
from branchwise.agent.search.choose import Choice
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.fuse import Ranked
from branchwise.agent.search.relevance import path_relevance
from branchwise.agent.search.state import SearchState
from branchwise.stores.records import Slate


class LatticePolicy:
    """Chooses what the published method would: whole steps, nothing between them."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self._batch: list[Choice] = []
        self._steps = 0

    def next(self, state: SearchState) -> Choice | None:
        """The next slate of this step; None while a step is under way, and after the last."""
        if not self._batch:
            if state.in_flight or self._steps == self.config.iterations:
                return None
            self._steps += 1
            self._batch = self._step(state)
        return self._batch.pop(0) if self._batch else None

    def _step(self, state: SearchState) -> list[Choice]:
        scores = raw_paths(state) if self.config.frontier == "raw" else calibrated_paths(state)
        nodes = sorted(state.frontier, key=lambda node_id: (-scores.get(node_id, 0.0), _place(state, node_id)))
        chosen = nodes[: self.config.beam]
        return [choice for node_id in chosen if (choice := self._expand(state, node_id, scores))]

    def _expand(self, state: SearchState, node_id: str, scores: dict[str, float]) -> Choice | None:
        children = state.visible_children(node_id)
        if not children:
            state.close_branch(node_id)
            return None
        if state.tree.is_leaf(children[0]):
            anchors = self._leaf_anchors(state, set(children), scores)
        else:
            anchors = self._inner_anchor(state, node_id, scores)
        slate = Slate(
            parent=node_id,
            candidate_ids=children,
            anchor_ids=tuple(a for a in anchors if a not in children),
            kind="leaf" if state.tree.is_leaf(children[0]) else "inner",
        )
        return Choice(slate=slate, expected_gain=0.0, why=f"path relevance {scores.get(node_id, 1.0):.3f}")

    def _inner_anchor(self, state: SearchState, node_id: str, scores: dict[str, float]) -> list[str]:
        """The code: the best node of the expanded node's own level, itself included; the paper: its best sibling."""
        tree = state.tree
        if node_id == tree.root_id:
            return []
        level = [n for n in state.judged_clusters() if tree.depth(n) == tree.depth(node_id)]
        if self.config.frontier == "calibrated":
            level = [n for n in level if n != node_id and tree.parents(n) == tree.parents(node_id)]
        return [max(level, key=lambda n: scores.get(n, 0.0))] if level else []

    def _leaf_anchors(self, state: SearchState, own: set[str], scores: dict[str, float]) -> list[str]:
        """Up to l leaves already judged, drawn without replacement, the good ones far more often than the bad."""
        known = [leaf for leaf in state.judged_leaves() if leaf not in own]
        if len(known) <= self.config.anchors:
            return known
        rng = np.random.default_rng([self.config.seed, len(state.slates)])
        if self.config.frontier == "calibrated":
            weight = np.maximum([scores.get(leaf, 0.0) for leaf in known], 1e-9)
        else:
            theta = np.array([latent.theta for leaf in known if (latent := state.latent(leaf))])
            weight = np.where(theta >= valley(theta), 4.0 ** (2.0 * theta), 1e-4)
        drawn = rng.choice(len(known), size=self.config.anchors, replace=False, p=weight / weight.sum())
        return [known[int(i)] for i in sorted(drawn)]


def _place(state: SearchState, node_id: str) -> tuple[int, ...]:
    """Where a node stands in the tree, as the positions along its path: what the code breaks ties by."""
    path = state.tree.path_to(node_id)
    return tuple(state.tree.children(above).index(below) for above, below in pairwise(path))


def raw_paths(state: SearchState) -> dict[str, float]:
    """Path relevance from raw scores, fixed when a node was first judged as a child: what the code orders by."""
    config = state.config
    scores = {state.tree.root_id or "": 1.0}
    for number in sorted(state.judgements):
        slate = state.slates[number]
        above = scores.get(slate.parent or "", 1.0)
        for node_id in slate.candidate_ids:
            # A candidate that the model left out is worth nothing to the code.
            local = state.judgements[number].scores.get(node_id) or 0.0
            if node_id not in scores:
                scores[node_id] = path_relevance(above, local, alpha=config.alpha, cut_off=config.cut_off)
    return scores


def calibrated_paths(state: SearchState) -> dict[str, float]:
    """Path relevance from latent scores: what the paper orders by."""
    return {node_id: state.path(node_id) or 0.0 for node_id in [*state.judged_clusters(), *state.judged_leaves()]}


def rank_as_lattice(state: SearchState, *, limit: int) -> list[Ranked]:
    """Judged leaves, best first: the parent's path score and the leaf's latent score, weighed by `own_weight`."""
    config = state.config
    paths = raw_paths(state) if config.frontier == "raw" else calibrated_paths(state)
    paths.setdefault(state.tree.root_id or "", 1.0)
    scored = []
    for row, leaf in enumerate(state.judged_leaves()):
        latent = state.latent(leaf)
        theta = latent.theta if latent else 0.0
        above = paths.get(state.tree.parents(leaf)[0])
        score = path_relevance(above, theta, alpha=1 - config.own_weight, cut_off=config.cut_off)
        scored.append((-score, row, leaf))
    return [Ranked(node_id=leaf, score=-score, judged=True) for score, _, leaf in sorted(scored)[:limit]]


def valley(theta: Floats) -> float:
    """Where two clusters of scores part: the upper of two fitted Gaussians becomes the likelier one here.

    Expectation maximisation of a two-component mixture, started at the quartiles: the same for the same scores.
    """
    low, high = np.quantile(theta, [0.25, 0.75])
    if high - low < 1e-6:
        return float(low)
    mean, sd, share = np.array([low, high]), np.full(2, max(theta.std(), 1e-3)), np.full(2, 0.5)
    for _ in range(50):
        density = share * np.exp(-0.5 * ((theta[:, None] - mean) / sd) ** 2) / sd + 1e-12
        member = density / density.sum(axis=1, keepdims=True)
        total = member.sum(axis=0)
        mean = (member * theta[:, None]).sum(axis=0) / total
        sd = np.maximum(np.sqrt((member * (theta[:, None] - mean) ** 2).sum(axis=0) / total), 0.02)
        share = total / total.sum()
    grid = np.linspace(mean.min(), mean.max(), 101)
    density = share * np.exp(-0.5 * ((grid[:, None] - mean) / sd) ** 2) / sd
    upper = int(np.argmax(mean))
    likelier = density[:, upper] >= density[:, 1 - upper]
    return float(grid[int(np.argmax(likelier))]) if likelier.any() else float(mean.mean())
