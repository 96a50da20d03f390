"""An index opened for reading: what it gives, what it refuses, and how it says so."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.embedding import make_embedder
from branchwise.stores.errors import IndexCorrupt, IndexMismatch, IndexMissing
from branchwise.stores.index import Index
from branchwise.stores.manifest import read_manifest
from branchwise.stores.records import Origin, Passage
from tests.stores.conftest import TEXTS, fill, write_index


def test_everything_that_was_written_is_read_back(built: Path) -> None:
    """Nodes with text and parts, passages, documents, matrices and both ways of finding leaves."""
    with Index.open(built) as index:
        node = index.node("n:000000000000")
        assert (node.text, len(node.parts), node.depth) == ("Group n:000000000000.", 3, 1)
        assert index.node("p:d1").text == TEXTS[1]
        assert index.texts(["p:d0", "n:root", "p:d0"]) == {"p:d0": TEXTS[0], "n:root": "Everything."}
        assert index.passage("d2").text == TEXTS[2]
        assert [passage.passage_id for passage in index.iter_passages()] == [f"d{i}" for i in range(6)]
        assert [document.text for document in index.iter_documents()] == list(TEXTS)
        assert index.document("d3").metadata == {"year": 2021, "draft": False}
        assert index.passages(["d4", "nobody"]).keys() == {"d4"}
        for doc_id in [*(f"d{i}" for i in range(6)), "nobody"]:
            there = [p for p in index.iter_passages() if doc_id in {p.doc_id, *(twin.doc_id for twin in p.duplicates)}]
            assert sorted(index.passages_of(doc_id), key=lambda p: p.passage_id) == there
        assert index.leaf_matrix.shape == (6, index.embedder.dimension)
        assert index.inner_matrix.shape[0] == 3
        assert index.tree.leaf_ids[index.lexical.top("honey", 1)[0][0]] == "p:d5"
        assert index.vectors.nearest(index.embedder.embed_query("honey hive"), 1)[0][0] == "p:d5"
        np.testing.assert_allclose(index.vectors.vectors(["p:d3"])[0], index.leaf_matrix[3], atol=1e-6)
        assert index.vectors.count() == 9
        assert index.tree.check() == []
        assert index.verify() == []


def test_manifest_tells_what_the_index_is(built: Path) -> None:
    """Counts, embedding and title are there; no key and no path of this machine."""
    manifest = read_manifest(built)
    assert manifest.counts == {"documents": 6, "passages": 6, "leaves": 6, "inner": 3, "depth": 2}
    assert manifest.embedding["name"] == "embedded"
    assert (manifest.title, manifest.generation) == ("Test", 1)
    assert str(built.parent) not in (built / "manifest.json").read_text(encoding="utf-8")


def test_unknown_ids_are_missing(built: Path) -> None:
    """Not an empty answer: IndexMissing, naming the id."""
    with Index.open(built) as index:
        for ask in (index.node, index.passage, index.document, lambda name: index.texts([name])):
            with pytest.raises(IndexMissing, match="p:nobody"):
                ask("p:nobody")


def test_no_index_names_the_command_that_builds_one(tmp_path: Path) -> None:
    """A folder without a manifest, or no folder, is IndexMissing."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(IndexMissing, match="branchwise build"):
            Index.open(path)


def test_another_format_version_is_a_mismatch(index_path: Path) -> None:
    """Found before anything else is read, with the command that mends it."""
    manifest = json.loads((index_path / "manifest.json").read_text(encoding="utf-8"))
    manifest["format_version"] = 999
    (index_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(IndexMismatch, match=r"version 999[\s\S]*branchwise build"):
        Index.open(index_path)


def test_another_embedder_is_a_mismatch(built: Path) -> None:
    """A changed fingerprint gives one error that names both and the command that re-embeds."""
    other = make_embedder("embedded", texts=["something else entirely"])
    with pytest.raises(IndexMismatch, match=r"tfidf-svd[\s\S]*branchwise reembed"):
        Index.open(built, embedder=other)


@pytest.mark.parametrize(
    "name", ["tree.sqlite", "vectors.npy", "lexical/lexical.json", "embedder/basis.npy", "files.json"]
)
@pytest.mark.parametrize("how", ["truncated", "gone"])
def test_a_damaged_file_is_named(index_path: Path, name: str, how: str) -> None:
    """Truncated or deleted: opening says IndexCorrupt and which file."""
    path = index_path / "generations" / "1" / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(IndexCorrupt, match=path.name.replace(".", r"\.")):
        Index.open(index_path)


@pytest.mark.parametrize("name", ["tree.sqlite", "vectors.npy", "lexical/vocab.index.json"])
def test_flipped_bytes_are_found_by_verify(index_path: Path, name: str) -> None:
    """The size is right and the contents are not: verify reads every byte."""
    path = index_path / "generations" / "1" / name
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF
    path.write_bytes(content)
    with Index.open(index_path) as index:
        assert any(path.name in line for line in index.verify())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}'])
def test_a_damaged_manifest_is_named(index_path: Path, content: str) -> None:
    """Whatever is wrong with it."""
    (index_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(IndexCorrupt, match=r"manifest\.json"):
        Index.open(index_path)


def test_lost_chroma_is_corrupt_and_the_rest_still_opens(index_path: Path) -> None:
    """Texts fail with the folder's name; passages come from SQLite all the same."""
    shutil.rmtree(index_path / "generations" / "1" / "chroma")
    with Index.open(index_path) as index:
        with pytest.raises(IndexCorrupt, match="chroma"):
            index.texts(["p:d0"])
        assert index.passage("d0").text == TEXTS[0]
        assert "chroma" in index.verify()[0]


def test_filters_and_exclusions_choose_rows(built: Path) -> None:
    """Equal, one of several, as text, by document; nothing asked is None, not all True."""
    with Index.open(built) as index:
        allowed = lambda filters, excluded=(): index.allowed_rows(filters, frozenset(excluded)).tolist()  # noqa: E731
        assert index.allowed_rows({}, frozenset()) is None
        assert allowed({"year": 2020}) == [True, False] * 3
        assert allowed({"year": "2020"}) == [True, False] * 3
        assert allowed({"year": (2020, 2021)}) == [True] * 6
        assert allowed({"draft": True}) == [True] + [False] * 5
        assert allowed({"draft": "false", "year": 2020}) == [False, False, True, False, True, False]
        assert allowed({"colour": "red"}) == [False] * 6
        assert allowed({"year": 2020}, ["d0"]) == [False, False, True, False, True, False]
        assert allowed({}, ["d1", "nobody"]) == [True, False, True, True, True, True]


def test_a_leaf_is_excluded_only_with_all_its_origins(tmp_path: Path) -> None:
    """A merged duplicate keeps the leaf while one of its places may be seen."""
    from branchwise.stores.lexical import LexicalIndex
    from branchwise.stores.manifest import Manifest
    from branchwise.stores.staging import stage
    from tests.stores.conftest import documents_of, tree_of

    documents = documents_of(["one text", "one text", "another"])
    twin = Origin(passage_id="d1#0", doc_id="d1", start=0, end=8)
    passages = [
        Passage(
            passage_id="d0#0", doc_id="d0", text="one text", start=0, end=8, duplicates=(twin,), metadata={"year": 2020}
        ),
        Passage(passage_id="d2#0", doc_id="d2", text="another", start=0, end=7, metadata={"year": 2020}),
    ]
    texts = [passage.text for passage in passages]
    embedder = make_embedder("embedded", texts=texts)
    tree = tree_of(passages)
    with stage(tmp_path) as staging:
        staging.add_documents(documents)
        staging.add_passages(passages)
        staging.write_tree(tree)
        staging.write_vectors(embedder.embed_texts(texts), embedder.embed_texts([""]))
        staging.write_embedder(embedder)
        staging.write_lexical(LexicalIndex.build(texts))
        staging.publish(Manifest())
    with Index.open(tmp_path) as index:
        assert index.passage("d0#0").duplicates == (twin,)
        assert index.manifest.counts["passages"] == 3
        for excluded, row in [({"d0"}, True), ({"d1#0"}, True), ({"d0", "d1"}, False), ({"d0#0", "d1"}, False)]:
            assert index.allowed_rows({}, frozenset(excluded)).tolist() == [row, True]  # type: ignore[union-attr]
        assert index.allowed_rows({"year": 2021}, frozenset()).tolist() == [True, False]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_smallest_corpora_open(tmp_path: Path, count: int) -> None:
    """No, one and two passages."""
    write_index(tmp_path / "index", TEXTS[:count])
    with Index.open(tmp_path / "index") as index:
        assert index.verify() == []
        assert index.leaf_matrix.shape[0] == count
        assert index.lexical.top("stove", 5) == [] or count
        assert index.texts(["n:root"]) == {"n:root": "Everything."}


def test_a_reader_keeps_its_generation_while_others_are_published(index_path: Path) -> None:
    """What was opened stays whole over five publications; a new reader sees the newest."""
    from branchwise.stores.manifest import Manifest
    from branchwise.stores.staging import stage

    with Index.open(index_path) as old:
        for _ in range(5):
            with stage(index_path) as staging:
                fill(staging, TEXTS[:3])
                staging.publish(Manifest(title="newer"))
        assert old.passage("d5").text == TEXTS[5]
        assert old.texts(["p:d5"]) == {"p:d5": TEXTS[5]}
        assert old.verify() == []
        kept = {entry.name for entry in (index_path / "generations").iterdir()}
        assert kept == {"1", "5", "6"}
    with Index.open(index_path) as new:
        assert len(new.tree.leaf_ids) == 3
    write_index(index_path)
    assert {entry.name for entry in (index_path / "generations").iterdir()} == {"6", "7"}


def test_what_may_not_be_written_is_copied_first(index_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system says read-only, reading and verifying leave every byte of Chroma's folder as it was."""
    chroma = index_path / "generations" / "1" / "chroma"
    before = {path: path.read_bytes() for path in chroma.rglob("*") if path.is_file()}
    monkeypatch.setattr("branchwise.stores.vectors.os.access", lambda *_: False)
    with Index.open(index_path) as index:
        assert index.texts(["p:d0"]) == {"p:d0": TEXTS[0]}
        assert index.verify() == []
    assert {path: path.read_bytes() for path in chroma.rglob("*") if path.is_file()} == before


def test_a_read_only_folder_opens(index_path: Path) -> None:
    """Texts come from a temporary copy of Chroma, since Chroma writes when it opens."""
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    for path in (index_path, *index_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with Index.open(index_path) as index:
            assert index.texts(["p:d0"]) == {"p:d0": TEXTS[0]}
    finally:
        for path in (index_path, *index_path.rglob("*")):
            path.chmod(0o755)
