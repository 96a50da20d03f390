"""An index opened for reading: tree, vectors, lexical index, embedder, passages and documents of one generation.

A reader keeps the generation it opened; a writer (stores.staging) never touches it. Tested in
tests/stores/test_index.py.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from branchwise.stores.database import Database
from branchwise.stores.embedding import Embedder, FloatMatrix, load_embedder
from branchwise.stores.errors import IndexCorrupt, IndexMismatch, IndexMissing, StoreError
from branchwise.stores.files import LISTING, check_files, hold
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.manifest import Manifest, generation_folder, read_manifest
from branchwise.stores.records import Document, Filters, Metadata, Passage, Scalar, TreeNode
from branchwise.stores.rows import Rows
from branchwise.stores.tree import SemanticTree
from branchwise.stores.vectors import NodeVectors, verify_vectors

if TYPE_CHECKING:
    from typing import Self

VECTORS = "vectors.npy"
_TEXTS_KEPT = 4_096  # node texts held in memory: a long search reads a few hundred


class Index:
    """One generation of the index at `path`. Texts, vectors, lexical index and embedder are opened when first used."""

    def __init__(self, path: Path, manifest: Manifest, *, chroma_url: str | None, embedder: Embedder | None) -> None:
        self.path = path
        self.manifest = manifest
        self.generation_path = generation_folder(path, manifest.generation)
        self.replies_path = path / "replies.sqlite"
        self.chroma_url = chroma_url
        self._given_embedder = embedder
        self._texts: dict[str, str] = {}
        self._allowed: tuple[object, npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None
        self._release = self._hold()
        if broken := check_files(self.generation_path):
            raise IndexCorrupt(broken[0], hint=f'branchwise restore BACKUP --index "{path}", or build it again')
        self._database = Database(self.generation_path)
        self.tree: SemanticTree = self._database.read_tree()
        rows = open_matrix(self.generation_path / VECTORS, len(self.tree), manifest.embedding["dimension"])
        self.leaf_matrix: FloatMatrix = rows[: len(self.tree.leaf_ids)]
        self.inner_matrix: FloatMatrix = rows[len(self.tree.leaf_ids) :]
        if embedder is not None:
            self._refuse_other(embedder)

    @classmethod
    def open(cls, path: Path | str, *, chroma_url: str | None = None, embedder: Embedder | None = None) -> Index:
        """Open the current generation; `chroma_url` reads node texts from a `chroma run` server instead of the folder.

        Raises IndexMissing, IndexMismatch (another format, or `embedder` is not the one that made the vectors) or
        IndexCorrupt, which names the file.
        """
        path = Path(path)
        manifest = read_manifest(path)
        while True:
            try:
                return cls(path, manifest, chroma_url=chroma_url, embedder=embedder)
            except IndexCorrupt:
                # A writer may have published twice since the manifest was read, and removed what it named.
                newer = read_manifest(path)
                if newer.generation == manifest.generation:
                    raise
                manifest = newer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hold(self) -> weakref.finalize[..., Index]:
        """Keep writers from removing this generation until `close`."""
        try:
            return weakref.finalize(self, os.close, hold(self.generation_path / LISTING))
        except FileNotFoundError as error:
            raise IndexCorrupt(f"{self.generation_path / LISTING} is gone.") from error

    def close(self) -> None:
        """Let go of the files."""
        self._release()
        self._database.close()
        if "vectors" in self.__dict__:
            self.vectors.close()

    @cached_property
    def vectors(self) -> NodeVectors:
        """Chroma's collections of this generation."""
        name = self.manifest.collection(self.chroma_url)
        return NodeVectors.open(name, folder=self.generation_path / "chroma", url=self.chroma_url)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """BM25 over the leaves; row i is `tree.leaf_ids[i]`."""
        return LexicalIndex.load(self.generation_path / "lexical")

    @cached_property
    def embedder(self) -> Embedder:
        """What made the vectors, for queries. Raises IndexMismatch where the one at hand would make others."""
        embedder = self._given_embedder or load_embedder(self.generation_path / "embedder")
        self._refuse_other(embedder)
        return embedder

    def texts(self, node_ids: Sequence[str]) -> dict[str, str]:
        """Text of each node, from Chroma. Raises IndexMissing for an unknown id."""
        known = self._texts
        if missing := [node_id for node_id in node_ids if node_id not in known]:
            if len(known) > _TEXTS_KEPT:
                known = {}
            known = self._texts = known | self.vectors.texts([*node_ids] if not known else missing)
        return {node_id: known[node_id] for node_id in node_ids}

    def node(self, node_id: str) -> TreeNode:
        """The node with its text and parts. Raises IndexMissing for an unknown id."""
        return replace(
            self.tree.node(node_id), text=self.texts([node_id])[node_id], parts=self._database.parts(node_id)
        )

    def passage(self, passage_id: str) -> Passage:
        """Raises IndexMissing for an unknown id."""
        try:
            return self.passages([passage_id])[passage_id]
        except KeyError:
            raise IndexMissing(f"There is no passage {passage_id!r} in {self.path}.") from None

    def passages(self, passage_ids: Sequence[str]) -> dict[str, Passage]:
        """Passages by id; an unknown id is left out."""
        return self._database.passages(passage_ids)

    def passages_of(self, doc_id: str) -> list[Passage]:
        """Passages that stand in a document, themselves or as a duplicate; none for an unknown id."""
        return self._database.passages_of(doc_id)

    def iter_passages(self) -> Rows[Passage]:
        """All passages in the order in which they were added, read as they are asked for."""
        return self._database.all_passages()

    def document(self, doc_id: str) -> Document:
        """Raises IndexMissing for an unknown id."""
        return self._database.document(doc_id)

    def iter_documents(self) -> Rows[Document]:
        """All documents in the order in which they were added, read as they are asked for."""
        return self._database.documents()

    def allowed_rows(self, filters: Filters, excluded_ids: frozenset[str]) -> npt.NDArray[np.bool_] | None:
        """(n_leaves,) True where a leaf may be seen; None where all may.

        A leaf stands for one or more places (a passage and its duplicates). It may be seen if one of them passes: its
        passage and its document are not excluded, and its metadata satisfies every filter (numbers and booleans also
        match as text: 2020 and "2020"). Of a duplicate, the metadata is its document's.
        """
        return self._rows(filters, excluded_ids)[0] if filters or excluded_ids else None

    def whole_rows(self, filters: Filters, excluded_ids: frozenset[str]) -> npt.NDArray[np.bool_] | None:
        """(n_leaves,) True where all places of a leaf may be seen; None where nothing is hidden.

        What was written of other leaves, or of the nodes above them, may speak of a place that is hidden.
        """
        return self._rows(filters, excluded_ids)[1] if filters or excluded_ids else None

    def _rows(
        self, filters: Filters, excluded_ids: frozenset[str]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        # One search asks this once a slate; the last answer is kept.
        asked = (tuple(sorted((key, str(value)) for key, value in filters.items())), excluded_ids)
        if self._allowed is None or self._allowed[0] != asked:
            self._allowed = (asked, *self._find_rows(filters, excluded_ids))
        return self._allowed[1:]

    def _find_rows(
        self, filters: Filters, excluded_ids: frozenset[str]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        allowed = np.zeros(len(self.tree.leaf_ids), dtype=np.bool_)
        touched = np.zeros(len(self.tree.leaf_ids), dtype=np.bool_)
        wanted = {key: _spellings(value) for key, value in filters.items()}
        by_passage, by_document = self._metadata if wanted else ({}, {})
        for row, passage_id, doc_id in self._origins:
            metadata = by_passage.get(passage_id) or by_document.get(doc_id) or {}
            if passage_id in excluded_ids or doc_id in excluded_ids:
                touched[row] = True
            elif all(_spell(metadata.get(key)) in values for key, values in wanted.items()):
                allowed[row] = True
            else:
                touched[row] = True
        return allowed, allowed & ~touched

    def verify(self) -> list[str]:
        """Read everything back: one sentence for each broken file, invariant or node; none for a sound index."""
        broken = check_files(self.generation_path, contents=True) + self._database.check() + self.tree.check()
        if broken:
            return broken
        try:
            return verify_vectors(
                self.manifest.collection(self.chroma_url),
                self._database.node_texts,
                self.leaf_matrix,
                self.inner_matrix,
                folder=self.generation_path / "chroma",
                url=self.chroma_url,
            )
        except StoreError as error:
            return [error.message]

    @cached_property
    def _origins(self) -> list[tuple[int, str, str]]:
        return self._database.origins()

    @cached_property
    def _metadata(self) -> tuple[dict[str, Mapping[str, Scalar]], dict[str, Mapping[str, Scalar]]]:
        return self._database.metadata()

    def _refuse_other(self, embedder: Embedder) -> None:
        made_by = self.manifest.embedding
        if embedder.fingerprint != made_by["fingerprint"]:
            raise IndexMismatch(
                f"{self.path} was embedded by {made_by['name']} ({made_by['fingerprint']}), not by {embedder.name} "
                f"({embedder.fingerprint}).",
                hint=f'branchwise reembed --index "{self.path}" --embedder {embedder.name}  (summaries are kept)',
            )


def open_matrix(path: Path, rows: int, dimension: int) -> FloatMatrix:
    """(rows, dimension) float32, memory-mapped. Raises IndexCorrupt."""
    try:
        if rows == 0:
            return np.zeros((0, dimension), dtype=np.float32)
        matrix: FloatMatrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexCorrupt(f"{path} is damaged: {error}") from error
    if matrix.shape != (rows, dimension) or matrix.dtype != np.float32:
        raise IndexCorrupt(f"{path} holds {matrix.dtype} {matrix.shape} instead of float32 {(rows, dimension)}.")
    return matrix


def new_matrix(path: Path, rows: int, dimension: int) -> FloatMatrix:
    """(rows, dimension) float32 zeros in a new .npy file, memory-mapped: what is written to it goes to disk."""
    if rows == 0:  # nothing can be mapped
        np.save(path, np.zeros((0, dimension), dtype=np.float32))
        return np.zeros((0, dimension), dtype=np.float32)
    matrix: FloatMatrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dimension))
    return matrix


def satisfies(metadata: Metadata, filters: Filters) -> bool:
    """Whether a place with this metadata passes every filter, as `Index.allowed_rows` reads them."""
    return all(_spell(metadata.get(key)) in _spellings(value) for key, value in filters.items())


def _spellings(value: Scalar | tuple[Scalar, ...]) -> set[str]:
    values = value if isinstance(value, tuple | list | set | frozenset) else (value,)
    return {spelled for one in values if (spelled := _spell(one)) is not None}


def _spell(value: Scalar | None) -> str | None:
    """A metadata value as text, so that a filter from a command line can match it; None for a missing one."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
