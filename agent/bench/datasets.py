"""Test collections: documents, queries with what each may not see, and graded judgements, checked as they are read.

Layouts: a BEIR folder (corpus.jsonl, queries.jsonl, qrels/<split>.tsv), TREC files (topics.*, qrels.*, corpus.jsonl)
and BRIGHT as it lies on its hub (agent.bench.bright). Every complaint names file and line. Knows nothing of indexes,
methods or metrics. Tested in tests/bench/test_datasets.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from branchwise.agent.bench.measure import Qrels
from branchwise.agent.bench.trec import numbered_lines, read_qrels, read_topics
from branchwise.stores.errors import InputError
from branchwise.stores.records import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query; `excluded_ids` are documents that must not be seen for it, wherever they would rank."""

    query_id: str
    text: str
    excluded_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A test collection. `documents` is empty where only judgements lie there (an index is then needed).

    `relevance` says in words what counts as relevant, for a judge; `notes` is what the checks found that does not
    forbid measuring, one sentence each.
    """

    name: str
    queries: tuple[Query, ...]
    qrels: Qrels
    documents: tuple[Document, ...] = ()
    relevance: str = ""
    notes: tuple[str, ...] = ()

    def query(self, query_id: str) -> Query:
        """The query of this id. Raises InputError."""
        for query in self.queries:
            if query.query_id == query_id:
                return query
        raise InputError(f"dataset {self.name!r} has no query {query_id!r}")

    def only(self, queries: Iterable[Query]) -> Dataset:
        """The same collection with these queries and their judgements alone."""
        kept = tuple(queries)
        ids = {query.query_id for query in kept}
        return replace(self, queries=kept, qrels={q: grades for q, grades in self.qrels.items() if q in ids})

    def half(self, parity: str) -> Dataset:
        """Every second query by position: "even" to tune on, "odd" to report."""
        if parity not in ("even", "odd"):
            raise InputError(f"half is 'even' or 'odd', not {parity!r}")
        return self.only(self.queries[0 if parity == "even" else 1 :: 2])


def read_dataset(path: Path, *, split: str = "test", subset: str = "", long: bool = False) -> Dataset:
    """Read the collection at `path`, whichever layout it has. Raises InputError with file and line.

    `split` names the qrels of a BEIR folder; `subset` ("biology") and `long` (whole documents as the unit) belong to
    BRIGHT's layout. The path xlangai/BRIGHT, where no such folder is, means the hub: it is fetched.
    """
    if not path.is_dir() and path.as_posix() == "xlangai/BRIGHT":
        from branchwise.agent.bench.bright import fetch_bright

        return fetch_bright(subset, long=long)
    if not path.is_dir():
        raise InputError(
            f"{path}: not a folder", hint="give a BEIR folder, a BRIGHT download or a folder of TREC files"
        )
    if (path / "examples").is_dir():
        from branchwise.agent.bench.bright import read_bright

        return read_bright(path, subset, long=long)
    if (path / "queries.jsonl").exists():
        return read_beir(path, split=split)
    return read_trec(path)


def read_beir(folder: Path, *, split: str = "test") -> Dataset:
    """Read a BEIR folder; a query may carry `excluded_ids`. Raises InputError with file and line."""
    qrels_path = folder / "qrels" / f"{split}.tsv"
    if not qrels_path.exists():
        there = ", ".join(sorted(p.stem for p in (folder / "qrels").glob("*.tsv"))) or "none"
        raise InputError(f"{qrels_path}: no such qrels", hint=f"splits that are there: {there}")
    queries = tuple(_beir_queries(folder / "queries.jsonl"))
    documents = read_corpus(folder / "corpus.jsonl") if (folder / "corpus.jsonl").exists() else ()
    return check_dataset(
        Dataset(name=folder.name, queries=queries, qrels=read_qrels(qrels_path), documents=documents), qrels_path
    )


def read_trec(folder: Path) -> Dataset:
    """Read TREC topics (`topics*`), judgements (`qrels*`) and, where it is there, `corpus.jsonl`."""
    topics_path, qrels_path = _one_file(folder, "topics*"), _one_file(folder, "qrels*")
    queries = tuple(Query(query_id=number, text=text) for number, text in read_topics(topics_path).items())
    documents = read_corpus(folder / "corpus.jsonl") if (folder / "corpus.jsonl").exists() else ()
    return check_dataset(
        Dataset(name=folder.name, queries=queries, qrels=read_qrels(qrels_path), documents=documents), qrels_path
    )


def read_corpus(path: Path) -> tuple[Document, ...]:
    """Documents of a corpus.jsonl ({_id, title, text}). Raises InputError on a missing or doubled id."""
    seen: dict[str, int] = {}
    documents = []
    for number, row in json_lines(path):
        doc_id = _identifier(row, path, number, seen)
        title, text = row.get("title") or "", row.get("text")
        if not isinstance(text, str) or not isinstance(title, str):
            raise InputError(f"{path}:{number}: document {doc_id!r} has no text")
        documents.append(Document(doc_id=doc_id, text=text, title=title, source=f"{path.name}:{number}"))
    if not documents:
        raise InputError(f"{path}: holds no document")
    return tuple(documents)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a .jsonl file with their line numbers. Raises InputError on a line that is no JSON object."""
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: a JSON object is expected, not {type(row).__name__}")
        yield number, row


def check_dataset(dataset: Dataset, qrels_path: Path | None = None) -> Dataset:
    """Keep the queries that are judged, refuse judgements of unknown queries, and note gold that no document holds.

    Queries without judgements belong to another split. Gold that is missing from the corpus can be found by nobody:
    it stays in the qrels, costs every method the same, and is named in `notes`.
    """
    known = {query.query_id for query in dataset.queries}
    stranger = next((query for query in dataset.qrels if query not in known), None)
    if stranger is not None:
        raise InputError(
            f"{_place(qrels_path, stranger, column=0)}: query {stranger!r} is judged but not among the queries"
        )
    notes = list(dataset.notes)
    if dataset.documents:
        there = {document.doc_id for document in dataset.documents}
        gold = [(q, d) for q, grades in dataset.qrels.items() for d, grade in grades.items() if grade > 0]
        lost = [(query, document) for query, document in gold if document not in there]
        if lost and len(lost) == len(gold):
            raise InputError(
                f"{qrels_path or dataset.name}: none of the {len(gold)} relevant documents is in the corpus",
                hint="corpus and qrels do not belong together",
            )
        if lost:
            first = lost[0][1]
            notes.append(
                f"{len(lost)} of {len(gold)} relevant documents are not in the corpus and count as never found "
                f"(the first: {first!r}, {_place(qrels_path, first, column=-2)})"
            )
    judged = tuple(query for query in dataset.queries if query.query_id in dataset.qrels)
    return replace(dataset, queries=judged, notes=tuple(notes))


def _beir_queries(path: Path) -> Iterator[Query]:
    seen: dict[str, int] = {}
    for number, row in json_lines(path):
        query_id = _identifier(row, path, number, seen)
        text, excluded = row.get("text"), row.get("excluded_ids") or []
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}:{number}: query {query_id!r} has no text")
        if not isinstance(excluded, list) or not all(isinstance(item, str) for item in excluded):
            raise InputError(f"{path}:{number}: excluded_ids of query {query_id!r} is not a list of ids")
        yield Query(query_id=query_id, text=text, excluded_ids=frozenset(excluded))


def _identifier(row: Mapping[str, Any], path: Path, number: int, seen: dict[str, int]) -> str:
    """The row's id as text, entered into `seen`. Raises InputError where it is missing or stands a second time."""
    found = row.get("_id", row.get("id"))
    if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
        raise InputError(f"{path}:{number}: no _id")
    identifier = str(found)
    if identifier in seen:
        raise InputError(f"{path}:{number}: _id {identifier!r} stands already in line {seen[identifier]}")
    seen[identifier] = number
    return identifier


def _place(path: Path | None, value: str, *, column: int) -> str:
    """Where `value` stands in the qrels, as file:line."""
    if path is None:
        return "the examples' gold ids"
    for number, line in numbered_lines(path):
        if value == (line.split("\t") if "\t" in line else line.split())[column]:
            return f"{path}:{number}"
    return str(path)


def _one_file(folder: Path, pattern: str) -> Path:
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) != 1:
        kind = pattern.rstrip("*")
        raise InputError(
            f"{folder}: {len(found)} files named {pattern}, one is needed",
            hint=f"a folder needs queries.jsonl and qrels/test.tsv (BEIR), or one {kind} file beside topics and qrels",
        )
    return found[0]
