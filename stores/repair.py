"""Making what is derived anew: Chroma from tree.sqlite and vectors.npy, or all vectors with another embedder.

Documents, passages, tree and summaries are kept as they are. Tested in tests/stores/test_repair.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from branchwise.stores.database import Database
from branchwise.stores.embedding import Embedder, FloatMatrix, unit_rows
from branchwise.stores.index import VECTORS, open_matrix
from branchwise.stores.manifest import Manifest, generation_folder, read_manifest
from branchwise.stores.rows import titled
from branchwise.stores.staging import stage
from branchwise.stores.tree import SemanticTree
from branchwise.stores.vectors import build_vectors

Progress = Callable[[int], None]


def rebuild_vectors(path: Path | str, *, chroma_url: str | None = None, progress: Progress | None = None) -> None:
    """Build Chroma again: in a new generation, or for `chroma_url` on that server, which readers can then use.

    `progress` is called with the number of nodes written since the last call. Raises IndexCorrupt where the sources of
    truth are damaged too.
    """
    path = Path(path)
    manifest = read_manifest(path)
    folder = generation_folder(path, manifest.generation)
    with Database(folder) as database:
        tree = database.read_tree()
        leaves, inner = _rows(folder, tree, manifest)
        if chroma_url is not None:
            name = manifest.collection(chroma_url)
            build_vectors(name, database.node_texts, leaves, inner, url=chroma_url, progress=progress)
            return
    with stage(path) as staging:
        staging.adopt(manifest, tree)
        staging.write_vectors(leaves, inner)
        staging.keep_embedder(manifest)
        staging.publish(manifest, progress=progress)


def reembed(path: Path | str, embedder: Embedder, *, progress: Progress | None = None) -> None:
    """A new generation with the same tree and summaries, its vectors made by `embedder`.

    An inner node's vector is the unit mean of its leaves'. `progress` counts leaves embedded, then nodes stored.
    """
    path = Path(path)
    manifest = read_manifest(path)
    with Database(generation_folder(path, manifest.generation)) as database:
        tree = database.read_tree()
        texts = {p.passage_id: titled(p.title, p.text) for p in database.all_passages()}
    with stage(path) as staging:
        leaf_texts = [texts[tree.node(node_id).passage_id or ""] for node_id in tree.leaf_ids]
        leaves = embedder.embed_texts(leaf_texts, progress=progress)
        inner = np.zeros((len(tree.inner_ids), embedder.dimension), dtype=np.float32)
        for row, node_id in enumerate(tree.inner_ids):
            inner[row] = leaves[tree.leaf_rows(node_id)].sum(axis=0)
        staging.adopt(manifest, tree)
        staging.write_vectors(leaves, unit_rows(inner))
        staging.write_embedder(embedder)
        staging.publish(manifest, progress=progress)


def _rows(folder: Path, tree: SemanticTree, manifest: Manifest) -> tuple[FloatMatrix, FloatMatrix]:
    rows = open_matrix(folder / VECTORS, len(tree), manifest.embedding["dimension"])
    return rows[: len(tree.leaf_ids)], rows[len(tree.leaf_ids) :]
