"""Hybrid trees, and which tree is built when nobody says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.stand_in import stand_in_model
from branchwise.stores.index import Index
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.shape import LARGE, choose_kind

MakeDocuments = Callable[..., list[Document]]


async def test_documents_are_the_pseudo_leaves(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Passages of one document stand in clusters of that document, whatever the topics above them."""
    documents = make_documents(24, sentences=30)
    config = BuildConfig(tree="hybrid", max_children=8, max_chars=400, min_chars=100)
    await build(documents, tmp_path / "index", config)
    with Index.open(tmp_path / "index") as index:
        assert index.verify() == []
        tree = index.tree
        clusters = [node_id for node_id in tree.inner_ids if tree.is_leaf(tree.children(node_id)[0])]
        pure = [len({leaf.split("#")[0] for leaf in tree.children(node_id)}) == 1 for node_id in clusters]
    assert sum(pure) == len(pure)


async def test_each_cluster_is_summarised_once(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """With a model, a cluster costs one summary, and the topics above it cost no summary of their own."""
    model = stand_in_model()
    config = BuildConfig(tree="hybrid", max_children=6)
    await build(make_documents(80), tmp_path / "index", config, asker=Asker(model))
    with Index.open(tmp_path / "index") as index:
        tree = index.tree
        clusters = sum(tree.is_leaf(tree.children(node_id)[0]) for node_id in tree.inner_ids)
    asked = [request.name for request in model.requests]
    assert asked.count("summarise.v1") >= clusters
    assert asked.count("summarise.v1") <= len(tree.inner_ids)
    assert asked.count("topics.v1") >= 1


@pytest.mark.parametrize(
    ("documents", "by_model", "kind"),
    [
        (["a", "b", "c"], True, "bottom-up"),
        (["a", "a", "b"], True, "hybrid"),
        (["a", "a", "b"], False, "bottom-up"),
        ([str(number) for number in range(LARGE)], True, "hybrid"),
    ],
)
def test_auto_follows_the_corpus_and_the_writer(documents: list[str], by_model: bool, kind: str) -> None:
    """With a model, hybrid where documents have several passages or are many; without one, what measured best."""
    assert choose_kind("auto", documents, by_model=by_model) == kind
    assert choose_kind("top-down", documents, by_model=by_model) == "top-down"
