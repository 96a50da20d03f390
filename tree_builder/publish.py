"""The last step of every writer: a finished generation into the staging folder, and then in front of the readers.

Knows no models and makes no decisions. Tested in tests/tree_builder/test_build.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from branchwise.stores.embedding import Embedder
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.manifest import Manifest, read_manifest
from branchwise.stores.records import Passage
from branchwise.stores.staging import Staging, stage
from branchwise.stores.tree import SemanticTree
from branchwise.tree_builder.cluster import FloatMatrix, unit
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.outline import NodeSummary, Outline, leaf_id
from branchwise.tree_builder.write import tree_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """All that an index is made of besides what its staging database holds already.

    `texts` and `vectors` (n, d) are those of the `passages` there, row by row.
    """

    passages: Sequence[Passage]
    texts: Sequence[str]
    vectors: FloatMatrix
    embedder: Embedder
    outline: Outline
    summaries: Mapping[str, NodeSummary]
    max_children: int


class Writer:
    """Holds the lock of an index and its staging folder, on a thread of their own: SQLite wants one and the same."""

    def __init__(self, staging: Staging, run: ThreadPoolExecutor) -> None:
        self.staging = staging
        self._thread = run

    async def publish(self, generation: Generation, manifest: Manifest, events: EventStream) -> Manifest:
        """Write everything, verify it, and make it the current generation; its completed manifest."""
        work = partial(_publish, self.staging, generation, manifest, events)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@asynccontextmanager
async def writing(path: Path | str, *, chroma_url: str | None = None) -> AsyncIterator[Writer]:
    """The one writer of the index at `path`, until the block ends. Raises IndexLocked or InputError."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="branchwise-writer") as thread:
        staging = await loop.run_in_executor(thread, partial(stage, path, chroma_url=chroma_url))
        try:
            yield Writer(staging, thread)
        finally:
            thread.submit(staging.__exit__, None, None, None).result()


def _publish(staging: Staging, generation: Generation, manifest: Manifest, events: EventStream) -> Manifest:
    outline, passages = generation.outline, generation.passages
    nodes = tree_nodes(outline, passages, generation.summaries)
    tree = SemanticTree.from_nodes(nodes, outline.children, max_children=generation.max_children)
    staging.write_tree(tree)
    staging.write_vectors(generation.vectors, inner_vectors(outline, passages, generation.vectors, tree.inner_ids))
    staging.write_embedder(generation.embedder)
    staging.write_lexical(LexicalIndex.build(generation.texts))
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        events.emit("stored", done=done, total=len(tree))

    staging.publish(manifest, progress=progress)
    published = read_manifest(staging.path)
    events.emit(
        "published",
        path=str(staging.path),
        generation=published.generation,
        passages=len(passages),
        nodes=len(tree),
    )
    return published


def inner_vectors(
    outline: Outline, passages: Sequence[Passage], vectors: FloatMatrix, inner_ids: Sequence[str]
) -> FloatMatrix:
    """The vector of every inner node, (len(inner_ids), d): the unit mean of the leaves below it.

    The mean routes a query better than the vector of the node's own text does (agent.bench.tree_quality measures it).
    """
    rows = outline.leaf_rows({leaf_id(passage.passage_id): row for row, passage in enumerate(passages)})
    means = np.zeros((len(inner_ids), vectors.shape[1]), dtype=np.float32)
    for place, node_id in enumerate(inner_ids):
        means[place] = unit(np.asarray(vectors[rows[node_id]]).sum(axis=0))
    return means
