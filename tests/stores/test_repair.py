"""What is derived can be made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from branchwise.stores.embedding import make_embedder
from branchwise.stores.errors import IndexCorrupt, IndexMismatch
from branchwise.stores.index import Index
from branchwise.stores.repair import rebuild_vectors, reembed
from tests.stores.conftest import TEXTS


@pytest.mark.parametrize("damage", ["gone", "truncated", "garbage"])
def test_chroma_is_rebuilt_from_the_tree_file(index_path: Path, damage: str) -> None:
    """Whatever became of Chroma's files, texts and vectors are back, in a new generation."""
    chroma = index_path / "generations" / "1" / "chroma"
    if damage == "gone":
        shutil.rmtree(chroma)
    elif damage == "truncated":
        (chroma / "chroma.sqlite3").write_bytes((chroma / "chroma.sqlite3").read_bytes()[:5000])
    else:
        (chroma / "chroma.sqlite3").write_bytes(b"not a database" * 500)
    with Index.open(index_path) as index, pytest.raises(IndexCorrupt, match="chroma"):
        index.texts(["p:d0"])
    seen: list[int] = []
    rebuild_vectors(index_path, progress=seen.append)
    assert sum(seen) == 9
    with Index.open(index_path) as index:
        assert index.texts(["p:d0"]) == {"p:d0": TEXTS[0]}
        assert index.manifest.generation == 2
        assert index.manifest.counts["leaves"] == 6
        assert index.verify() == []


def test_reembedding_keeps_tree_and_summaries(index_path: Path) -> None:
    """The new embedder opens what the old one no longer can; node ids, parts and texts are the same."""
    other = make_embedder("embedded", texts=[*TEXTS, "entirely new words make another embedder"])
    with Index.open(index_path) as index:
        before = [index.node(node_id) for node_id in (*index.tree.leaf_ids, *index.tree.inner_ids)]
        corpus = index.manifest.corpus_hash
    with pytest.raises(IndexMismatch):
        Index.open(index_path, embedder=other)
    reembed(index_path, other)
    with Index.open(index_path, embedder=other) as index:
        assert [index.node(node_id) for node_id in (*index.tree.leaf_ids, *index.tree.inner_ids)] == before
        assert index.manifest.embedding["fingerprint"] == other.fingerprint
        assert index.manifest.corpus_hash == corpus
        assert index.leaf_matrix.shape[1] == other.dimension
        assert index.verify() == []
