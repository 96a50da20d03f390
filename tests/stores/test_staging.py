"""Writing a generation: all of it, or none."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores import staging as staging_module
from branchwise.stores.errors import IndexCorrupt, IndexLocked, InputError
from branchwise.stores.index import Index
from branchwise.stores.manifest import Manifest, read_manifest
from branchwise.stores.records import Document, TreeNode
from branchwise.stores.staging import stage
from branchwise.stores.tree import SemanticTree
from tests.stores.conftest import TEXTS, documents_of, fill, passages_of, tree_of, write_index


def test_an_exception_leaves_the_old_index_as_it_was(index_path: Path) -> None:
    """No half generation, no leftovers, the lock free again."""
    before = sorted(path.relative_to(index_path) for path in index_path.rglob("*"))

    def fail_halfway() -> None:
        """Write everything but publish nothing."""
        with stage(index_path) as staging:
            fill(staging, TEXTS[:2])
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    after = sorted(path.relative_to(index_path) for path in index_path.rglob("*"))
    assert [path for path in after if path.name != "lock"] == [path for path in before if path.name != "lock"]
    with Index.open(index_path) as index:
        assert len(index.tree.leaf_ids) == 6
    write_index(index_path)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """The second is told at once; readers are not affected."""
    path = write_index(tmp_path / "index")
    with stage(path):
        with pytest.raises(IndexLocked, match="Another process is writing"):
            stage(path)
        Index.open(path).close()
    with stage(path):
        pass


def test_what_a_dead_writer_left_is_swept(index_path: Path) -> None:
    """Staging folders and unpublished generations go; the current one and its predecessor stay."""
    generations = index_path / "generations"
    for name in ("staging-dead", "gone-dead", "99"):
        (generations / name).mkdir()
    (index_path / "restoring-dead").mkdir()
    write_index(index_path)
    assert {entry.name for entry in generations.iterdir()} == {"1", "2"}
    assert not (index_path / "restoring-dead").exists()


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    """The caller's mistake, in one line."""
    path = tmp_path / "notes.txt"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.txt"):
        stage(path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_ids_are_unique(tmp_path: Path) -> None:
    """Two documents or passages of one id are refused, and nothing is published."""
    documents = documents_of(TEXTS)
    with stage(tmp_path) as staging, pytest.raises(InputError, match="doc_id"):
        staging.add_documents([*documents, documents[0]])
    with stage(tmp_path) as staging, pytest.raises(InputError, match="passage_id"):
        staging.add_passages(passages_of([documents[0], documents[0]]))


def test_text_that_is_not_unicode_is_refused_by_name(tmp_path: Path) -> None:
    """A lone surrogate is an InputError, not a crash."""
    with stage(tmp_path) as staging, pytest.raises(InputError, match="not valid Unicode"):
        staging.add_documents([Document(doc_id="d", text="broken \ud800")])


def test_vectors_must_fit_the_tree(tmp_path: Path) -> None:
    """A row too few is a mistake of the builder and raises at once."""
    with stage(tmp_path) as staging:
        passages = passages_of(documents_of(TEXTS))
        staging.add_passages(passages)
        staging.write_tree(tree_of(passages))
        with pytest.raises(ValueError, match=r"\(5, 3\) vectors .* \(6, 3\) nodes"):
            staging.write_vectors(np.zeros((5, 4), np.float32), np.zeros((3, 4), np.float32))


def test_an_unsound_tree_is_not_published(index_path: Path) -> None:
    """Verification stands between writing and publishing."""
    with stage(index_path) as staging:
        passages = passages_of(documents_of(TEXTS[:3]))
        nodes = [TreeNode(node_id=f"p:{p.passage_id}", passage_id=p.passage_id) for p in passages]
        children = {"n:root": [node.node_id for node in nodes]}
        tree = SemanticTree.from_nodes([*nodes, TreeNode(node_id="n:root")], children, max_children=2)
        staging.add_passages(passages)
        staging.write_tree(tree)
        staging.write_vectors(np.zeros((3, 4), np.float32), np.zeros((1, 4), np.float32))
        staging.keep_embedder(read_manifest(index_path))
        with pytest.raises(IndexCorrupt, match="2 are allowed"):
            staging.publish(Manifest())
    assert read_manifest(index_path).generation == 1


def test_what_chroma_lost_is_found_before_publishing(index_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that drops rows silently does not get published."""
    real = staging_module.build_vectors

    def lossy(name: str, nodes, leaves, inner, *, folder, url, progress) -> None:  # type: ignore[no-untyped-def]
        """Write all but the first leaf."""

        def most(leaves_only: bool):  # type: ignore[no-untyped-def]
            """The rows but for one."""
            rows = list(nodes(leaves_only))
            return iter(rows[1:] if leaves_only else rows)

        real(name, most, leaves[1:], inner, folder=folder, url=url, progress=progress)

    monkeypatch.setattr(staging_module, "build_vectors", lossy)
    with pytest.raises(IndexCorrupt, match="holds 5 leaves instead of 6"):
        write_index(index_path)
    assert read_manifest(index_path).generation == 1


def test_same_corpus_has_the_same_hash(tmp_path: Path) -> None:
    """The corpus hash follows ids, titles, texts and metadata, and nothing else."""
    hashes = [
        read_manifest(write_index(tmp_path / name, texts)).corpus_hash
        for name, texts in (("a", TEXTS), ("b", TEXTS), ("c", TEXTS[1:]))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_tree_file_is_the_same_bytes(tmp_path: Path) -> None:
    """Two builds from the same inputs agree in every file but Chroma's."""
    paths = [write_index(tmp_path / name) / "generations" / "1" for name in ("a", "b")]
    for name in ("tree.sqlite", "vectors.npy", "files.json"):
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()


def test_any_text_survives(tmp_path: Path) -> None:
    """NUL, emoji, every script, quotes and line ends come back as they were, from SQLite and from Chroma."""
    texts = ["a\x00b", "\U0001f333 tree", "line\r\nend\u2028", "\"quoted\" 'it'", "東京 ไทย العربية", " "]
    write_index(tmp_path / "Ünï çødé", texts)
    with Index.open(tmp_path / "Ünï çødé") as index:
        assert [document.text for document in index.iter_documents()] == texts
        assert list(index.texts(index.tree.leaf_ids).values()) == texts


def test_sqlite_has_no_journal_left(built: Path) -> None:
    """The published database opens from a read-only medium: no WAL, no journal."""
    folder = built / "generations" / "1"
    assert sorted(path.name for path in folder.glob("tree.sqlite*")) == ["tree.sqlite"]
    with sqlite3.connect(f"file:{(folder / 'tree.sqlite').as_posix()}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
