"""A small world to search in: a tree, a question's gold, and judges that know it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from branchwise.agent.search.choose import GainPolicy
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.fuse import Ranked, rank
from branchwise.agent.search.seeds import Prior, make_prior
from branchwise.agent.search.state import SearchState
from branchwise.agent.search.walk import walk
from branchwise.stores.records import Budget, Judgement, Question, Slate, Stop, TreeNode
from branchwise.stores.tree import SemanticTree


def make_tree(branches: int = 4, clusters: int = 4, leaves: int = 8) -> SemanticTree:
    """A tree of three levels: root, `branches`, `clusters` each, `leaves` each."""
    nodes = [TreeNode(node_id="n:root")]
    children: dict[str, list[str]] = {"n:root": []}
    for b in range(branches):
        children["n:root"].append(f"n:{b}")
        nodes.append(TreeNode(node_id=f"n:{b}"))
        for c in range(clusters):
            children.setdefault(f"n:{b}", []).append(f"n:{b}.{c}")
            nodes.append(TreeNode(node_id=f"n:{b}.{c}"))
            for leaf in range(leaves):
                name = f"p:{b}.{c}.{leaf}"
                children.setdefault(f"n:{b}.{c}", []).append(name)
                nodes.append(TreeNode(node_id=name, passage_id=name[2:]))
    return SemanticTree.from_nodes(nodes, children, max_children=max(branches, clusters, leaves))


@dataclass
class Oracle:
    """Scores gold 0.95, what holds gold 0.9 and everything else 0.05; strays by `noise`, delays as `delays` say."""

    tree: SemanticTree
    gold: frozenset[str]
    noise: float = 0.0
    delays: Mapping[int, float] = field(default_factory=dict)
    name: str = "oracle"
    max_slate: int = 40
    asked: list[Slate] = field(default_factory=list)

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """The truth, or nearly."""
        self.asked.append(slate)
        if delay := self.delays.get(len(self.asked) - 1):
            await asyncio.sleep(delay)
        draw = np.random.default_rng([len(slate.node_ids), slate.repeat, *map(len, slate.node_ids[:3])])
        scores: dict[str, float | None] = {}
        for node_id in slate.node_ids:
            below = self.gold.intersection(self.tree.leaves(node_id))
            truth = 0.05 if not below else 0.95 if node_id in self.gold else 0.9
            scores[node_id] = float(np.clip(truth + draw.normal(0, self.noise), 0, 1)) if self.noise else truth
        return Judgement(slate=slate, scores=scores, judge=self.name)


def prior_for(tree: SemanticTree, likes: Mapping[str, float], *, hidden: frozenset[str] = frozenset()) -> Prior:
    """A prior that likes some leaves, and cannot see the hidden ones."""
    scores = np.array([likes.get(leaf, 0.0) for leaf in tree.leaf_ids], dtype=np.float32)
    allowed = np.array([leaf not in hidden for leaf in tree.leaf_ids]) if hidden else None
    return make_prior(scores, scores, allowed, pool=50)


@dataclass
class Searched:
    """One search: its state, what it found, why it stopped and every step."""

    state: SearchState
    ranked: list[Ranked]
    stopped: Stop
    steps: list[tuple[str, dict[str, Any]]]

    @property
    def calls(self) -> int:
        """Slates that were judged."""
        return len(self.state.judgements)


async def search(
    tree: SemanticTree, judge: Any, prior: Prior, config: SearchConfig | None = None, *, budget: Budget | None = None
) -> Searched:
    """Walk by expected gain."""
    config = config or SearchConfig()
    state = SearchState(tree, prior, config)
    steps: list[tuple[str, dict[str, Any]]] = []
    stopped, _ = await walk(
        Question(text="?"),
        state,
        judge,
        GainPolicy(config, k=10, max_slate=judge.max_slate),
        budget=budget or Budget(),
        record=lambda kind, payload: steps.append((kind, payload)),
    )
    return Searched(state, rank(state, limit=100), stopped, steps)
