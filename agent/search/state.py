"""What one search knows: the slates asked, the scores heard, and what follows from them.

The state is a function of the *set* of judgements: it does not matter in which order they arrived. It decides nothing;
agent.search.choose and agent.search.lattice do. Tested in tests/agent/test_state.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from branchwise.agent.search.belief import Belief
from branchwise.agent.search.calibrate import (
    BIAS,
    NOISE,
    Floats,
    Observations,
    calibrate,
    calibrate_as_lattice,
    measure_judge,
)
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.relevance import path_relevance
from branchwise.agent.search.seeds import Prior
from branchwise.stores.records import Judgement, Slate
from branchwise.stores.tree import SemanticTree

Kind = Literal["inner", "leaf"]
KINDS: tuple[Kind, Kind] = ("inner", "leaf")
START = {"inner": Belief.of_clusters(), "leaf": Belief.of_leaves()}
DILUTION = 0.3
"""What a level that nobody has judged leaves of the good name of the level above: one child in three, roughly."""
KINSHIP = 0.7
"""How well a cluster is thought of for the best passage read in it, where its own summary was not judged higher."""


@dataclass(frozen=True, slots=True)
class Latent:
    """A judged node's latent score in [0, 1] and its standard deviation."""

    theta: float
    sd: float


@dataclass(frozen=True, slots=True)
class Heard:
    """Scores of nodes of one kind: `node_ids[j]` is node j of the observations; `weak` ones came from a fallback."""

    node_ids: tuple[str, ...]
    observations: Observations
    weak: Mapping[str, float]


class SearchState:
    """Slates issued, judgements recorded, and the latent score of every node that was judged."""

    def __init__(self, tree: SemanticTree, prior: Prior, config: SearchConfig) -> None:
        self.tree = tree
        self.prior = prior
        self.config = config
        self.slates: list[Slate] = []
        self.judgements: dict[int, Judgement] = {}
        self.opened: dict[str, None] = {}
        self.asked: set[str] = set()
        self.withdrawn: set[int] = set()
        self.judge: dict[Kind, tuple[float, float]] = dict.fromkeys(KINDS, (NOISE, BIAS))
        self._belief = dict(START)
        self._latent: dict[str, Latent] = {}
        self._standing: dict[str, float] = {}
        self._best_read: dict[str, float] = {}
        self._paths: dict[str, float | None] = {}

    def issue(self, slate: Slate) -> int:
        """Note that a slate was sent to the judge; returns its number, counting from 0."""
        self.slates.append(slate)
        self.asked.update(slate.candidate_ids)
        if slate.parent is not None:
            self.opened[slate.parent] = None
        return len(self.slates) - 1

    def record(self, number: int, judgement: Judgement) -> None:
        """Take in a reply and work out anew what all replies so far say."""
        self.judgements[number] = judgement
        self._infer()

    def withdraw(self, number: int) -> None:
        """Note that a slate will never be answered: what it asked about is unknown, not zero."""
        self.withdrawn.add(number)

    @property
    def in_flight(self) -> int:
        """Slates sent and not yet answered."""
        return len(self.slates) - len(self.judgements) - len(self.withdrawn)

    def awaited(self) -> list[int]:
        """Numbers of the slates that are still being judged."""
        return [n for n in range(len(self.slates)) if n not in self.judgements and n not in self.withdrawn]

    def exhausted(self) -> bool:
        """True where every leaf in sight was put before the judge."""
        rows = self.tree.leaf_row
        asked = sum(node_id in rows for node_id in self.asked)
        return asked >= int((self.prior.fused >= 0).sum())

    def told(self) -> dict[str, Any]:
        """The state as an event's payload: the judge as measured; [latent score, its sd, path] of judged nodes."""
        noise, spread = self.judge["leaf"]
        return {
            "noise": round(noise, 4),
            "spread": round(spread, 4),
            "nodes": {
                node_id: [round(latent.theta, 4), round(latent.sd, 4), _rounded(self.path(node_id))]
                for node_id, latent in self._latent.items()
            },
        }

    def latent(self, node_id: str) -> Latent | None:
        """The latent score of a node; None where no judge gave it one."""
        return self._latent.get(node_id)

    def local(self, node_id: str) -> float | None:
        """The last score that a judge gave the node itself, None where there is none."""
        for number in sorted(self.judgements, reverse=True):
            score = self.judgements[number].scores.get(node_id)
            if score is not None:
                return score
        return None

    def reason(self, node_id: str) -> str:
        """The last reason that a judge gave for the node."""
        for number in sorted(self.judgements, reverse=True):
            if reason := self.judgements[number].reasons.get(node_id):
                return reason
        return ""

    def path(self, node_id: str) -> float | None:
        """Path relevance of a node, None where neither it nor anything above it was judged; the root's is 1."""
        if node_id == self.tree.root_id:
            return 1.0
        if node_id in self._paths:
            return self._paths[node_id]
        latent = self._latent.get(node_id)
        home = self.tree.parents(node_id)[0]
        above = self.path(home)
        self._paths[node_id] = above if latent is None else path_relevance(above, latent.theta, alpha=self.config.alpha)
        return self._paths[node_id]

    def judged_leaves(self) -> Iterator[str]:
        """Every leaf that a judge has scored, in the order of their rows."""
        rows = self.tree.leaf_row
        return iter(sorted((node_id for node_id in self._latent if node_id in rows), key=rows.__getitem__))

    def judged_clusters(self) -> Iterator[str]:
        """Every inner node that a judge has scored, in order of id."""
        return iter(sorted(node_id for node_id in self._latent if node_id not in self.tree.leaf_row))

    def worth(self, node_id: str) -> float:
        """How likely a good leaf lies beneath a cluster, in [0, 1]: its score times its path, else what is expected."""
        if node_id == self.tree.root_id:
            return 1.0
        if (latent := self._latent.get(node_id)) is not None:
            return latent.theta * (self.path(node_id) or 0.0)
        return float(self.expect([node_id], "inner")[0])

    def promising_clusters(self) -> list[str]:
        """Homes of passages that were read and found good, in the order of their names."""
        return sorted(cluster for cluster, theta in self._best_read.items() if theta >= 0.5)

    def standing(self, node_id: str) -> float:
        """How well the judge thinks of where a node hangs, in [0, 1]: 1 for a child of the root.

        The nearest judged ancestor speaks, by its own score times its path; every unjudged level in between dilutes it.
        A passage read and found good speaks for its cluster too: relevant passages come together.
        """
        home = self.tree.parents(node_id)[0]
        if home not in self._standing:
            self._standing[home] = max(self._name_of(home), KINSHIP * self._best_read.get(home, 0.0))
        return self._standing[home]

    def _name_of(self, node_id: str) -> float:
        share = 1.0
        for ancestor in reversed(self.tree.path_to(node_id)):
            if ancestor == self.tree.root_id:
                return share
            if ancestor in self._latent:
                return share * self.worth(ancestor)
            share *= DILUTION
        return share

    def expect(self, node_ids: Sequence[str], kind: Kind) -> Floats:
        """Expected scores (n,) of nodes of one kind, from what is known without having read them."""
        return self._belief[kind].expect(*self._features(node_ids, kind))

    def _features(self, node_ids: Sequence[str], kind: Kind) -> tuple[Floats, Floats]:
        above = np.array([self.standing(node_id) for node_id in node_ids])
        if kind == "leaf":
            rows = np.array([self.tree.leaf_row[node_id] for node_id in node_ids], dtype=np.intp)
            return np.maximum(self.prior.fused[rows], 0.0).astype(np.float64), above
        return np.array([self.prior.best_below(self.tree, node_id) for node_id in node_ids]), above

    def _infer(self) -> None:
        """Beliefs from scores, then latent scores from beliefs and scores: closed forms, from scratch every time.

        Clusters come first: how well a path is thought of is part of what is expected of the leaves below it.
        """
        self._latent, self._paths, self._standing, self._best_read = {}, {}, {}, {}
        if self.config.mode == "lattice":
            self._infer_as_lattice()
            return
        for kind in KINDS:
            self._settle(self._heard(kind), kind)
            self._standing = {}
        for leaf in self.judged_leaves():
            for parent in self.tree.parents(leaf):
                self._best_read[parent] = max(self._best_read.get(parent, 0.0), self._latent[leaf].theta)

    def _settle(self, heard: Heard, kind: Kind) -> None:
        """Latent scores of the nodes of one kind."""
        self._belief[kind] = START[kind]
        if heard.node_ids:
            features = self._features(heard.node_ids, kind)
            observed = heard.observations
            self.judge[kind] = measure_judge(observed)
            self._belief[kind] = START[kind].learn(*features, observed.mean())
            belief = self._belief[kind]
            if self.config.calibrate:
                spread = np.full(observed.nodes, belief.sd)
                found = calibrate(observed, belief.expect(*features), spread, judge=self.judge[kind])
                theta, sd = found.theta, found.sd
            else:
                theta, sd = observed.mean(), np.full(observed.nodes, self.judge[kind][0])
            for node_id, t, s in zip(heard.node_ids, theta.tolist(), sd.tolist(), strict=True):
                self._latent[node_id] = Latent(t, s)
        for node_id, score in heard.weak.items():
            self._latent.setdefault(node_id, Latent(score, self._belief[kind].sd))

    def _infer_as_lattice(self) -> None:
        """One fit over leaves and clusters together; a candidate that the model left out is worth exactly 0."""
        heard = self._heard(*KINDS)
        for node_id, theta in zip(heard.node_ids, calibrate_as_lattice(heard.observations).tolist(), strict=True):
            self._latent[node_id] = Latent(theta, NOISE)
        for number in self.judgements:
            for node_id in self.slates[number].candidate_ids:
                self._latent.setdefault(node_id, Latent(0.0, NOISE))

    def _heard(self, *kinds: Kind) -> Heard:
        """Every score of nodes of these kinds, in the order of the slates."""
        place: dict[str, int] = {}
        slates, nodes, scores = [], [], []
        weak: dict[str, float] = {}
        numbers = [n for n in sorted(self.judgements) if self.slates[n].kind in kinds]
        for slate, number in enumerate(numbers):
            judgement = self.judgements[number]
            for node_id, score in judgement.scores.items():
                if score is None:
                    continue
                if judgement.weak and self.config.mode == "branchwise":
                    weak[node_id] = score
                    continue
                slates.append(slate)
                nodes.append(place.setdefault(node_id, len(place)))
                scores.append(score)
        observations = Observations(
            slate=np.array(slates, dtype=np.intp),
            node=np.array(nodes, dtype=np.intp),
            score=np.array(scores, dtype=np.float64),
            slates=len(numbers),
            nodes=len(place),
        )
        return Heard(tuple(place), observations, weak)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
