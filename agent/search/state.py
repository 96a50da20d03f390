"""What one search knows: the slates asked, the scores heard, and what follows from them.

Latent scores are a function of the *set* of judgements, whatever their order. The state decides nothing;
agent.search.choose and agent.search.lattice do. Tested in tests/agent/test_state.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from branchwise.agent.search.belief import Belief
from branchwise.agent.search.calibrate import BIAS, NOISE, Floats, calibrate, calibrate_as_lattice, measure_judge
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.heard import Heard, Kind
from branchwise.agent.search.relevance import path_relevance
from branchwise.agent.search.seeds import Prior
from branchwise.agent.search.unread import Unread
from branchwise.stores.records import Judgement, Slate
from branchwise.stores.tree import SemanticTree

KINDS: tuple[Kind, Kind] = ("inner", "leaf")
START: dict[Kind, Belief] = {"inner": Belief.of_clusters(), "leaf": Belief.of_leaves()}
DILUTION = 0.3
"""What a level that nobody has judged leaves of the good name of the level above: one child in three, roughly."""
KINSHIP = 0.7
"""How well a cluster is thought of for the best passage read in it, where its own summary was not judged higher."""
SEED_CLUSTERS = 20
"""The leaf clusters of this many best seeds are open to the search from the start."""
TOLD = 0.002
"""A latent score that moved less than this is not told again."""


@dataclass(frozen=True, slots=True)
class Latent:
    """A judged node's latent score in [0, 1] and its standard deviation."""

    theta: float
    sd: float


class SearchState:
    """Slates issued, judgements recorded, and the latent score of every node that was judged.

    `frontier` holds the inner nodes that may be opened, in the order in which they came into reach; `judge` the noise
    and the spread of biases measured for slates of either kind.
    """

    def __init__(self, tree: SemanticTree, prior: Prior, config: SearchConfig) -> None:
        self.tree = tree
        self.prior = prior
        self.config = config
        self.slates: list[Slate] = []
        self.judgements: dict[int, Judgement] = {}
        self.withdrawn: set[int] = set()
        self.asked: set[str] = set()
        self.shown: Counter[str] = Counter()
        self.opened: dict[str, None] = {}
        self.frontier: dict[str, None] = {}
        self.unread = Unread(tree, prior)
        self.judge: dict[Kind, tuple[float, float]] = dict.fromkeys(KINDS, (NOISE, BIAS))
        self._heard = (Heard(),) * 2 if config.mode == "lattice" else (Heard(), Heard())
        self._belief = dict(START)
        self._latent: dict[str, Latent] = {}
        self._told: dict[str, float] = {}
        self._visible: dict[str, tuple[str, ...]] = {}
        self._priors: dict[str, float] = {}
        self._forget()
        if tree.root_id is not None:
            self._reach([tree.root_id])
        if config.seeds:
            self._reach(tree.parents(tree.leaf_ids[row])[0] for row in prior.ranked[:SEED_CLUSTERS])

    def issue(self, slate: Slate) -> int:
        """Note that a slate was sent to the judge; returns its number, counting from 0."""
        self.slates.append(slate)
        self.asked.update(slate.candidate_ids)
        self.shown.update(slate.node_ids)
        if slate.kind == "leaf":
            self.unread.ask([self.tree.leaf_row[node_id] for node_id in slate.candidate_ids])
        if slate.parent is not None:
            self.close_branch(slate.parent)
        return len(self.slates) - 1

    def close_branch(self, node_id: str) -> None:
        """Take a node off the frontier: it is opened, or has nothing to show."""
        self.opened[node_id] = None
        self.frontier.pop(node_id, None)

    def record(self, number: int, judgement: Judgement) -> None:
        """Take in a reply and work out anew what all replies so far say."""
        slate = self.slates[number]
        self.judgements[number] = judgement
        self._heard[slate.kind == "leaf"].add(judgement)
        if slate.kind == "inner":
            self._reach(slate.candidate_ids)
            for node_id in slate.candidate_ids:
                if self.tree.height(node_id) == 1:
                    self.unread.add(self.tree.leaf_rows(node_id).tolist())
        self._infer()
        self._reach(sorted(cluster for cluster, theta in self._best_read.items() if theta >= 0.5))

    def withdraw(self, number: int) -> None:
        """Note that a slate will never be answered: what it alone asked about is unread again, not lost, not zero."""
        self.withdrawn.add(number)
        slate = self.slates[number]
        kept = (other for other_number, other in enumerate(self.slates) if other_number not in self.withdrawn)
        alone = set(slate.candidate_ids).difference(*(other.candidate_ids for other in kept))
        self.asked -= alone
        self.shown.subtract(slate.node_ids)
        if slate.kind == "leaf":
            self.unread.give_back([self.tree.leaf_row[leaf] for leaf in slate.candidate_ids if leaf in alone])

    @property
    def in_flight(self) -> int:
        """Slates sent and not yet answered."""
        return len(self.slates) - len(self.judgements) - len(self.withdrawn)

    def awaited(self) -> list[int]:
        """Numbers of the slates that are still being judged."""
        return [n for n in range(len(self.slates)) if n not in self.judgements and n not in self.withdrawn]

    def exhausted(self) -> bool:
        """True where every leaf in sight was put before the judge."""
        asked = sum(node_id in self.tree.leaf_row for node_id in self.asked)
        return asked >= int((self.prior.fused >= 0).sum())

    def visible_children(self, node_id: str) -> tuple[str, ...]:
        """The children that have anything in sight beneath them."""
        if node_id not in self._visible:
            children, fused, rows = self.tree.children(node_id), self.prior.fused, self.tree.leaf_rows
            self._visible[node_id] = tuple(child for child in children if (fused[rows(child)] >= 0).any())
        return self._visible[node_id]

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

    def judged_leaves(self) -> Iterator[str]:
        """Every leaf that a judge has scored, in the order of their rows."""
        rows = self.tree.leaf_row
        return iter(sorted((node_id for node_id in self._latent if node_id in rows), key=rows.__getitem__))

    def judged_clusters(self) -> Iterator[str]:
        """Every inner node that a judge has scored, in order of id."""
        return iter(sorted(node_id for node_id in self._latent if node_id not in self.tree.leaf_row))

    def path(self, node_id: str) -> float | None:
        """Path relevance of a node, None where neither it nor anything above it was judged; the root's is 1."""
        if node_id == self.tree.root_id:
            return 1.0
        if node_id not in self._paths:
            above = self.path(self.tree.parents(node_id)[0])
            latent = self._latent.get(node_id)
            self._paths[node_id] = (
                above if latent is None else path_relevance(above, latent.theta, alpha=self.config.alpha)
            )
        return self._paths[node_id]

    def likely_path(self, node_id: str) -> float:
        """Path relevance of a node, an unjudged node on the way counting what is expected of it; the root's is 1."""
        if node_id == self.tree.root_id:
            return 1.0
        if node_id not in self._likely_paths:
            above = self.likely_path(self.tree.parents(node_id)[0])
            latent = self._latent.get(node_id)
            own = latent.theta if latent is not None else float(self.expect([node_id], "inner")[0])
            self._likely_paths[node_id] = path_relevance(above, own, alpha=self.config.alpha)
        return self._likely_paths[node_id]

    def worth(self, node_id: str) -> float:
        """How likely a good leaf lies beneath a cluster, in [0, 1]: its score times its path, else what is expected."""
        if node_id == self.tree.root_id:
            return 1.0
        if (latent := self._latent.get(node_id)) is not None:
            return latent.theta * (self.path(node_id) or 0.0)
        return float(self.expect([node_id], "inner")[0])

    def promise(self, cluster: str) -> float:
        """What is expected of the best unread leaf of a cluster; for a first look at many."""
        c0, c1, c2 = self._belief["leaf"].coefficients
        return c0 + c1 * self._best_prior(cluster) + c2 * self.standing(cluster)

    def standing(self, cluster: str) -> float:
        """How well the judge thinks of what hangs in a cluster, in [0, 1]; 1 in the root.

        The nearest judged ancestor speaks, by its own score times its path; every unjudged level in between dilutes it.
        A passage read and found good speaks for its cluster too: relevant passages come together.
        """
        if cluster not in self._standing:
            self._standing[cluster] = max(self._name_of(cluster), KINSHIP * self._best_read.get(cluster, 0.0))
        return self._standing[cluster]

    def expect(self, node_ids: Sequence[str], kind: Kind) -> Floats:
        """Expected scores (n,) of nodes of one kind, from what is known without having read them."""
        return self._belief[kind].expect(*self._features(node_ids, kind))

    def unread_leaves(self) -> tuple[list[str], Floats]:
        """Leaves that nobody was asked about, most promising first, and what is expected of them."""
        rows, expected = self.unread.ranked(self._belief["leaf"], self.standing)
        return [self.tree.leaf_ids[row] for row in rows.tolist()], expected

    def told(self) -> dict[str, Any]:
        """What is new, as an event's payload: the judge as measured, [latent score, its sd, path] of moved nodes."""
        moved = {n: x for n, x in self._latent.items() if abs(x.theta - self._told.get(n, -1.0)) > TOLD}
        self._told.update((node_id, latent.theta) for node_id, latent in moved.items())
        noise, spread = self.judge["leaf"]
        nodes = {n: [round(x.theta, 4), round(x.sd, 4), _rounded(self.path(n))] for n, x in moved.items()}
        return {"noise": round(noise, 4), "spread": round(spread, 4), "nodes": nodes}

    def _reach(self, node_ids: Iterable[str]) -> None:
        for node_id in node_ids:
            if node_id not in self.opened:
                self.frontier.setdefault(node_id)

    def _name_of(self, node_id: str) -> float:
        share = 1.0
        for ancestor in reversed(self.tree.path_to(node_id)):
            if ancestor == self.tree.root_id or ancestor in self._latent:
                return share * self.worth(ancestor)
            share *= DILUTION
        return share

    def _features(self, node_ids: Sequence[str], kind: Kind) -> tuple[Floats, Floats]:
        above = np.array([self.standing(self.tree.parents(node_id)[0]) for node_id in node_ids], dtype=np.float64)
        if kind == "leaf":
            rows = np.array([self.tree.leaf_row[node_id] for node_id in node_ids], dtype=np.intp)
            return np.maximum(self.prior.fused[rows], 0.0).astype(np.float64), above
        return np.array([self._best_prior(node_id) for node_id in node_ids], dtype=np.float64), above

    def _best_prior(self, node_id: str) -> float:
        if node_id not in self._priors:
            self._priors[node_id] = self.prior.best_below(self.tree, node_id)
        return self._priors[node_id]

    def _forget(self) -> None:
        self._latent = {}
        self._paths: dict[str, float | None] = {}
        self._likely_paths: dict[str, float] = {}
        self._standing: dict[str, float] = {}
        self._best_read: dict[str, float] = {}

    def _infer(self) -> None:
        """Beliefs from scores, then latent scores from beliefs and scores: closed forms, from scratch every time.

        Clusters come first: how well a path is thought of is part of what is expected of the leaves below it.
        """
        self._forget()
        if self.config.mode == "lattice":
            self._infer_as_lattice()
            return
        for kind, heard in zip(KINDS, self._heard, strict=True):
            self._settle(heard, kind)
            self._standing = {}
        rows, parents = self.tree.leaf_row, self.tree.parents
        for node_id, latent in self._latent.items():
            if node_id in rows:
                for cluster in parents(node_id):
                    self._best_read[cluster] = max(self._best_read.get(cluster, 0.0), latent.theta)

    def _settle(self, heard: Heard, kind: Kind) -> None:
        """Latent scores of the nodes of one kind."""
        self._belief[kind] = START[kind]
        if heard:
            features = self._features(heard.node_ids, kind)
            seen = heard.observations()
            self.judge[kind] = measure_judge(seen)
            belief = self._belief[kind] = START[kind].learn(*features, seen.mean())
            if self.config.calibrate:
                found = calibrate(
                    seen, belief.expect(*features), np.full(seen.nodes, belief.sd), judge=self.judge[kind]
                )
                theta, sd = found.theta, found.sd
            else:
                theta, sd = seen.mean(), np.full(seen.nodes, self.judge[kind][0])
            self._latent.update(zip(heard.node_ids, map(Latent, theta.tolist(), sd.tolist()), strict=True))
        for node_id, score in heard.weak.items():
            self._latent.setdefault(node_id, Latent(score, self._belief[kind].sd))

    def _infer_as_lattice(self) -> None:
        """One fit over leaves and clusters together; a candidate that the model left out is worth exactly 0."""
        heard = self._heard[0]
        theta = calibrate_as_lattice(heard.observations()).tolist()
        self._latent.update((n, Latent(t, NOISE)) for n, t in zip(heard.node_ids, theta, strict=True))
        for node_id, score in heard.weak.items():
            self._latent.setdefault(node_id, Latent(score, NOISE))
        for number in self.judgements:
            for node_id in self.slates[number].candidate_ids:
                self._latent.setdefault(node_id, Latent(0.0, NOISE))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
