"""LATTICE's hybrid tree: bottom-up clusters (or documents) as pseudo-leaves, top-down topics above them.

The only form for very large corpora: what is sorted from the top are some N / 12 clusters, each described once, instead
of N passages. Knows no prompts. Tested in tests/tree_builder/test_hybrid.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from branchwise.stores.records import Passage
from branchwise.tree_builder.bottom_up import group_centres, leaf_clusters
from branchwise.tree_builder.cluster import Each, FloatMatrix, one_by_one
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.outline import ROOT, NodeSummary, Outline, inner_id, leaf_id
from branchwise.tree_builder.summarise import Summariser
from branchwise.tree_builder.top_down import Items, top_down
from branchwise.tree_builder.write import write_texts


async def hybrid(
    passages: Sequence[Passage],
    vectors: FloatMatrix,
    documents: Sequence[str],
    summariser: Summariser,
    *,
    max_children: int,
    seed: int,
    room: int,
    concurrency: int,
    events: EventStream,
    each: Each = one_by_one,
) -> Outline:
    """The tree over `passages`: leaf clusters by document or by vectors, and topics of clusters above them."""
    leaf_ids = [leaf_id(passage.passage_id) for passage in passages]
    if len(leaf_ids) <= max_children:
        return Outline({ROOT: tuple(leaf_ids)})
    clusters = await asyncio.to_thread(
        leaf_clusters, vectors, documents, max_children=max_children, seed=seed, each=each
    )
    below = {inner_id(ids): tuple(ids) for ids in ([leaf_ids[row] for row in rows] for rows in clusters)}
    lower = await write_texts(
        Outline({ROOT: tuple(below), **below}),
        passages,
        summariser,
        concurrency=concurrency,
        events=events,
        only=set(below),
    )
    levels = await summariser.levels([_described(node_id, lower) for node_id in below])
    items = Items(list(below), levels, group_centres(vectors, clusters))
    upper = await top_down(items, summariser, max_children=max_children, seed=seed, room=room)
    # What no model wrote is written again later, told apart from its siblings, which nobody knew before.
    bought = {node_id: summary for node_id, summary in lower.items() if summary.written_by != "extractive"}
    return Outline({**upper.children, **below}, {**upper.written, **bought})


def _described(node_id: str, summaries: Mapping[str, NodeSummary]) -> Passage:
    """A cluster as a passage of its own, so that it is fingerprinted like one."""
    text = summaries[node_id].text
    return Passage(
        passage_id=node_id, doc_id=node_id, text=text, start=0, end=len(text), title=summaries[node_id].title
    )
