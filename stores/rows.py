"""The rows of tree.sqlite as sequences of records: read when they are asked for, a thousand at a time, never all.

A corpus of a million passages is walked through several times while an index is made of it, and stays on disk. Knows
the columns of documents and passages, nothing of trees. Tested in tests/stores/test_rows.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from branchwise.stores.records import Document, Origin, Passage

Row = tuple[Any, ...]
Query = Callable[[str, Sequence[Any]], list[Row]]
"""Runs one SQL statement and gives all that it found; locking and errors are its business."""
Numbers = npt.NDArray[np.int64]

R = TypeVar("R")
_PIECE = 1_000
"""Rows read at once: a few megabytes of text."""


class Rows(Sequence[R]):
    """The rows of a table with the given `numbers` (n,), ascending, as records that `make` makes of SQL rows.

    `numbers` must be all that the table holds between any two of them. Nothing is kept in memory but the numbers.
    """

    def __init__(self, query: Query, select: str, numbers: Numbers, make: Callable[[list[Row]], Iterable[R]]) -> None:
        """`select` is a statement without conditions, "SELECT ... FROM ..."."""
        self._query = query
        self._select = select
        self._numbers = numbers
        self._make = make

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[R]:
        for start in range(0, len(self), _PIECE):
            yield from self._between(start, min(start + _PIECE, len(self)))

    @overload
    def __getitem__(self, place: int) -> R: ...

    @overload
    def __getitem__(self, place: slice) -> list[R]: ...

    def __getitem__(self, place: int | slice) -> R | list[R]:
        if not isinstance(place, slice):
            sql = f"{self._select} WHERE number = ?"
            return next(iter(self._make(self._query(sql, [int(self._numbers[place])]))))
        start, stop, step = place.indices(len(self))
        if step == 1:
            return list(self._between(start, stop))
        return [self[other] for other in range(start, stop, step)]

    def _between(self, start: int, stop: int) -> Iterable[R]:
        if start >= stop:
            return ()
        ends = [int(self._numbers[start]), int(self._numbers[stop - 1])]
        return self._make(self._query(f"{self._select} WHERE number BETWEEN ? AND ? ORDER BY number", ends))


def document_rows(query: Query) -> Rows[Document]:
    """All documents, in the order in which they were added."""
    return Rows(query, "SELECT * FROM documents", _numbers(query, "documents"), lambda rows: map(make_document, rows))


def passage_rows(query: Query) -> Rows[Passage]:
    """All passages with their duplicates, in the order in which they were added."""
    merged = bool(query("SELECT 1 FROM duplicates LIMIT 1", []))

    def make(rows: list[Row]) -> Iterable[Passage]:
        origins = find_origins(query, [row[1] for row in rows]) if merged else {}
        return (make_passage(row, origins.get(row[1], ())) for row in rows)

    return Rows(query, "SELECT * FROM passages", _numbers(query, "passages"), make)


def text_rows(query: Query) -> Rows[str]:
    """What is embedded and indexed of each passage, in the order in which passages were added."""
    numbers = _numbers(query, "passages")
    return Rows(query, "SELECT title, text FROM passages", numbers, lambda rows: (titled(*row) for row in rows))


def titled(title: str, text: str) -> str:
    """What is embedded and indexed of a passage: its title, then its text."""
    return f"{title}\n{text}" if title else text


def find_origins(query: Query, passage_ids: Sequence[str]) -> dict[str, list[Origin]]:
    """The duplicates of some passages, in order, by passage id."""
    marks = ",".join("?" * len(passage_ids))
    sql = f"SELECT * FROM duplicates WHERE passage_id IN ({marks}) ORDER BY passage_id, rank"  # noqa: S608
    found: dict[str, list[Origin]] = {}
    for passage_id, _, origin_id, doc_id, start, end, page in query(sql, passage_ids):
        origin = Origin(passage_id=origin_id, doc_id=doc_id, start=start, end=end, page=page)
        found.setdefault(passage_id, []).append(origin)
    return found


def make_document(row: Row) -> Document:
    """The record of a row of documents."""
    _, doc_id, text, title, source, metadata, page_starts = row
    return Document(
        doc_id=doc_id,
        text=text,
        title=title,
        source=source,
        metadata=json.loads(metadata),
        page_starts=tuple(json.loads(page_starts)),
    )


def make_passage(row: Row, duplicates: Iterable[Origin] = ()) -> Passage:
    """The record of a row of passages."""
    _, passage_id, doc_id, text, start, end, title, page, position, metadata = row
    return Passage(
        passage_id=passage_id,
        doc_id=doc_id,
        text=text,
        start=start,
        end=end,
        title=title,
        page=page,
        position=position,
        metadata=json.loads(metadata) if metadata != "{}" else {},
        duplicates=tuple(duplicates),
    )


def _numbers(query: Query, table: str) -> Numbers:
    return np.array(query(f"SELECT number FROM {table} ORDER BY number", []), dtype=np.int64).reshape(-1)  # noqa: S608
