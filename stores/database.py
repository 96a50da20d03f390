"""tree.sqlite: documents, passages, nodes, edges and parts of one generation, with all texts. The source of truth.

Written once in a staging folder, then only read. Knows nothing of generations, vectors or search. Tested in
tests/stores/test_database.py.
"""

from __future__ import annotations

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


class DatabaseWriter:
    """Fills a new tree.sqlite; nothing is promised of it before `finish`."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / DATABASE, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA + "BEGIN;")

    def add_documents(self, documents: Iterable[Document]) -> int:
        """Store documents in order; how many."""
        before = self._db.total_changes
        rows = (
            (d.doc_id, d.text, d.title, d.source, _dump(dict(d.metadata)), _dump(list(d.page_starts)))
            for d in documents
        )
        sql = "INSERT INTO documents (doc_id, text, title, source, metadata, page_starts) VALUES (?, ?, ?, ?, ?, ?)"
        self._insert(sql, rows)
        return self._db.total_changes - before

    def _insert(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._db.executemany(sql, rows)
        except sqlite3.IntegrityError as error:
            raise InputError(f"Two of a kind: {error} (ids of documents and passages are unique).") from error
        except UnicodeEncodeError as error:
            raise InputError(f"A text is not valid Unicode: {error}") from error

    def add_passages(self, passages: Iterable[Passage]) -> int:
        """Store passages in order, with their duplicates; how many."""
        kept = list(passages)
        self._insert(
            "INSERT INTO passages VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (p.passage_id, p.doc_id, p.text, p.start, p.end, p.title, p.page, p.position, _dump(dict(p.metadata)))
                for p in kept
            ),
        )
        self._insert(
            "INSERT INTO duplicates VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (p.passage_id, rank, o.passage_id, o.doc_id, o.start, o.end, o.page)
                for p in kept
                for rank, o in enumerate(p.duplicates)
            ),
        )
        return len(kept)

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
        """Complete the file."""
        self._db.execute("COMMIT")
        self._db.executescript(_INDICES)
        self.close()

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
            return _document(row)
        raise IndexMissing(f"There is no document {doc_id!r} in this index.")

    def documents(self) -> Iterator[Document]:
        """All documents in the order in which they were added."""
        with self._errors():
            for row in self._db.execute("SELECT * FROM documents ORDER BY number"):
                yield _document(row)

    def passages(self, passage_ids: Sequence[str]) -> dict[str, Passage]:
        """Passages by id; an unknown id is left out."""
        found: dict[str, Passage] = {}
        for some in _slices(passage_ids):
            marks = ",".join("?" * len(some))
            origins: dict[str, list[Origin]] = {}
            for row in self._all(
                f"SELECT * FROM duplicates WHERE passage_id IN ({marks}) ORDER BY passage_id, rank",  # noqa: S608
                some,
            ):
                origins.setdefault(row[0], []).append(_origin(row))
            for row in self._all(f"SELECT * FROM passages WHERE passage_id IN ({marks})", some):  # noqa: S608
                found[row[1]] = _passage(row, origins.get(row[1], ()))
        return found

    def all_passages(self) -> Iterator[Passage]:
        """All passages in the order in which they were added."""
        origins: dict[str, list[Origin]] = {}
        with self._errors():
            for row in self._db.execute("SELECT * FROM duplicates ORDER BY passage_id, rank"):
                origins.setdefault(row[0], []).append(_origin(row))
            for row in self._db.execute("SELECT * FROM passages ORDER BY number"):
                yield _passage(row, origins.get(row[1], ()))

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


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _document(row: tuple[Any, ...]) -> Document:
    _, doc_id, text, title, source, metadata, page_starts = row
    return Document(
        doc_id=doc_id,
        text=text,
        title=title,
        source=source,
        metadata=json.loads(metadata),
        page_starts=tuple(json.loads(page_starts)),
    )


def _passage(row: tuple[Any, ...], duplicates: Sequence[Origin]) -> Passage:
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
        metadata=json.loads(metadata),
        duplicates=tuple(duplicates),
    )


def _origin(row: tuple[Any, ...]) -> Origin:
    _, _, origin_id, doc_id, start, end, page = row
    return Origin(passage_id=origin_id, doc_id=doc_id, start=start, end=end, page=page)
