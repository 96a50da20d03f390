"""Texts for an outline: every inner node summarised from its children, from the leaves up, many at once.

Knows no model and no file: the summariser writes, and whoever called puts the nodes into an index. Tested in
tests/tree_builder/test_build.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

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

    With `only`, for those nodes alone. A summary is made of the children's, so a node is written once its children are:
    nobody waits for a whole level. At most `concurrency` summaries are under way at once.
    """
    row_of = {leaf_id(passage.passage_id): row for row, passage in enumerate(passages)}
    rows = outline.leaf_rows(row_of)
    parent = {child: node_id for node_id, children in outline.children.items() for child in children}
    summaries = {**(known or {}), **outline.written}
    wanted = outline.children if only is None else only
    heights = outline.heights()
    missing = [node_id for node_id in heights if node_id not in summaries and node_id in wanted]
    waits_for = dict.fromkeys(missing, 0)
    for node_id in missing:
        if parent.get(node_id) in waits_for:
            waits_for[parent[node_id]] += 1
    # Level by level, siblings side by side: what is known of their parent is then found once for all of them.
    order = sorted(missing, key=heights.__getitem__)
    at_height = Counter(heights[node_id] for node_id in missing)
    ready: asyncio.Queue[str] = asyncio.Queue()
    for node_id in order:
        if not waits_for[node_id]:
            ready.put_nowait(node_id)
    done = 0

    async def write_next() -> None:
        nonlocal done
        node_id = await ready.get()
        if nodes := at_height.pop(heights[node_id], 0):
            events.emit("level", height=heights[node_id], nodes=nodes, done=done, total=len(missing))
        children = [child_text(child, passages, row_of, rows, summaries) for child in outline.children[node_id]]
        summary = await summariser.summarise(children, rows[parent.get(node_id, ROOT)])
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
        above = parent.get(node_id, "")
        if above in waits_for:
            waits_for[above] -= 1
            if not waits_for[above]:
                ready.put_nowait(above)

    turns = iter(range(len(missing)))

    async def write_on() -> None:
        for _ in turns:
            await write_next()
            await asyncio.sleep(0)

    await side_by_side(write_on() for _ in range(min(concurrency, len(missing))))
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


def tree_nodes(
    outline: Outline, passages: Collection[Passage], summaries: Mapping[str, NodeSummary]
) -> Iterator[TreeNode]:
    """The nodes of the tree: leaves in the order of `passages`, then inner nodes, parents before children.

    The text of a leaf is its passage's, and stays there.
    """
    homes: dict[str, list[str]] = {}
    for node_id in outline.below_root():
        for child in outline.children[node_id]:
            homes.setdefault(child, []).append(node_id)
    for leaf, home in outline.homes.items():
        homes[leaf].sort(key=home.__ne__)
    for passage in passages:
        leaf = leaf_id(passage.passage_id)
        yield TreeNode(node_id=leaf, parent_ids=tuple(homes[leaf]), title=passage.title, passage_id=passage.passage_id)
    for node_id in outline.below_root():
        summary = summaries[node_id]
        yield TreeNode(
            node_id=node_id,
            parent_ids=tuple(homes.get(node_id, ())),
            title=summary.title,
            text=summary.text,
            parts=summary.parts,
            written_by=summary.written_by,
        )
