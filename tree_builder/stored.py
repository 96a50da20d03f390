"""What an index holds, as an update needs it, and how it is made to forget. Tested with tree_builder.update."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from branchwise.stores.embedding import Embedder, FloatMatrix
from branchwise.stores.errors import IndexMissing
from branchwise.stores.index import Index
from branchwise.stores.manifest import GENERATIONS, Manifest
from branchwise.stores.records import Document, Passage
from branchwise.stores.replies import ReplyStore
from branchwise.tree_builder.checkpoint import forget_vectors
from branchwise.tree_builder.corpus import passage_text
from branchwise.tree_builder.outline import NodeSummary, leaf_id

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker


@dataclass(frozen=True, slots=True)
class Stored:
    """All of an index that an update starts from, its texts and vectors still on disk, until `close`.

    Row `rows[i]` of `vectors` belongs to `passages[i]`.
    """

    index: Index
    passages: Sequence[Passage]
    rows: npt.NDArray[np.int64]
    children: Mapping[str, tuple[str, ...]]
    homes: Mapping[str, str]
    summaries: Mapping[str, NodeSummary]

    @property
    def manifest(self) -> Manifest:
        """What is known of the generation."""
        return self.index.manifest

    @property
    def embedder(self) -> Embedder:
        """What made the vectors."""
        return self.index.embedder

    @property
    def vectors(self) -> FloatMatrix:
        """(n, d), memory-mapped."""
        return self.index.leaf_matrix

    @property
    def documents(self) -> Sequence[Document]:
        """All documents, in order."""
        return self.index.iter_documents()

    def document(self, doc_id: str) -> Document | None:
        """The document of that id; None where there is none."""
        try:
            return self.index.document(doc_id)
        except IndexMissing:
            return None

    def close(self) -> None:
        """Let go of the files."""
        self.index.close()


def forget(index_path: Path, asker: Asker | None, old: Stored, gone: Sequence[Document], nodes: Iterable[str]) -> None:
    """Delete every cached reply that was made from what is gone, or from a text that was made from it."""
    texts = [document.text for document in gone]
    for node_id in nodes:
        if (summary := old.summaries.get(node_id)) is not None:
            texts += [summary.title, summary.text, *(part.text for part in summary.parts)]
    path = index_path / "replies.sqlite"
    removed = {document.doc_id for document in gone}
    lost = [passage_text(passage) for passage in old.passages if passage.doc_id in removed]
    forget_vectors(index_path, old.embedder.fingerprint, lost)
    if asker is not None and asker.cache is not None:
        asker.cache.forget(*texts)
    if path.exists():
        with ReplyStore(path) as replies:
            replies.forget(*texts)


def purge(index_path: Path, current: int) -> None:
    """Remove older generations: what was removed must not stay in them. Readers keep the files they have open."""
    for folder in (index_path / GENERATIONS).iterdir():
        if folder.name.isdigit() and int(folder.name) < current:
            shutil.rmtree(folder, ignore_errors=True)


def read_stored(index_path: Path | str, chroma_url: str | None, embedder: Embedder | None) -> Stored:
    """The published generation, open until its `close`."""
    index = Index.open(index_path, chroma_url=chroma_url, embedder=embedder)
    try:
        tree, passages = index.tree, index.iter_passages()
        index.texts(tree.inner_ids)  # all at once: node by node takes a request each
        nodes = {node_id: index.node(node_id) for node_id in tree.inner_ids}
        return Stored(
            index=index,
            passages=passages,
            rows=np.array([tree.leaf_row[leaf_id(passage.passage_id)] for passage in passages], dtype=np.int64),
            children={node_id: tree.children(node_id) for node_id in tree.inner_ids},
            homes={leaf: tree.parents(leaf)[0] for leaf in tree.leaf_ids if len(tree.parents(leaf)) > 1},
            summaries={
                node_id: NodeSummary(title=node.title, text=node.text, parts=node.parts, written_by=node.written_by)
                for node_id, node in nodes.items()
            },
        )
    except BaseException:
        index.close()
        raise
