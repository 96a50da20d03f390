"""The builder on Ray Data gives the local tree."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.embedding import make_embedder
from branchwise.stores.errors import InputError
from branchwise.stores.index import Index
from branchwise.stores.records import Document
from branchwise.tree_builder import cluster, ray_engine
from branchwise.tree_builder.bottom_up import bottom_up
from branchwise.tree_builder.build import build
from branchwise.tree_builder.chunk import chunk
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import passage_text
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.outline import leaf_id
from branchwise.tree_builder.ray_engine import RaySummariser
from branchwise.tree_builder.summarise import ChildText, ExtractiveSummariser
from branchwise.tree_builder.terms import TermTable
from branchwise.tree_builder.write import write_texts
from tests.loopback.chroma import run_chroma

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the [ray] extra is not installed")


ENDS = """
import asyncio, sys
from branchwise.tree_builder.ray_engine import each_on_ray
for start in (0, 10):
    assert each_on_ray(abs, range(-start - 3, 0)) == list(range(start + 3, 0, -1))
async def inside():
    return await asyncio.to_thread(each_on_ray, abs, [-5, -6])
assert asyncio.run(inside()) == [5, 6]
assert asyncio.run(inside()) == [5, 6]
print("all was done")
"""


@pytest.mark.ray
@needs_ray
def test_ray_outlives_the_thread_that_asked_first() -> None:
    """Work from several threads and event loops goes to one Ray, and the process ends cleanly, nothing left behind."""
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "all was done"), done.stderr


@pytest.mark.ray
@needs_ray
@pytest.mark.parametrize("kind", ["bottom-up", "hybrid", "top-down"])
async def test_ray_gives_the_local_tree(
    kind: str, tmp_path: Path, make_documents: Callable[..., list[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same documents, same seed: the same nodes, edges and vectors, though blocks were grouped on Ray."""
    monkeypatch.setattr(cluster, "BLOCK", 64)  # several blocks, so that there is something to do side by side
    monkeypatch.setattr(ray_engine, "TEXTS", 128)
    monkeypatch.setattr(ray_engine, "NODES", 8)
    trees = []
    for engine in ("local", "ray"):
        config = BuildConfig(tree=kind, max_children=8, engine=engine)  # type: ignore[arg-type]
        await build(make_documents(300), tmp_path / engine, config)
        with Index.open(tmp_path / engine) as index:
            edges = {node_id: index.tree.children(node_id) for node_id in index.tree.inner_ids}
            nodes = [index.node(node_id) for node_id in index.tree.inner_ids]
            trees.append((edges, np.array(index.leaf_matrix), np.array(index.inner_matrix), nodes))
    assert trees[0][0] == trees[1][0]
    assert np.array_equal(trees[0][1], trees[1][1])
    assert np.array_equal(trees[0][2], trees[1][2])
    assert trees[0][3] == trees[1][3]


@pytest.mark.ray
@needs_ray
async def test_ray_writes_the_local_texts(
    make_documents: Callable[..., list[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes and passages that are put into words on Ray read as those that are put into words here."""
    monkeypatch.setattr(ray_engine, "NODES", 8)
    monkeypatch.setattr(ray_engine, "TEXTS", 64)
    passages = [passage for document in make_documents(200) for passage in chunk(document)]
    texts = [passage_text(passage) for passage in passages]
    embedder = make_embedder("embedded", texts=texts)
    table = TermTable.count(texts)
    ids = [leaf_id(passage.passage_id) for passage in passages]
    outline = bottom_up(ids, embedder.embed_texts(texts), ids, max_children=5, seed=0)
    written = []
    for kind in (ExtractiveSummariser, RaySummariser):
        summariser = kind(table, embedder.embed_texts)
        events = EventStream(None)
        nodes = await write_texts(outline, passages, summariser, concurrency=RaySummariser.wishes, events=events)
        written.append((nodes, await summariser.levels(passages)))
    assert written[0] == written[1]


async def test_few_nodes_are_written_here(
    make_documents: Callable[..., list[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is less than a piece never asks for Ray, and a failure reaches whoever asked."""
    monkeypatch.setitem(sys.modules, "ray", None)
    texts = [document.text for document in make_documents(6)]
    summariser = RaySummariser(TermTable.count(texts), make_embedder("embedded", texts=texts).embed_texts)
    children = [
        ChildText(node_id=f"p:{n}", title="", text=text, rows=np.array([n], dtype=np.int32))
        for n, text in enumerate(texts)
    ]
    rows = np.arange(6, dtype=np.int32)
    both = await asyncio.gather(summariser.summarise(children[:3], rows), summariser.summarise(children[3:], rows))
    assert all(summary.keywords for summary in both)
    monkeypatch.setattr(ray_engine, "NODES", 1)
    with pytest.raises(InputError, match="extra"):
        await asyncio.gather(summariser.summarise(children[:3], rows), summariser.summarise(children[3:], rows))


@pytest.mark.ray
@needs_ray
async def test_ray_builds_into_a_chroma_server(
    tmp_path: Path, make_documents: Callable[..., list[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worked on by Ray and kept by a Chroma server, an index is what the local engine keeps in its own folder."""
    monkeypatch.setattr(cluster, "BLOCK", 64)
    monkeypatch.setattr(ray_engine, "TEXTS", 64)
    await build(make_documents(200), tmp_path / "local", BuildConfig(max_children=8))
    with run_chroma(tmp_path / "served") as url:
        await build(make_documents(200), tmp_path / "ray", BuildConfig(max_children=8, engine="ray"), chroma_url=url)
        with Index.open(tmp_path / "local") as local, Index.open(tmp_path / "ray", chroma_url=url) as index:
            assert index.verify() == []
            assert [index.node(node_id) for node_id in index.tree.inner_ids] == [
                local.node(node_id) for node_id in local.tree.inner_ids
            ]
            assert index.vectors.nearest(index.leaf_matrix[7], 1)[0][0] == index.tree.leaf_ids[7]
    assert not list((tmp_path / "ray" / "generations" / "1").glob("chroma*")), "vectors are the server's alone"


async def test_without_the_extra_the_command_is_told(
    tmp_path: Path, make_documents: Callable[..., list[Document]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ray is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(ray_engine, "TEXTS", 8)  # several pieces, so that Ray is asked for
    with pytest.raises(InputError) as caught:
        await build(make_documents(20), tmp_path / "index", BuildConfig(engine="ray"))
    assert "branchwise[ray]" in caught.value.hint
