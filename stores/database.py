"""tree.sqlite: documents, passages, nodes, edges and parts of one generation, with all texts. The source of truth.

Written once in a staging folder, where its rows can be read back while it grows, then only read. Knows nothing of
generations, vectors or search. Tested in tests/stores/test_database.py.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from branchwise.stores.errors import IndexCorrupt, IndexMissing, InputError
from branchwise.stores.records import Document, Origin, Part, Passage, TreeNode
from branchwise.stores.rows import (
    Row,
    Rows,
    document_rows,
    find_origins,
    make_document,
    make_passage,
    passage_rows,
    text_rows,
)
from branchwise.stores.tree import SemanticTree

if TYPE_CHECKING:
    from typing import Self

    import networkx as nx

DATABASE = "tree.sqlite"
_SCHEMA = """
CREATE TABLE documents (
  number INTEGER PRIMARY KEY, doc_id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, title TEXT NOT NULL,
  source TEXT NOT NULL, metadata TEXT NOT NULL, page_starts TEXT NOT NULL);
CREATE TABLE passages (
  number INTEGER PRIMARY KEY, passage_id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL, text TEXT NOT NULL,
  "start" INTEGER NOT NULL, "end" INTEGER NOT NULL, title TEXT NOT NULL, page INTEGER, position INTEGER NOT NULL,
  metadata TEXT NOT NULL);
CREATE TABLE duplicates (
  passage_id TEXT NOT NULL, rank INTEGER NOT NULL, origin_id TEXT NOT NULL, doc_id TEXT NOT NULL,
  "start" INTEGER NOT NULL, "end" INTEGER NOT NULL, page INTEGER, PRIMARY KEY (passage_id, rank)) WITHOUT ROWID;
CREATE TABLE nodes (
  number INTEGER PRIMARY KEY, node_id TEXT NOT NULL UNIQUE, depth INTEGER NOT NULL, title TEXT NOT NULL,
  text TEXT NOT NULL, passage_id TEXT, written_by TEXT NOT NULL);
CREATE TABLE edges (
  parent INTEGER NOT NULL, position INTEGER NOT NULL, child INTEGER NOT NULL, rank INTEGER NOT NULL,
  PRIMARY KEY (parent, position)) WITHOUT ROWID;
CREATE TABLE parts (
  node_id TEXT NOT NULL, position INTEGER NOT NULL, child_id TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (node_id, position)) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_INDICES = """
CREATE INDEX passages_by_doc ON passages (doc_id);
CREATE INDEX duplicates_by_doc ON duplicates (doc_id);
CREATE INDEX duplicates_by_origin ON duplicates (origin_id);
CREATE INDEX nodes_by_passage ON nodes (passage_id);
"""
_ADD_DUPLICATE = "INSERT INTO duplicates VALUES (?, ?, ?, ?, ?, ?, ?)"


class DatabaseWriter:
    """Fills a new tree.sqlite; nothing is promised of it before `finish`, but what was added can be read back."""

    def __init__(self, folder: Path) -> None:
        # Nobody else knows this file yet. Ids come in no order: 64 MiB of pages keep their index off the disk.
        self._db = sqlite3.connect(folder / DATABASE, isolation_level=None, check_same_thread=False)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;" + _SCHEMA + "BEGIN;"
        )
        self._hash = hashlib.sha256()
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_documents(self, documents: Iterable[Document]) -> int:
        """Store documents in order; how many. Raises InputError for an id given twice."""
        before = self._db.total_changes
        sql = "INSERT INTO documents (doc_id, text, title, source, metadata, page_starts) VALUES (?, ?, ?, ?, ?, ?)"
        self._insert(sql, map(self._document, documents))
        return self._db.total_changes - before

    def add_passages(self, passages: Iterable[Passage]) -> int:
        """Store passages in order, with their duplicates; how many. Raises InputError for an id given twice."""
        before, merged = self._db.total_changes, 0
        for passage in passages:
            self._insert("INSERT INTO passages VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [_passage_values(passage)])
            if passage.duplicates:
                self._insert(_ADD_DUPLICATE, _duplicates(passage.passage_id, 0, passage.duplicates))
                merged += len(passage.duplicates)
        return self._db.total_changes - before - merged

    def taken(self, document: Document, passages: Sequence[Passage]) -> str | None:
        """The first id of a document and its passages that another one has; None where all are free."""
        if self._db.execute("SELECT 1 FROM documents WHERE doc_id = ?", (document.doc_id,)).fetchone():
            return document.doc_id
        for passage in passages:
            if self._db.execute("SELECT 1 FROM passages WHERE passage_id = ?", (passage.passage_id,)).fetchone():
                return passage.passage_id
        return None

    def merge(self, kept_for: Sequence[int]) -> None:
        """Make each passage whose row is not `kept_for` itself a duplicate of the passage of that row.

        Rows count the passages from 0 in the order in which they were added; before this, none may have been removed.
        """
        passages = self.passages()
        heirs: dict[int, tuple[str, int]] = {}  # passage id and number of duplicates so far
        for row, kept in enumerate(kept_for):
            if kept == row:
                continue
            if kept not in heirs:
                heirs[kept] = (passages[kept].passage_id, len(passages[kept].duplicates))
            (heir, first), copy = heirs[kept], passages[row]
            origins = (_origin_of(copy), *copy.duplicates)
            self._db.execute("DELETE FROM duplicates WHERE passage_id = ?", (copy.passage_id,))
            self._db.execute("DELETE FROM passages WHERE number = ?", (row + 1,))
            self._insert(_ADD_DUPLICATE, _duplicates(heir, first, origins))
            heirs[kept] = (heir, first + len(origins))

    def documents(self) -> Rows[Document]:
        """The documents added so far."""
        return document_rows(self._all)

    def passages(self) -> Rows[Passage]:
        """The passages added so far."""
        return passage_rows(self._all)

    def texts(self) -> Rows[str]:
        """What is embedded and indexed of each passage added so far."""
        return text_rows(self._all)

    def corpus_hash(self) -> str:
        """sha256 of all that a build reads of the documents added so far, in order."""
        return self._hash.hexdigest()

    def _document(self, document: Document) -> Row:
        metadata, page_starts = dict(document.metadata), list(document.page_starts)
        facts = [document.doc_id, document.title, document.text, metadata, page_starts]
        self._hash.update(json.dumps(facts, sort_keys=True).encode() + b"\n")
        kept = (document.doc_id, document.text, document.title, document.source)
        return (*kept, _dump(metadata), _dump(page_starts))

    def _insert(self, sql: str, rows: Iterable[Row]) -> None:
        try:
            self._db.executemany(sql, rows)
        except sqlite3.IntegrityError as error:
            raise InputError(f"Two of a kind: {error} (ids of documents and passages are unique).") from error
        except UnicodeEncodeError as error:
            raise InputError(f"A text is not valid Unicode: {error}") from error

    def _all(self, sql: str, values: Sequence[Any]) -> list[Row]:
        return self._db.execute(sql, values).fetchall()

    def write_tree(self, tree: SemanticTree) -> None:
        """Store nodes (leaves first, in row order), edges and parts; a leaf's text stays with its passage."""
        order = (*tree.leaf_ids, *tree.inner_ids)
        number = {node_id: i for i, node_id in enumerate(order)}
        nodes = [tree.node(node_id) for node_id in order]
        self._db.executemany(
            "INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (i, n.node_id, n.depth, n.title, "" if n.is_leaf else n.text, n.passage_id, n.written_by)
                for i, n in enumerate(nodes)
            ),
        )
        self._db.executemany(
            "INSERT INTO edges VALUES (?, ?, ?, ?)",
            (
                (number[n.node_id], position, number[child], tree.parents(child).index(n.node_id))
                for n in nodes
                for position, child in enumerate(tree.children(n.node_id))
            ),
        )
        self._db.executemany(
            "INSERT INTO parts VALUES (?, ?, ?, ?)",
            ((n.node_id, i, part.child_id, part.text) for n in nodes for i, part in enumerate(n.parts)),
        )
        self._db.execute("INSERT INTO facts VALUES ('max_children', ?)", (str(tree.max_children),))

    def counts(self) -> dict[str, int]:
        """Rows a table."""
        tables = ("documents", "passages", "duplicates", "nodes", "edges")
        return {table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608

    def finish(self) -> None:
        """Complete the file, once; its rows can be read on until `close`."""
        if not self._finished:
            self._db.execute("COMMIT")
            self._db.executescript(_INDICES)
            self._finished = True

    def close(self) -> None:
        """Let go of the file; unfinished, it is of no use."""
        self._db.close()


class _Nodes(Mapping[str, TreeNode]):
    """Records made when asked for: making 100,000 at once would take as long as opening everything else."""

    def __init__(self, rows: list[tuple[Any, ...]], graph: nx.DiGraph, second: Mapping[str, str]) -> None:
        self._rows = {row[0]: row for row in rows}
        self._graph = graph
        self._second = second

    def __getitem__(self, node_id: str) -> TreeNode:
        _, depth, title, passage_id, written_by = self._rows[node_id]
        parents = list(self._graph.pred[node_id])
        if other := self._second.get(node_id):
            parents.sort(key=other.__eq__)
        return TreeNode(
            node_id=node_id,
            parent_ids=tuple(parents),
            depth=depth,
            title=title,
            passage_id=passage_id,
            written_by=written_by,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Database:
    """A finished tree.sqlite, read-only. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / DATABASE
        self._lock = threading.Lock()
        if not self.path.is_file():
            raise IndexCorrupt(f"{self.path} is gone.")
        with self._errors():
            uri = f"file:{quote(self.path.resolve().as_posix())}?mode=ro&immutable=1"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_tree(self) -> SemanticTree:
        """The tree without texts and parts."""
        import networkx as nx

        with self._errors():
            rows = self._db.execute(
                "SELECT node_id, depth, title, passage_id, written_by FROM nodes ORDER BY number"
            ).fetchall()
            edges = self._db.execute("SELECT parent, child, rank FROM edges ORDER BY parent, position").fetchall()
            (max_children,) = self._db.execute("SELECT value FROM facts WHERE name = 'max_children'").fetchone()
        ids = [row[0] for row in rows]
        graph = nx.DiGraph()
        graph.add_nodes_from(ids)
        graph.add_edges_from((ids[parent], ids[child]) for parent, child, _ in edges)
        second = {ids[child]: ids[parent] for parent, child, rank in edges if rank > 0}
        return SemanticTree(
            graph,
            _Nodes(rows, graph, second),
            leaf_ids=[row[0] for row in rows if row[3] is not None],
            inner_ids=[row[0] for row in rows if row[3] is None],
            max_children=int(max_children),
        )

    def node_texts(self, leaves: bool) -> Iterator[tuple[str, str]]:
        """(node id, text) of the leaves, or of the inner nodes, in row order."""
        if leaves:
            sql = "SELECT n.node_id, p.text FROM nodes n JOIN passages p USING (passage_id) ORDER BY n.number"
        else:
            sql = "SELECT node_id, text FROM nodes WHERE passage_id IS NULL ORDER BY number"
        with self._errors():
            yield from self._db.execute(sql)

    def parts(self, node_id: str) -> tuple[Part, ...]:
        """What the node's text says of each child."""
        rows = self._all("SELECT child_id, text FROM parts WHERE node_id = ? ORDER BY position", [node_id])
        return tuple(Part(child_id=child_id, text=text) for child_id, text in rows)

    def document(self, doc_id: str) -> Document:
        """Raises IndexMissing for an unknown id."""
        for row in self._all("SELECT * FROM documents WHERE doc_id = ?", [doc_id]):
            return make_document(row)
        raise IndexMissing(f"There is no document {doc_id!r} in this index.")

    def documents(self) -> Rows[Document]:
        """All documents in the order in which they were added."""
        return document_rows(self._all)

    def passages(self, passage_ids: Sequence[str]) -> dict[str, Passage]:
        """Passages by id; an unknown id is left out."""
        found: dict[str, Passage] = {}
        for some in _slices(passage_ids):
            marks = ",".join("?" * len(some))
            origins = find_origins(self._all, some)
            for row in self._all(f"SELECT * FROM passages WHERE passage_id IN ({marks})", some):  # noqa: S608
                found[row[1]] = make_passage(row, origins.get(row[1], ()))
        return found

    def passages_of(self, doc_id: str) -> list[Passage]:
        """Passages that stand in a document, themselves or as a duplicate, in no order."""
        sql = (
            "SELECT passage_id FROM passages WHERE doc_id = ? UNION SELECT passage_id FROM duplicates WHERE doc_id = ?"
        )
        return list(self.passages([passage_id for (passage_id,) in self._all(sql, [doc_id, doc_id])]).values())

    def all_passages(self) -> Rows[Passage]:
        """All passages in the order in which they were added."""
        return passage_rows(self._all)

    def texts(self) -> Rows[str]:
        """What is embedded and indexed of each passage, in the order in which they were added."""
        return text_rows(self._all)

    def origins(self) -> list[tuple[int, str, str]]:
        """(leaf row, passage or origin id, document id) of every place where a leaf's text stands."""
        return self._all(
            "SELECT n.number, p.passage_id, p.doc_id FROM nodes n JOIN passages p USING (passage_id) UNION ALL "
            "SELECT n.number, d.origin_id, d.doc_id FROM nodes n JOIN duplicates d USING (passage_id)",
            [],
        )

    def metadata(self) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
        """Metadata by passage id, and by document id."""
        by_passage = {i: json.loads(m) for i, m in self._all("SELECT passage_id, metadata FROM passages", [])}
        by_document = {i: json.loads(m) for i, m in self._all("SELECT doc_id, metadata FROM documents", [])}
        return by_passage, by_document

    def check(self) -> list[str]:
        """SQLite's own check of the file."""
        try:
            found = [row[0] for row in self._all("PRAGMA quick_check", [])]
        except IndexCorrupt as error:
            return [error.message]
        return [] if found == ["ok"] else [f"{self.path} is damaged: {line}" for line in found]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _all(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise IndexCorrupt(f"{self.path} is damaged: {error}") from error


def _slices(ids: Sequence[str], size: int = 5_000) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


def _passage_values(p: Passage) -> Row:
    return p.passage_id, p.doc_id, p.text, p.start, p.end, p.title, p.page, p.position, _dump(dict(p.metadata))


def _duplicates(passage_id: str, first: int, origins: Iterable[Origin]) -> list[Row]:
    """Rows of the table of duplicates, their ranks counted from `first`."""
    return [
        (passage_id, rank, o.passage_id, o.doc_id, o.start, o.end, o.page)
        for rank, o in enumerate(origins, start=first)
    ]


def _origin_of(p: Passage) -> Origin:
    return Origin(passage_id=p.passage_id, doc_id=p.doc_id, start=p.start, end=p.end, page=p.page)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
