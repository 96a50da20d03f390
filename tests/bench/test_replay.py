"""Replaying slates that a frontier model judged: the recorded figures come out again."""

from __future__ import annotations

import asyncio
import heapq
from pathlib import Path

import numpy as np
import pytest

from branchwise.agent.bench.datasets import read_dataset
from branchwise.agent.bench.profiles import judge_profile
from branchwise.agent.bench.replay import (
    ROOT,
    RecordedQuery,
    ReplayJudge,
    calls_to_gold,
    read_recorded_queries,
    read_recorded_tree,
)
from branchwise.agent.bench.simulate import SimulatedJudge
from branchwise.stores.records import Question, Slate
from branchwise.stores.tree import SemanticTree

Recording = tuple[SemanticTree, list[RecordedQuery]]


@pytest.fixture(scope="module")
def recording(shared: Path) -> Recording:
    """The recorded tree and the 20 questions whose every inner slate was judged."""
    folder = shared / "data" / "llm_slates"
    dataset = read_dataset(shared / "data" / "theoremqa_theorems")
    tree = read_recorded_tree(folder, {d.doc_id: (d.title, d.text) for d in dataset.documents})
    texts = {query.query_id: query.text for query in dataset.queries}
    queries = read_recorded_queries(folder, dataset.name, texts)
    return tree, [query for query in queries if query.gold_clusters]


def test_the_recorded_tree_is_whole(recording: Recording) -> None:
    """354 passages under 37 clusters under 4 upper nodes; every recorded score is of a node in it."""
    tree, queries = recording
    assert [len(level) for level in tree.levels()] == [1, 4, 37, 354]
    assert len(queries) == 20
    assert all(node in tree for query in queries for node in query.scores)


def test_best_first_opens_the_gold_cluster_after_about_three_calls(recording: Recording) -> None:
    """With raw path scores and no seeds: 3.1 on these 20 questions, where 3 is the floor."""
    tree, queries = recording
    judge = ReplayJudge({query.text: query for query in queries})
    assert np.mean([calls_to_gold(tree, query, opened(tree, judge, query)) for query in queries]) == pytest.approx(3.1)


def test_unrecorded_pairs_have_no_score(recording: Recording) -> None:
    """A passage that was not shown for a question is unknown, not irrelevant."""
    tree, queries = recording
    judge = ReplayJudge({query.text: query for query in queries})
    leaf = next(leaf for leaf in tree.leaf_ids if leaf not in queries[0].scores)
    slate = Slate(parent=None, candidate_ids=(leaf,), kind="leaf")
    assert asyncio.run(judge.judge(slate, Question(text=queries[0].text))).scores == {leaf: None}


def opened(tree: SemanticTree, judge: ReplayJudge, query: RecordedQuery) -> list[str]:
    """Nodes in the order in which a best-first walk opens them."""
    frontier, order = [(-1.0, ROOT)], []
    while frontier:
        path, node = heapq.heappop(frontier)
        order.append(node)
        children = tree.children(node)
        if tree.is_leaf(children[0]):
            continue
        scores = asyncio.run(judge.judge(Slate(parent=node, candidate_ids=children), Question(text=query.text))).scores
        for child in children:
            heapq.heappush(frontier, (0.5 * path - 0.5 * (scores[child] or 0.0), child))
    return order


def test_leaves_may_be_judged_by_another(recording: Recording) -> None:
    """Slates of leaves go to the other judge, and the name tells that there are two."""
    tree, queries = recording
    query = next(query for query in queries if query.gold_leaves)
    gold = {query.text: dict.fromkeys(query.gold_leaves, 1.0)}
    other = SimulatedJudge(tree, gold, lambda _: np.zeros(len(tree.leaf_ids)), judge_profile("oracle"))
    judge = ReplayJudge({query.text: query}, leaves=other)
    assert judge.name == "recorded:frontier, leaves simulated:oracle"
    leaf = min(query.gold_leaves)
    slate = Slate(parent=None, candidate_ids=(leaf,), kind="leaf")
    assert asyncio.run(judge.judge(slate, Question(text=query.text))).scores == {leaf: 1.0}
