"""Which tree is built, and the second homes of leaves: one door to bottom_up, top_down and hybrid.

Tested in tests/tree_builder/test_hybrid.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from branchwise.stores.records import Passage
from branchwise.tree_builder.bottom_up import bottom_up
from branchwise.tree_builder.cluster import Each, FloatMatrix, one_by_one
from branchwise.tree_builder.config import BuildConfig, TreeKind
from branchwise.tree_builder.corpus import group_of
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.hybrid import hybrid
from branchwise.tree_builder.membership import second_homes
from branchwise.tree_builder.outline import ROOT, Outline, leaf_id
from branchwise.tree_builder.summarise import Summariser
from branchwise.tree_builder.top_down import Items, top_down

ROOM = 60_000
"""Characters of strings that are sorted at once without a model, where no window bounds them."""
LARGE = 50_000
"""Passages from which top-down sorting is left to clusters of them."""


async def shape(
    passages: Sequence[Passage],
    vectors: FloatMatrix,
    summariser: Summariser,
    config: BuildConfig,
    events: EventStream,
    *,
    window: int | None = None,
    each: Each = one_by_one,
) -> Outline:
    """The outline that `config` asks for over `passages`, whose vectors are the rows of `vectors` (n, d).

    `window` is the model's context in tokens, None where no model writes; `each` does what can be done side
    by side.
    """
    outline = await _grow(passages, vectors, summariser, config, events, window, each)
    if not config.soft_membership:
        return outline
    row_of = {leaf_id(passage.passage_id): row for row, passage in enumerate(passages)}
    return await asyncio.to_thread(second_homes, outline, row_of, vectors, max_children=config.max_children)


async def _grow(
    passages: Sequence[Passage],
    vectors: FloatMatrix,
    summariser: Summariser,
    config: BuildConfig,
    events: EventStream,
    window: int | None,
    each: Each,
) -> Outline:
    leaf_ids = [leaf_id(passage.passage_id) for passage in passages]
    documents = [group_of(passage) for passage in passages]
    if len(leaf_ids) <= config.max_children:
        return Outline({ROOT: tuple(leaf_ids)})
    kind = choose_kind(config.tree, documents, by_model=window is not None)
    limits = {"max_children": config.max_children, "seed": config.seed}
    if kind == "bottom-up":
        return await asyncio.to_thread(bottom_up, leaf_ids, vectors, documents, each=each, **limits)
    room = ROOM if window is None else window  # half of the window, at two characters a token at the least
    if kind == "top-down":
        items = Items(leaf_ids, await summariser.levels(passages), vectors)
        return await top_down(items, summariser, room=room, **limits)
    return await hybrid(
        passages,
        vectors,
        documents,
        summariser,
        room=room,
        concurrency=config.concurrency,
        events=events,
        each=each,
        **limits,
    )


def choose_kind(tree: TreeKind, documents: Sequence[str], *, by_model: bool) -> TreeKind:
    """What "auto" means: hybrid where documents have several passages or there are very many, else bottom-up."""
    if tree != "auto":
        return tree
    several = len(set(documents)) < len(documents)
    return "hybrid" if by_model and (several or len(documents) >= LARGE) else "bottom-up"
