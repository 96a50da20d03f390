"""Replays slates that a model really judged: a tree, and per question the score of every node that was recorded.

A node that was never shown for a question has no score (None). Reads the layout of a folder
with tree.jsonl ({node_id, parent_id, title, summary, passages}), inner_slates.jsonl and leaf_slates.jsonl. Knows
nothing of walks or metrics. Tested in tests/bench/test_replay.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from branchwise.agent.bench.datasets import json_lines
from branchwise.agent.search.judge import Judge
from branchwise.stores.records import Judgement, Question, Slate, TreeNode, Usage
from branchwise.stores.tree import SemanticTree

ROOT = "n:root"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedQuery:
    """A question that was judged: scores in [0, 1] by node id, one for each slate that showed the node, in order."""

    query_id: str
    text: str
    scores: Mapping[str, tuple[float, ...]]
    gold_leaves: frozenset[str]
    gold_clusters: frozenset[str]


@dataclass(slots=True)
class ReplayJudge:
    """A judge that answers with what was recorded. Implements the Judge protocol of agent.search.

    Asking again (`Slate.repeat`) gives the next recorded score of a node, in a circle, so repeats are real repeats.
    `leaves` judges slates of leaves in place of the recording, which holds few of them; its name then joins this one's.
    """

    recorded: Mapping[str, RecordedQuery]
    leaves: Judge | None = None
    name: str = "recorded:frontier"
    max_slate: int = 40

    def __post_init__(self) -> None:
        if self.leaves is not None:
            self.name = f"{self.name}, leaves {self.leaves.name}"

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """The recorded scores of the slate's nodes; None where a node was not shown for this question."""
        if self.leaves is not None and slate.kind == "leaf":
            return await self.leaves.judge(slate, question)
        scores = self.recorded[question.text].scores
        answer = {
            node: scores[node][slate.repeat % len(scores[node])] if node in scores else None for node in slate.node_ids
        }
        return Judgement(slate=slate, scores=answer, usage=Usage(calls=1), judge=self.name)


def read_recorded_tree(folder: Path, texts: Mapping[str, tuple[str, str]]) -> SemanticTree:
    """The tree of `folder`/tree.jsonl over passages whose (title, text) by id are given. Leaves are "p:<id>"."""
    nodes: list[TreeNode] = []
    children: dict[str, list[str]] = defaultdict(list)
    for _, row in json_lines(folder / "tree.jsonl"):
        node_id, parents = _inner_id(row["node_id"]), () if row["parent_id"] is None else (_inner_id(row["parent_id"]),)
        nodes.append(
            TreeNode(
                node_id=node_id, parent_ids=parents, title=row["title"], text=row["summary"], written_by="recorded"
            )
        )
        for parent in parents:
            children[parent].append(node_id)
        for passage_id in row.get("passages", ()):
            title, text = texts[passage_id]
            leaf = f"p:{passage_id}"
            nodes.append(TreeNode(node_id=leaf, parent_ids=(node_id,), title=title, text=text, passage_id=passage_id))
            children[node_id].append(leaf)
    fan_out = max(len(below) for below in children.values())
    return SemanticTree.from_nodes(nodes, children, max_children=fan_out)


def read_recorded_queries(folder: Path, dataset: str, query_texts: Mapping[str, str]) -> list[RecordedQuery]:
    """The questions of `dataset` whose slates were recorded, in the order of the files; `query_texts` by query id."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    clusters: dict[str, set[str]] = defaultdict(set)
    leaves: dict[str, set[str]] = defaultdict(set)
    for name, to_id in (("inner_slates.jsonl", _inner_id), ("leaf_slates.jsonl", "p:{}".format)):
        for _, row in json_lines(folder / name):
            if row["dataset"] != dataset:
                continue
            query_id = row["query_id"]
            for node, score in zip(row["candidates"], row["scores"], strict=True):
                scores[query_id][to_id(node)].append(float(score))
            clusters[query_id] |= {_inner_id(node) for node in row.get("gold_cluster", ())}
            leaves[query_id] |= {f"p:{passage}" for passage in row.get("gold_passages", row.get("gold", ()))}
    return [
        RecordedQuery(
            query_id=query_id,
            text=query_texts[query_id],
            scores={node: tuple(values) for node, values in by_node.items()},
            gold_leaves=frozenset(leaves[query_id]),
            gold_clusters=frozenset(clusters[query_id]),
        )
        for query_id, by_node in scores.items()
    ]


def calls_to_gold(tree: SemanticTree, recorded: RecordedQuery, expanded: Sequence[str]) -> int | None:
    """How many expansions it took to open the cluster that holds gold, counting from 1; None if it was never opened."""
    places = [place for place, node in enumerate(expanded, start=1) if node in recorded.gold_clusters]
    return min(places, default=None)


def _inner_id(name: str) -> str:
    return ROOT if name == "root" else f"n:{name}"
