"""Writing a generation: everything in a staging folder, verified, forced to disk, then published by one rename.

A crash at any moment leaves the published generation as it was; what a dead writer left behind is swept away by the
next. One writer at a time, by a file lock. Tested in tests/stores/test_staging.py and test_kill.py.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from branchwise.stores.database import DATABASE, Database, DatabaseWriter
from branchwise.stores.embedding import Embedder, FloatMatrix
from branchwise.stores.errors import IndexCorrupt, IndexLocked, IndexMissing, InputError
from branchwise.stores.files import LISTING, is_held, list_files, remove_folder, sync_folder, sync_tree, write_json
from branchwise.stores.index import VECTORS, new_matrix
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.manifest import GENERATIONS, Manifest, generation_folder, read_manifest
from branchwise.stores.records import Document, Passage
from branchwise.stores.tree import SemanticTree
from branchwise.stores.vectors import build_vectors, drop_vectors, verify_vectors

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

LOCK = "lock"  # held by whoever writes an index; the file stays, for to remove it is to race for it
RESTORING = "restoring-"  # how stores.backup names what it has not finished
_PIECE = 65_536  # rows copied at once
_GENERATIONS_KEPT = 2  # the current one, and the one that a reader may be about to open


class Staging:
    """A generation in the making. Leave the `with` block without `publish` and nothing has happened."""

    def __init__(self, path: Path, lock: FileLock, previous: Manifest | None, *, chroma_url: str | None) -> None:
        self.path = path
        self.previous = previous
        self.generation = (previous.generation if previous else 0) + 1
        self._lock = lock
        self._chroma_url = chroma_url
        self.folder = path / GENERATIONS / f"staging-{secrets.token_hex(4)}"
        self.folder.mkdir(parents=True)
        self.scratch = self.folder.with_suffix(".scratch")  # swept away like any staging folder
        self.database = DatabaseWriter(self.folder)
        self._tree: SemanticTree | None = None
        self._vectors: FloatMatrix | None = None
        self._embedding: dict[str, Any] = {}
        self._facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.database.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._lock.release()

    def add_documents(self, documents: Iterable[Document]) -> int:
        """Store documents; how many. Raises InputError for an id given twice."""
        return self.database.add_documents(documents)

    def add_passages(self, passages: Iterable[Passage]) -> int:
        """Store passages, each a leaf to come; how many. Raises InputError for an id given twice."""
        return self.database.add_passages(passages)

    def new_leaf_vectors(self, rows: int, dimension: int) -> FloatMatrix:
        """(rows, dimension) zeros on disk, to be filled and given to `write_vectors`: more than memory may hold."""
        self.scratch.mkdir(exist_ok=True)
        return new_matrix(self.scratch / VECTORS, rows, dimension)

    def write_tree(self, tree: SemanticTree) -> None:
        """Store the tree, after documents and passages. Its leaf order is the row order of everything else."""
        self._tree = tree
        self.database.write_tree(tree)
        counts = self.database.counts()
        self._facts = {
            "corpus_hash": self.database.corpus_hash(),
            "counts": {
                "documents": counts["documents"],
                "passages": counts["passages"] + counts["duplicates"],
                "leaves": len(tree.leaf_ids),
                "inner": len(tree.inner_ids),
                "depth": max((tree.depth(leaf) for leaf in tree.leaf_ids), default=0),
            },
        }
        self.database.finish()

    def adopt(self, manifest: Manifest, tree: SemanticTree) -> None:
        """Take over documents, passages, tree and lexical index of the published generation that `manifest` names."""
        source = generation_folder(self.path, manifest.generation)
        self.database.close()
        shutil.copyfile(source / DATABASE, self.folder / DATABASE)
        shutil.copytree(source / "lexical", self.folder / "lexical")
        self._tree = tree
        self._facts = {"corpus_hash": manifest.corpus_hash, "counts": manifest.counts}

    def write_vectors(self, leaves: FloatMatrix, inner: FloatMatrix) -> None:
        """Store the vectors of `tree.leaf_ids` and of `tree.inner_ids`, both (n, d) float32."""
        if self._tree is None:
            raise ValueError("write_tree comes before write_vectors")
        given, wanted = (len(leaves), len(inner)), (len(self._tree.leaf_ids), len(self._tree.inner_ids))
        if given != wanted:
            raise ValueError(f"{given} vectors of leaves and inner nodes for {wanted} nodes")
        self._vectors = new_matrix(self.folder / VECTORS, sum(given), leaves.shape[1])
        for start, rows in ((0, leaves), (len(leaves), inner)):
            for piece in range(0, len(rows), _PIECE):
                some = rows[piece : piece + _PIECE]
                self._vectors[start + piece : start + piece + len(some)] = some
        if isinstance(self._vectors, np.memmap):
            self._vectors.flush()

    def write_embedder(self, embedder: Embedder) -> None:
        """Store what embeds queries."""
        embedder.save(self.folder / "embedder")
        self._embedding = {
            "name": embedder.name,
            "dimension": embedder.dimension,
            "fingerprint": embedder.fingerprint,
        }

    def keep_embedder(self, manifest: Manifest) -> None:
        """Take over the embedder of the published generation that `manifest` names."""
        shutil.copytree(generation_folder(self.path, manifest.generation) / "embedder", self.folder / "embedder")
        self._embedding = dict(manifest.embedding)

    def write_lexical(self, lexical: LexicalIndex) -> None:
        """Store BM25, its rows in the order of `tree.leaf_ids`."""
        lexical.save(self.folder / "lexical")

    def publish(self, manifest: Manifest, *, progress: Callable[[int], None] | None = None) -> Path:
        """Build Chroma, verify everything, make it the current generation; the path of the index.

        `progress` is called with the number of nodes written to Chroma since the last call. Raises IndexCorrupt where
        what was written cannot be read back.
        """
        if self._tree is None or self._vectors is None or not self._embedding:
            raise ValueError("publish needs a tree, vectors and an embedder")
        self.database.close()
        manifest = self._complete(manifest)
        self._store_vectors(manifest.collection(self._chroma_url), self._tree, self._vectors, progress)
        write_json(self.folder / LISTING, list_files(self.folder))
        sync_tree(self.folder)
        final = generation_folder(self.path, manifest.generation)
        os.replace(self.folder, final)
        sync_folder(final.parent)
        manifest.write(self.path)
        if self._chroma_url is not None and (old := manifest.generation - _GENERATIONS_KEPT) > 0:
            drop_vectors(manifest.collection(self._chroma_url, old), self._chroma_url)
        _sweep(self.path, manifest.generation)
        return self.path

    def _store_vectors(
        self, name: str, tree: SemanticTree, vectors: FloatMatrix, progress: Callable[[int], None] | None
    ) -> None:
        leaves = len(tree.leaf_ids)
        rows = (vectors[:leaves], vectors[leaves:])
        chroma, url = self.folder / "chroma", self._chroma_url
        with Database(self.folder) as database:
            build_vectors(name, database.node_texts, *rows, folder=chroma, url=url, progress=progress)
            broken = tree.check() + database.check()
            broken += verify_vectors(name, database.node_texts, *rows, folder=chroma, url=url)
        if broken:
            raise IndexCorrupt(f"The new generation is not sound and was not published: {broken[0]}")

    def _complete(self, manifest: Manifest) -> Manifest:
        from importlib.metadata import version

        return replace(
            manifest,
            index_id=self.previous.index_id if self.previous else secrets.token_hex(8),
            generation=self.generation,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            branchwise_version=version("branchwise"),
            embedding=self._embedding,
            **self._facts,
        )


def stage(path: Path | str, *, chroma_url: str | None = None) -> Staging:
    """Begin a generation of the index at `path`, which need not be there yet. Raises IndexLocked or InputError."""
    path = Path(path)
    lock = lock_index(path)
    try:
        try:
            previous = read_manifest(path)
        except IndexMissing:
            previous = None
        _sweep(path, previous.generation if previous else 0)
        return Staging(path, lock, previous, chroma_url=chroma_url)
    except BaseException:
        lock.release()
        raise


def lock_index(path: Path) -> FileLock:
    """Make the folder and take its writer lock, to be released by the caller. Raises IndexLocked or InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout as error:
        hint = "Wait for it to end; searches go on meanwhile."
        raise IndexLocked(f"Another process is writing {path}.", hint=hint) from error
    except OSError as error:
        raise InputError(f"No index can be written at {path}: {error.strerror}.") from error
    return lock


def _sweep(path: Path, current: int) -> None:
    """Remove what dead writers left behind, and generations that no reader can still need."""
    for left in path.glob(f"{RESTORING}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = path / GENERATIONS
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        number = int(entry.name) if entry.name.isdigit() else None
        if number is None or number > current:
            shutil.rmtree(entry, ignore_errors=True)
        elif number <= current - _GENERATIONS_KEPT and not is_held(entry / LISTING):
            remove_folder(entry)
