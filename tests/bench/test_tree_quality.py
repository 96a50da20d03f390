"""The measure of a tree without help."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from branchwise.agent.bench.datasets import Query
from branchwise.agent.bench.tree_quality import assess, collapsed, compare, leaf_scores, turn_over, walk
from branchwise.agent.search.judge import EmbeddedJudge
from branchwise.stores.index import Index
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig

TOPICS = ("lava magma crater ash", "dough yeast oven loaf", "bishop rook pawn castle", "mast keel jib anchor")


def documents() -> list[Document]:
    """Forty documents on four topics."""
    return [
        Document(doc_id=f"d{n}", text=f"{TOPICS[n % 4]} and once more {TOPICS[n % 4].split()[n % 3]} in case {n}.")
        for n in range(40)
    ]


@pytest.fixture
async def index(tmp_path: Path) -> Index:
    """A small tree."""
    await build(documents(), tmp_path / "index", BuildConfig(max_children=5, duplicate_similarity=0))
    return Index.open(tmp_path / "index")


async def test_a_walk_opens_the_right_branch_first(index: Index) -> None:
    """The first cluster that a walk opens is on the question's topic, and in the end it has seen every leaf once."""
    with index:
        path = walk(index, EmbeddedJudge(index), "yeast in the dough", limit=100)
        first = path.seen[: next(count for count in path.after if count)]
        topics = {int(index.tree.leaf_ids[row].removeprefix("p:d")) % 4 for row in first.tolist()}
        assert 1 in topics
        assert sorted(path.seen.tolist()) == list(range(40))


async def test_the_collapsed_tree_sees_every_leaf(index: Index) -> None:
    """Opening clusters by their own score ends with all leaves too."""
    with index:
        path = collapsed(index, EmbeddedJudge(index), "castle and pawn", limit=100)
        assert sorted(path.seen.tolist()) == list(range(40))


async def test_the_reference_is_the_judge_on_every_leaf(index: Index) -> None:
    """The fast reference scores order leaves as the judge does."""
    with index:
        scores = leaf_scores(index, "keel and anchor")
        best = {int(index.tree.leaf_ids[row].removeprefix("p:d")) % 4 for row in np.argsort(-scores)[:10].tolist()}
        assert best == {3}


async def test_shares_grow_with_what_is_judged(index: Index) -> None:
    """More leaves judged never find less, and all judged find everything."""
    with index:
        queries = [Query(query_id=str(n), text=topic) for n, topic in enumerate(TOPICS)]
        qrels = {str(n): {f"d{n}": 1, f"d{n + 4}": 1} for n in range(4)}
        quality = assess(index, queries, qrels, name="test", seconds=0.0)
        shares = list(quality.found.values())
        assert shares == sorted(shares)
        assert quality.reference_ndcg is not None
        assert 0 < quality.to_all <= 1


async def test_collections_are_compared_end_to_end(tmp_path: Path) -> None:
    """A folder without queries asks by titles; kinds, the collapsed tree and a turnover each give a line."""
    with (tmp_path / "corpus.jsonl").open("w") as corpus:
        for n, document in enumerate(documents()):
            row = {"_id": document.doc_id, "title": TOPICS[n % 4].split()[0], "text": document.text}
            corpus.write(json.dumps(row) + "\n")
    kinds = await compare(tmp_path, kinds=("bottom-up", "top-down"), half="odd", embedder="embedded", limit=4)
    assert [quality.name for quality in kinds] == ["bottom-up", "bottom-up, collapsed", "top-down"]
    living, rebuilt = await turn_over(tmp_path, half="odd", embedder="embedded", limit=4)
    assert living.leaves == rebuilt.leaves
