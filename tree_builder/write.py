"""Texts for an outline: every inner node summarised from its children, level by level, many at once.

Knows no model and no file: the summariser writes, and whoever called puts the nodes into an index. Tested in
tests/tree_builder/test_build.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from branchwise.stores.records import Passage, TreeNode
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.gather import side_by_side
from branchwise.tree_builder.outline import ROOT, NodeSummary, Outline, RowArray, leaf_id
from branchwise.tree_builder.summarise import ChildText, Summariser


async def write_texts(
    outline: Outline,
    passages: Sequence[Passage],
    summariser: Summariser,
    *,
    concurrency: int,
    events: EventStream,
    known: Mapping[str, NodeSummary] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, NodeSummary]:
    """A summary for every inner node of `outline` that neither it nor `known` has one for; all of them are returned.

    With `only`, for those nodes alone. A level is finished before the next begins, for a summary is made of the
    children's. At most `concurrency` summaries are under way at once.
    """
    row_of = {leaf_id(passage.passage_id): row for row, passage in enumerate(passages)}
    rows = outline.leaf_rows(row_of)
    parent = {child: node_id for node_id, children in outline.children.items() for child in children}
    summaries = {**(known or {}), **outline.written}
    wanted = outline.children if only is None else only
    missing = [node_id for node_id in outline.below_root() if node_id not in summaries and node_id in wanted]
    heights = outline.heights()
    gate = asyncio.Semaphore(concurrency)
    done = 0

    async def write(node_id: str) -> None:
        nonlocal done
        async with gate:
            children = [child_text(child, passages, row_of, rows, summaries) for child in outline.children[node_id]]
            company = rows[parent.get(node_id, ROOT)]
            summary = await summariser.summarise(children, company)
            await asyncio.sleep(0)
        summaries[node_id] = summary
        done += 1
        events.emit(
            "node",
            node_id=node_id,
            title=summary.title,
            written_by=summary.written_by,
            done=done,
            total=len(missing),
        )

    for height in sorted({heights[node_id] for node_id in missing}):
        level = [node_id for node_id in missing if heights[node_id] == height]
        events.emit("level", height=height, nodes=len(level), done=done, total=len(missing))
        await side_by_side(write(node_id) for node_id in level)
    return summaries


def child_text(
    node_id: str,
    passages: Sequence[Passage],
    row_of: Mapping[str, int],
    rows: Mapping[str, RowArray],
    summaries: Mapping[str, NodeSummary],
) -> ChildText:
    """A leaf or a written node as a summary of its parent sees it; `row_of` maps leaves, `rows` inner nodes."""
    if node_id in row_of:
        passage = passages[row_of[node_id]]
        own = np.array([row_of[node_id]], dtype=np.int32)
        return ChildText(node_id=node_id, title=passage.title, text=passage.text, rows=own)
    summary = summaries[node_id]
    return ChildText(
        node_id=node_id,
        title=summary.title,
        text=summary.text,
        rows=rows[node_id],
        keywords=summary.keywords,
        is_leaf=False,
    )


def tree_nodes(outline: Outline, passages: Collection[Passage], summaries: Mapping[str, NodeSummary]) -> list[TreeNode]:
    """The nodes of the tree: leaves in the order of `passages`, then inner nodes, parents before children."""
    homes: dict[str, list[str]] = {}
    for node_id in outline.below_root():
        for child in outline.children[node_id]:
            homes.setdefault(child, []).append(node_id)
    for leaf, home in outline.homes.items():
        homes[leaf].sort(key=home.__ne__)
    leaves = [
        TreeNode(
            node_id=leaf_id(passage.passage_id),
            parent_ids=tuple(homes[leaf_id(passage.passage_id)]),
            title=passage.title,
            text=passage.text,
            passage_id=passage.passage_id,
        )
        for passage in passages
    ]
    inner = [
        TreeNode(
            node_id=node_id,
            parent_ids=tuple(homes.get(node_id, ())),
            title=summaries[node_id].title,
            text=summaries[node_id].text,
            parts=summaries[node_id].parts,
            written_by=summaries[node_id].written_by,
        )
        for node_id in outline.below_root()
    ]
    return leaves + inner
