"""Chroma: embedded and as a server, read back in full, never embedding anything itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.errors import IndexCorrupt, IndexMissing, InputError, ModelUnavailable
from branchwise.stores.index import Index
from branchwise.stores.repair import rebuild_vectors
from branchwise.stores.vectors import NodeVectors, build_vectors, verify_vectors
from tests.loopback.chroma import run_chroma
from tests.stores.conftest import TEXTS, write_index

ROWS = np.eye(4, dtype=np.float32)


def nodes(leaves: bool) -> Iterator[tuple[str, str]]:
    """Three leaves and a root."""
    return iter([(f"p:{i}", f"text {i}") for i in range(3)] if leaves else [("n:root", "all")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four nodes in a Chroma folder."""
    build_vectors("test", nodes, ROWS[:3], ROWS[3:], folder=tmp_path / "chroma")
    return tmp_path / "chroma"


def test_texts_vectors_and_neighbours(folder: Path) -> None:
    """Order of ids does not matter; cosines are exact for few nodes; inner nodes are found only when asked for."""
    vectors = NodeVectors.open("test", folder=folder)
    try:
        assert vectors.texts(["n:root", "p:2", "p:0"]) == {"n:root": "all", "p:2": "text 2", "p:0": "text 0"}
        np.testing.assert_array_equal(vectors.vectors(["p:2", "n:root"]), ROWS[[2, 3]])
        query = np.array([0.0, 0.6, 0.0, 0.8], dtype=np.float32)
        assert vectors.nearest(query, 1) == [("p:1", pytest.approx(0.6, abs=1e-5))]
        assert vectors.nearest(query, 1, leaves_only=False)[0][0] == "n:root"
        assert len(vectors.nearest(query, 99)) == 3
        assert vectors.nearest(query, 0) == []
        assert vectors.count() == 4
        with pytest.raises(IndexMissing, match="p:9"):
            vectors.texts(["p:0", "p:9"])
        with pytest.raises(IndexMissing, match="p:9"):
            vectors.vectors(["p:9"])
    finally:
        vectors.close()


def test_full_scan_finds_every_difference(folder: Path) -> None:
    """A changed text, a changed vector, a lost and an extra node: one sentence each."""
    import chromadb
    from chromadb.config import Settings

    assert verify_vectors("test", nodes, ROWS[:3], ROWS[3:], folder=folder) == []
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    leaves = client.get_collection("test-leaves", embedding_function=None)
    leaves.update(ids=["p:0"], metadatas=[{"text": "other"}])
    leaves.update(ids=["p:1"], embeddings=[[0.0, 0.5, 0.5, 0.0]])
    leaves.delete(ids=["p:2"])
    leaves.add(ids=["p:7"], embeddings=[[1.0, 0.0, 0.0, 0.0]], metadatas=[{"text": "extra"}])
    leaves.add(ids=["p:8"], embeddings=[[1.0, 0.0, 0.0, 0.0]], metadatas=[{"text": "extra"}])
    client.close()  # type: ignore[attr-defined]
    broken = "\n".join(verify_vectors("test", nodes, ROWS[:3], ROWS[3:], folder=folder))
    for told in ("another text of node p:0", "another vector of node p:1", "lacks node p:2", "4 leaves instead of 3"):
        assert told in broken


def test_chroma_neither_embeds_nor_reports(folder: Path) -> None:
    """No embedding function that could download a model, and no telemetry."""
    vectors = NodeVectors.open("test", folder=folder)
    assert vectors._leaves._embedding_function is None
    assert vectors._inner._embedding_function is None
    assert vectors._client.get_settings().anonymized_telemetry is False
    vectors.close()


def test_nothing_there_says_so(tmp_path: Path, folder: Path) -> None:
    """A folder without Chroma is corrupt, a Chroma without our collections lacks them, an address must be one."""
    with pytest.raises(IndexCorrupt, match="gone"):
        NodeVectors.open("test", folder=tmp_path / "nowhere")
    with pytest.raises(IndexMissing, match="other-leaves"):
        NodeVectors.open("other", folder=folder)
    with pytest.raises(InputError, match="address"):
        NodeVectors.open("test", url="://")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """With the command that starts one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelUnavailable, match=r"chroma run --path"):
        NodeVectors.open("test", url=f"http://127.0.0.1:{port}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real `chroma run` on the loopback."""
    with run_chroma(tmp_path / "served") as url:
        yield url


@pytest.mark.slow
def test_a_chroma_server_serves_several_indexes(server: str, tmp_path: Path) -> None:
    """Built into the server, or copied to it later; old generations are dropped from it."""
    from branchwise.stores.manifest import Manifest
    from branchwise.stores.staging import stage
    from tests.stores.conftest import fill

    copied = write_index(tmp_path / "copied", TEXTS[:4])
    with Index.open(copied, chroma_url=server) as index, pytest.raises(IndexMissing, match="no collection"):
        index.texts(["p:d0"])
    rebuild_vectors(copied, chroma_url=server)
    for _ in range(3):
        with stage(tmp_path / "direct", chroma_url=server) as staging:
            fill(staging, TEXTS)
            staging.publish(Manifest())
    for path, count in ((copied, 4), (tmp_path / "direct", 6)):
        with Index.open(path, chroma_url=server) as index:
            assert len(index.texts(index.tree.leaf_ids)) == count
            assert index.vectors.nearest(index.leaf_matrix[1], 1)[0][0] == "p:d1"
            assert index.verify() == []
    identity = index.manifest.index_id
    with pytest.raises(IndexMissing):
        NodeVectors.open(f"branchwise-{identity}-1", url=server)
    NodeVectors.open(f"branchwise-{identity}-2", url=server).close()
