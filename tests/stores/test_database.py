"""tree.sqlite: everything written is read back as it was."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from branchwise.stores.database import DATABASE, Database, DatabaseWriter
from branchwise.stores.errors import IndexCorrupt
from branchwise.stores.records import Document, Origin, Passage
from tests.stores.conftest import TEXTS, documents_of, passages_of, tree_of

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_scalar = st.one_of(
    _text, st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)


@st.composite
def documents(draw: st.DrawFn) -> list[Document]:
    """Up to five documents with any text and metadata."""
    return [
        Document(
            doc_id=f"{i}{draw(_text)}",
            text=draw(_text),
            title=draw(_text),
            source=draw(_text),
            metadata=draw(st.dictionaries(_text, _scalar, max_size=3)),
            page_starts=tuple(draw(st.lists(st.integers(0, 30), max_size=3))),
        )
        for i in range(draw(st.integers(0, 5)))
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents())
def test_any_document_and_passage_comes_back(tmp_path_factory: pytest.TempPathFactory, given_: list[Document]) -> None:
    """Ids, texts, spans, metadata types, pages and duplicates, in order."""
    folder = tmp_path_factory.mktemp("database")
    twins = (
        Origin(passage_id="x", doc_id="y", start=1, end=2, page=3),
        Origin(passage_id="z", doc_id="y", start=4, end=5),
    )
    passages = [
        Passage(
            passage_id=d.doc_id,
            doc_id=d.doc_id,
            text=d.text,
            start=i,
            end=i + 1,
            title=d.title,
            page=None if i else 7,
            position=i,
            metadata=d.metadata,
            duplicates=twins[:i],
        )
        for i, d in enumerate(given_)
    ]
    writer = DatabaseWriter(folder)
    assert writer.add_documents(given_) == writer.add_passages(passages) == len(given_)
    writer.write_tree(tree_of(passages, max_children=2))
    writer.finish()
    with Database(folder) as database:
        assert list(database.documents()) == given_
        assert list(database.all_passages()) == passages
        assert database.passages([p.passage_id for p in passages]) == {p.passage_id: p for p in passages}
        assert database.check() == []


def write(folder: Path) -> Path:
    """Six documents and their tree."""
    passages = passages_of(documents_of(TEXTS))
    writer = DatabaseWriter(folder)
    writer.add_documents(documents_of(TEXTS))
    writer.add_passages(passages)
    writer.write_tree(tree_of(passages))
    writer.finish()
    return folder


def test_tree_comes_back_without_texts(tmp_path: Path) -> None:
    """Shape, titles, depths and home parents are those that were written."""
    tree = tree_of(passages_of(documents_of(TEXTS)))
    with Database(write(tmp_path)) as database:
        read = database.read_tree()
        assert (read.leaf_ids, read.inner_ids, read.max_children) == (tree.leaf_ids, tree.inner_ids, 3)
        for node_id in (*tree.leaf_ids, *tree.inner_ids):
            assert read.children(node_id) == tree.children(node_id)
            written, found = tree.node(node_id), read.node(node_id)
            assert (found.parent_ids, found.depth, found.title) == (written.parent_ids, written.depth, written.title)
            assert database.parts(node_id) == written.parts
        assert read.check() == []


def test_many_threads_may_read_at_once(tmp_path: Path) -> None:
    """Eight threads, one connection, no error and no mixed rows."""
    failed: list[BaseException] = []
    with Database(write(tmp_path)) as database:

        def read() -> None:
            """Ask for everything, often."""
            try:
                for turn in range(50):
                    assert database.document(f"d{turn % 6}").text == TEXTS[turn % 6]
                    assert len(database.passages(["d0", "d1"])) == 2
                    assert len(database.origins()) == 6
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def test_damage_is_corrupt_and_names_the_file(tmp_path: Path) -> None:
    """A file that is no database, and one that is gone."""
    write(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"x" * 8192)
    with Database(tmp_path) as database:
        with pytest.raises(IndexCorrupt, match=r"tree\.sqlite"):
            database.read_tree()
        assert "tree.sqlite" in database.check()[0]
    (tmp_path / DATABASE).unlink()
    with pytest.raises(IndexCorrupt, match="gone"):
        Database(tmp_path)
