"""Sequences of records on disk behave like the lists they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from branchwise.stores.database import Database, DatabaseWriter
from branchwise.stores.records import Document, Origin, Passage
from branchwise.stores.rows import titled


def _passages(count: int) -> list[Passage]:
    return [
        Passage(passage_id=f"p{i}", doc_id=f"d{i}", text=f"text {i}", start=0, end=6, title="T" * (i % 2))
        for i in range(count)
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2_100), st.slices(2_100), st.data())
def test_rows_are_a_list_on_disk(
    tmp_path_factory: pytest.TempPathFactory, count: int, some: slice, data: st.DataObject
) -> None:
    """Length, order, any index and any slice are those of a list, also after some rows were merged into others."""
    passages = _passages(count)
    copies = set(data.draw(st.lists(st.integers(1, count - 1), max_size=5)) if count > 1 else [])
    with DatabaseWriter(tmp_path_factory.mktemp("rows")) as writer:
        assert writer.add_passages(iter(passages)) == count
        writer.merge([0 if row in copies else row for row in range(count)])
        kept = [passage.passage_id for row, passage in enumerate(passages) if row not in copies]
        rows = writer.passages()
        assert len(rows) == len(kept)
        assert [passage.passage_id for passage in rows] == kept
        assert [passage.passage_id for passage in rows[some]] == kept[some]
        assert list(writer.texts()) == [titled(passage.title, passage.text) for passage in rows]
        if kept:
            place = data.draw(st.integers(-len(kept), len(kept) - 1))
            assert rows[place].passage_id == kept[place]
            assert [origin.passage_id for origin in rows[0].duplicates] == [f"p{row}" for row in sorted(copies)]
        with pytest.raises(IndexError):
            rows[len(kept)]


def test_a_merge_hands_on_what_was_merged_before(tmp_path: Path) -> None:
    """The duplicates of a copy become duplicates of what it is merged into, after its own."""
    origin = [Origin(passage_id=f"o{i}", doc_id="x", start=0, end=1) for i in range(2)]
    first, second = _passages(2)
    with DatabaseWriter(tmp_path) as writer:
        writer.add_documents([Document(doc_id="x", text="o")])
        given_ = [
            Passage(passage_id="a", doc_id="x", text="t", start=0, end=1, duplicates=(origin[0],)),
            Passage(passage_id="b", doc_id="x", text="t", start=1, end=2, duplicates=(origin[1],)),
            first,
            second,
        ]
        assert writer.add_passages(given_) == 4
        writer.merge([0, 0, 2, 0])
        writer.finish()
    with Database(tmp_path) as database:
        kept = list(database.all_passages())
        assert [passage.passage_id for passage in kept] == ["a", "p0"]
        assert [twin.passage_id for twin in kept[0].duplicates] == ["o0", "b", "o1", "p1"]
