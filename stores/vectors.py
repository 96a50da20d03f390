"""Text and vector of every node in ChromaDB, leaves and inner nodes in a collection each, by node id.

The only home of chromadb. What is kept here is derived: written once for a generation, verified by a full scan, never
changed, and rebuilt from tree.sqlite and vectors.npy when damaged. Vectors are always given, so that Chroma never
embeds and never downloads a model. Tested in tests/stores/test_vectors.py.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np

from branchwise.stores.embedding import FloatMatrix, FloatVector
from branchwise.stores.errors import BranchwiseError, IndexCorrupt, IndexMissing, InputError, ModelUnavailable

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.collection_configuration import CreateCollectionConfiguration
    from chromadb.api.models.Collection import Collection

REBUILD = "branchwise repair --index DIR"
_BATCH = 4_000  # nodes a request: below Chroma's 5,461 and SQLite's 32,766 variables
# A search ranks leaves by the exact matrix, so Chroma's graph may be thin: a third of the time that its own defaults
# take. It writes the graph to disk once a batch, and reads at most one batch from its log when it is opened.
_HNSW: dict[str, Any] = {
    "space": "cosine",
    "max_neighbors": 8,
    "ef_construction": 40,
    "batch_size": _BATCH,
    "sync_threshold": _BATCH,
}
# Not as Chroma's "document", of which it indexes every three characters for a substring search that nothing here uses:
# twice the time, a third more disk.
_TEXT = "text"
_opening = threading.Lock()  # Chroma keeps its clients in a table that is not thread-safe


class NodeVectors:
    """The collections of one generation, opened for reading."""

    def __init__(self, client: Client, name: str, where: str, copy: TemporaryDirectory[str] | None = None) -> None:
        self._client = client
        self._copy = copy
        self._where = where
        self._leaves, self._inner = (_get_collection(client, f"{name}-{kind}", where) for kind in ("leaves", "inner"))

    @classmethod
    def open(cls, name: str, *, folder: Path | None = None, url: str | None = None) -> NodeVectors:
        """Open the collections called `name` in a folder, or on a `chroma run` server.

        Raises IndexMissing where they are not there, IndexCorrupt where Chroma cannot read its own files.
        """
        copy = _copy_read_only(folder) if folder is not None and url is None else None
        if copy is not None:
            folder = Path(copy.name)
        client, where = _connect(folder, url)
        try:
            return cls(client, name, where, copy)
        except BaseException:
            client.close()
            raise

    def texts(self, node_ids: Sequence[str]) -> dict[str, str]:
        """Text by node id. Raises IndexMissing for an id that is not there."""
        found: dict[str, str] = {}
        for collection, ids in self._by_collection(node_ids):
            reply = collection.get(ids=ids, include=["metadatas"])
            found.update(zip(reply["ids"], map(_text, reply["metadatas"] or []), strict=True))
        self._refuse_missing(node_ids, found)
        return found

    def vectors(self, node_ids: Sequence[str]) -> FloatMatrix:
        """(n, d) vectors in the order of `node_ids`. Raises IndexMissing for an id that is not there."""
        found: dict[str, Any] = {}
        for collection, ids in self._by_collection(node_ids):
            reply = collection.get(ids=ids, include=["embeddings"])
            found.update(zip(reply["ids"], reply["embeddings"], strict=True))  # type: ignore[arg-type]
        self._refuse_missing(node_ids, found)
        return np.array([found[node_id] for node_id in node_ids], dtype=np.float32)

    def nearest(self, vector: FloatVector, k: int, *, leaves_only: bool = True) -> list[tuple[str, float]]:
        """At most `k` node ids and cosines by Chroma's approximate search, best first."""
        found: list[tuple[str, float]] = []
        for collection in (self._leaves,) if leaves_only else (self._leaves, self._inner):
            with _chroma_errors(self._where):
                if wanted := min(k, collection.count()):
                    reply = collection.query(query_embeddings=[vector], n_results=wanted, include=["distances"])  # type: ignore[arg-type]
                    distances = (reply["distances"] or [[]])[0]
                    found.extend(
                        (node_id, 1.0 - float(d)) for node_id, d in zip(reply["ids"][0], distances, strict=True)
                    )
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]

    def count(self) -> int:
        """Nodes held."""
        with _chroma_errors(self._where):
            return int(self._leaves.count() + self._inner.count())

    def close(self) -> None:
        """Let go of the files or the connection."""
        self._client.close()
        if self._copy is not None:
            self._copy.cleanup()

    def _by_collection(self, node_ids: Sequence[str]) -> Iterator[tuple[Collection, list[str]]]:
        leaves = [node_id for node_id in dict.fromkeys(node_ids) if node_id.startswith("p:")]
        inner = [node_id for node_id in dict.fromkeys(node_ids) if not node_id.startswith("p:")]
        for collection, ids in ((self._leaves, leaves), (self._inner, inner)):
            for start in range(0, len(ids), _BATCH):
                with _chroma_errors(self._where):
                    yield collection, ids[start : start + _BATCH]

    def _refuse_missing(self, node_ids: Sequence[str], found: dict[str, Any]) -> None:
        if missing := [node_id for node_id in node_ids if node_id not in found]:
            raise IndexMissing(f"{len(missing)} nodes are not in {self._where}, {missing[0]!r} among them.")


def build_vectors(
    name: str,
    nodes: Callable[[bool], Iterator[tuple[str, str]]],
    leaf_vectors: FloatMatrix,
    inner_vectors: FloatMatrix,
    *,
    folder: Path | None = None,
    url: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write both collections. `nodes(leaves)` gives (node id, text) of the leaves, or the inner nodes, in row order."""
    client, where = _connect(folder, url)
    try:
        for kind, leaves, vectors in (("leaves", True, leaf_vectors), ("inner", False, inner_vectors)):
            with _chroma_errors(where):
                _drop(client, f"{name}-{kind}")
                collection = client.create_collection(
                    f"{name}-{kind}",
                    embedding_function=None,
                    configuration=cast("CreateCollectionConfiguration", {"hnsw": _HNSW}),
                )
                _fill(collection, nodes(leaves), vectors, progress)
    finally:
        client.close()


def verify_vectors(
    name: str,
    nodes: Callable[[bool], Iterator[tuple[str, str]]],
    leaf_vectors: FloatMatrix,
    inner_vectors: FloatMatrix,
    *,
    folder: Path | None = None,
    url: str | None = None,
) -> list[str]:
    """Read every node back and compare text and vector: one sentence for what differs."""
    broken: list[str] = []
    copy = _copy_read_only(folder) if folder is not None and url is None else None
    client, where = _connect(Path(copy.name) if copy is not None else folder, url)
    try:
        for kind, leaves, vectors in (("leaves", True, leaf_vectors), ("inner", False, inner_vectors)):
            collection = _get_collection(client, f"{name}-{kind}", where)
            with _chroma_errors(where):
                count = collection.count()
                if count != len(vectors):
                    broken.append(f"Chroma at {where} holds {count} {kind} instead of {len(vectors)}.")
                for start, ids, texts in _batches(nodes(leaves)):
                    broken += _compare(collection, ids, texts, vectors[start : start + len(ids)], where)
    finally:
        client.close()
        if copy is not None:
            copy.cleanup()
    return broken


def _copy_read_only(folder: Path) -> TemporaryDirectory[str] | None:
    """A copy that may be written to, where `folder` may not: Chroma writes a little whenever it opens one."""
    database = folder / "chroma.sqlite3"
    if not database.is_file():
        raise IndexCorrupt(f"{database} is gone.", hint=REBUILD)
    if os.access(folder, os.W_OK) and os.access(database, os.W_OK):
        return None
    copy = TemporaryDirectory(prefix="branchwise-")
    shutil.copytree(folder, copy.name, copy_function=shutil.copyfile, dirs_exist_ok=True)
    for path in (Path(copy.name), *Path(copy.name).rglob("*")):
        path.chmod(0o700)  # copytree hands on that the folders are read-only
    return copy


def drop_vectors(name: str, url: str) -> None:
    """Remove both collections from a server, if they are there."""
    client, where = _connect(None, url)
    try:
        for kind in ("leaves", "inner"):
            with _chroma_errors(where):
                _drop(client, f"{name}-{kind}")
    finally:
        client.close()


def _fill(
    collection: Collection,
    nodes: Iterator[tuple[str, str]],
    vectors: FloatMatrix,
    progress: Callable[[int], None] | None,
) -> None:
    for start, ids, texts in _batches(nodes):
        rows = vectors[start : start + len(ids)]
        collection.add(ids=ids, metadatas=[{_TEXT: text} for text in texts], embeddings=np.ascontiguousarray(rows))
        if progress is not None:
            progress(len(ids))


def _compare(collection: Collection, ids: list[str], texts: list[str], rows: FloatMatrix, where: str) -> list[str]:
    reply = collection.get(ids=ids, include=["metadatas", "embeddings"])
    place = {node_id: i for i, node_id in enumerate(reply["ids"])}
    kept_texts, kept_rows = [_text(facts) for facts in reply["metadatas"] or []], reply["embeddings"]
    broken = []
    for i, node_id in enumerate(ids):
        if node_id not in place:
            broken.append(f"Chroma at {where} lacks node {node_id}.")
        elif kept_texts[place[node_id]] != texts[i]:
            broken.append(f"Chroma at {where} holds another text of node {node_id}.")
        elif kept_rows is None or not np.allclose(kept_rows[place[node_id]], rows[i], atol=1e-6):
            broken.append(f"Chroma at {where} holds another vector of node {node_id}.")
    return broken


def _text(facts: Mapping[str, Any] | None) -> str:
    return str((facts or {}).get(_TEXT, ""))


def _batches(nodes: Iterator[tuple[str, str]]) -> Iterator[tuple[int, list[str], list[str]]]:
    start, ids, texts = 0, [], []
    for node_id, text in nodes:
        ids.append(node_id)
        texts.append(text)
        if len(ids) == _BATCH:
            yield start, ids, texts
            start, ids, texts = start + len(ids), [], []
    if ids:
        yield start, ids, texts


def _connect(folder: Path | None, url: str | None) -> tuple[Client, str]:
    """A client with telemetry off, and where it leads. Raises ModelUnavailable for a server that does not answer."""
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    if url is not None:
        parts = urlsplit(url if "//" in url else f"//{url}")
        if not parts.hostname:
            raise InputError(f"{url!r} is not the address of a Chroma server.", hint="Give it as http://127.0.0.1:8000")
        port = parts.port or (443 if parts.scheme == "https" else 8000)
        try:
            client = chromadb.HttpClient(parts.hostname, port, ssl=parts.scheme == "https", settings=settings)
            return cast("Client", client), url
        except Exception as error:
            raise ModelUnavailable(
                f"The Chroma server at {url} does not answer: {error}",
                hint=f"chroma run --path FOLDER --host 127.0.0.1 --port {port}",
            ) from error
    with _opening, _chroma_errors(str(folder)):
        return cast("Client", chromadb.PersistentClient(str(folder), settings=settings)), str(folder)


def _get_collection(client: Client, name: str, where: str) -> Collection:
    from chromadb.errors import NotFoundError

    try:
        with _chroma_errors(where):
            return client.get_collection(name, embedding_function=None)
    except NotFoundError as error:
        raise IndexMissing(f"Chroma at {where} has no collection {name}.") from error


def _drop(client: Client, name: str) -> None:
    from chromadb.errors import NotFoundError

    try:
        client.delete_collection(name)
    except (NotFoundError, ValueError):
        return


@contextmanager
def _chroma_errors(where: str) -> Iterator[None]:
    """Chroma's own errors as IndexCorrupt; what is ours, or says that a name is not there, passes."""
    from chromadb.errors import ChromaError, NotFoundError

    try:
        yield
    except (BranchwiseError, NotFoundError):
        raise
    except (ChromaError, OSError, RuntimeError) as error:
        raise IndexCorrupt(
            f"Chroma at {where} cannot be read: {error}",
            hint=REBUILD,
        ) from error
