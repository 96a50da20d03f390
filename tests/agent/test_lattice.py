"""The faithful mode against the one recorded run of the original (BRIGHT biology, Gemini-2.5-flash, 21 expansions)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from branchwise.agent.search.config import lattice
from branchwise.agent.search.lattice import LatticePolicy, rank_as_lattice, raw_paths, valley
from branchwise.agent.search.seeds import no_prior
from branchwise.agent.search.state import SearchState
from branchwise.agent.search.walk import walk
from branchwise.stores.records import Budget, Judgement, Question, Slate, TreeNode
from branchwise.stores.tree import SemanticTree

Path_ = tuple[int, ...]


def name(path: Path_) -> str:
    """A node's id: its path in the recorded tree."""
    return "n:" + ".".join(map(str, path)) if path else "n:root"


class Recording:
    """The recorded run: its nodes, its tree, and a judge that answers as the model did."""

    name = "recorded"
    max_slate = 100

    def __init__(self, file: Path) -> None:
        run = json.loads(file.read_text(encoding="utf-8"))
        self.nodes: dict[str, dict[str, Any]] = {name(tuple(node["path"])): node for node in run["nodes"]}
        self.expansions = [name(tuple(path)) for step in run["expansions_by_iteration"] for path in step]
        self.tree = self._tree()

    def _tree(self) -> SemanticTree:
        nodes, children = [], {}
        for node_id, node in sorted(self.nodes.items(), key=lambda item: item[1]["path"]):
            nodes.append(TreeNode(node_id=node_id, passage_id=node_id if node["is_leaf"] else None))
            if node["path"]:
                children.setdefault(name(tuple(node["path"][:-1])), []).append(node_id)
        # Branches that the run never opened were recorded without what lies beneath: one unseen leaf stands for it.
        for node_id, node in self.nodes.items():
            if not node["is_leaf"] and node_id not in children:
                nodes.append(TreeNode(node_id=f"{node_id}.unseen", passage_id=f"{node_id}.unseen"))
                children[node_id] = [f"{node_id}.unseen"]
        return SemanticTree.from_nodes(nodes, children, max_children=40)

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """The recorded scores; a candidate whose calibrated score is exactly 0 was left out by the model."""
        scores = {node_id: self.score(node_id) for node_id in slate.candidate_ids}
        for anchor in self.nodes[slate.parent or ""]["calibration_nodes_inferred"] or []:
            scores.setdefault(name(tuple(anchor["anchor"])), anchor["inferred_score_in_this_slate"])
        return Judgement(slate=slate, scores=scores, judge=self.name)

    def score(self, node_id: str) -> float | None:
        """The recorded local score, None where the model gave none."""
        node = self.nodes[node_id]
        return None if node["calibrated_relevance_more_digits"] == 0.0 else node["local_relevance"]

    def calibrated(self, node_id: str) -> float | None:
        """The recorded calibrated score with the most digits there are."""
        node = self.nodes[node_id]
        return node["calibrated_relevance_more_digits"] or node["calibrated_relevance"]


@pytest.fixture(scope="module")
def recording(shared: Path) -> Recording:
    """The recorded run."""
    return Recording(shared / "data" / "lattice_trace" / "recorded_trace.json")


@pytest.fixture
async def replayed(recording: Recording) -> tuple[SearchState, list[str]]:
    """The state after the same walk, and the nodes in the order in which they were expanded."""
    config = lattice(iterations=11)
    state = SearchState(recording.tree, no_prior(len(recording.tree.leaf_ids), None), config)
    steps: list[str] = []

    def note(kind: str, payload: dict[str, Any]) -> None:
        if kind == "slate":
            steps.append(payload["parent"])

    await walk(Question(text="?"), state, recording, LatticePolicy(config), budget=Budget(), record=note)
    return state, steps


async def test_expands_as_recorded(recording: Recording, replayed: tuple[SearchState, list[str]]) -> None:
    """All 21 expansions of the recorded run happen, in its order."""
    _, steps = replayed
    assert steps == recording.expansions
    assert len(steps) == 21


async def test_raw_paths_as_recorded(recording: Recording, replayed: tuple[SearchState, list[str]]) -> None:
    """Every raw path relevance equals the recorded one."""
    paths = raw_paths(replayed[0])
    for node_id, node in recording.nodes.items():
        assert paths[node_id] == pytest.approx(node["raw_path_relevance_recomputed"], abs=1e-9)


async def test_measures_as_reported(recording: Recording, replayed: tuple[SearchState, list[str]]) -> None:
    """nDCG@10 69.92, recall@10 60, recall@100 80 and coverage 79: the figures that the original printed."""
    ranked = rank_as_lattice(replayed[0], limit=100)
    gold = np.array([recording.nodes[leaf.node_id]["gold"] for leaf in ranked], dtype=float)
    discount = 1 / np.log2(np.arange(2, 12))
    relevant = 5  # one of them was never reached: recall@100 is 4 of 5
    assert 100 * gold[:10] @ discount / discount[:relevant].sum() == pytest.approx(69.92, abs=0.005)
    assert (gold[:10].sum() / relevant, gold.sum() / relevant, len(ranked)) == (0.6, 0.8, 79)


async def test_calibrates_as_recorded(recording: Recording, replayed: tuple[SearchState, list[str]]) -> None:
    """The closed form gives every leaf's latent score within .05 of the gradient descent, and the same top 10."""
    state, _ = replayed
    pairs = [
        (latent.theta, known, state.tree.is_leaf(node_id))
        for node_id in recording.nodes
        if (known := recording.calibrated(node_id)) is not None and (latent := state.latent(node_id))
    ]
    ours, theirs, leaf = (np.array(column) for column in zip(*pairs, strict=True))
    assert np.abs(ours - theirs)[leaf].max() < 0.05
    assert np.abs(ours - theirs).mean() < 0.03
    recorded = {n: node["overall_path_relevance_more_digits"] for n, node in recording.nodes.items() if node["is_leaf"]}
    best = sorted(recorded, key=lambda node_id: -recorded[node_id])[:10]
    top = [leaf.node_id for leaf in rank_as_lattice(state, limit=10)]
    assert sum(a != b for a, b in zip(top, best, strict=True)) <= 2  # one swap at most


def test_fixed_calls() -> None:
    """The published budget is 1 + 2 x 19 = 39 calls: a root, then pairs."""
    config = lattice()
    assert 1 + config.beam * (config.iterations - 1) == 39


def test_valley_parts_two_groups() -> None:
    """The valley lies between two groups of scores, and below all where there is only one."""
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0.1, 0.03, 40), rng.normal(0.8, 0.05, 10)])
    assert 0.2 < valley(two) < 0.75
    assert valley(np.full(8, 0.5)) == pytest.approx(0.5)
