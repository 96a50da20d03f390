"""The health of a tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.index import Index
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.health import Spread, measure

MakeDocuments = Callable[..., list[Document]]


async def test_a_good_tree_is_healthy(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Balanced, without chains, lost text or faults; sizes and depths add up."""
    await build([*make_documents(60), Document(doc_id="twin", text=make_documents(1)[0].text)], tmp_path / "index")
    with Index.open(tmp_path / "index") as index:
        health = measure(index)
        leaves, inner = len(index.tree.leaf_ids), len(index.tree.inner_ids)
    assert (health.leaves, health.inner, health.duplicates) == (leaves, inner, 1)
    assert sum(health.level_sizes) == leaves + inner
    assert sum(health.leaf_depth.values()) == leaves
    assert health.fan_out.most <= 16
    assert health.balance > 0.9
    assert (health.single_children, health.orphaned_characters, health.faults) == (0, 0, ())
    assert 0 <= health.confusable < 0.5
    assert health.written_by == {"extractive": inner}


async def test_random_clusters_are_confusable(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Shuffled vectors make clusters that nobody can tell apart, and the measure says so."""
    documents = make_documents(80)
    config = BuildConfig(max_children=8)
    await build(documents, tmp_path / "good", config)
    with Index.open(tmp_path / "good") as index:
        good, embedder = measure(index), index.embedder
        vectors = np.random.default_rng(0).standard_normal(index.leaf_matrix.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    grouped = [Document(doc_id=d.doc_id, text=d.text, metadata={"group": n // 8}) for n, d in enumerate(documents)]
    await build(grouped, tmp_path / "bad", config, embedder=embedder, vectors=vectors)
    with Index.open(tmp_path / "bad") as index:
        assert measure(index).confusable > good.confusable


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_small_trees_have_a_health_too(count: int, tmp_path: Path, make_documents: MakeDocuments) -> None:
    """An empty index, and one of a few leaves, are measured like any other."""
    await build(make_documents(count), tmp_path / "index")
    with Index.open(tmp_path / "index") as index:
        health = measure(index)
    assert health.leaves == count
    assert health.confusions == ()


def test_the_spread_of_nothing_is_zero() -> None:
    """No numbers have no spread."""
    assert Spread.of([]) == Spread()
    assert Spread.of([1, 2, 9]) == Spread(least=1, median=2, mean=4, most=9)
