"""Which tree is built, and the second homes of leaves: one door to bottom_up, top_down and hybrid.

Tested in tests/tree_builder/test_shape.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from branchwise.stores.records import Passage
from branchwise.tree_builder.bottom_up import bottom_up
from branchwise.tree_builder.cluster import FloatMatrix
from branchwise.tree_builder.config import BuildConfig, TreeKind
from branchwise.tree_builder.corpus import group_of
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.hybrid import hybrid
from branchwise.tree_builder.outline import Outline, leaf_id
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
) -> Outline:
    """The outline that `config` asks for over `passages`, whose vectors are the rows of `vectors` (n, d).

    `window` is the model's context in tokens, None where no model writes.
    """
    leaf_ids = [leaf_id(passage.passage_id) for passage in passages]
    documents = [group_of(passage) for passage in passages]
    kind = choose_kind(config.tree, documents, by_model=window is not None)
    limits = {"max_children": config.max_children, "seed": config.seed}
    if kind == "bottom-up":
        return await asyncio.to_thread(bottom_up, leaf_ids, vectors, documents, **limits)
    room = ROOM if window is None else window  # half of the window, at two characters a token at the least
    if kind == "top-down":
        levels = await summariser.levels(passages) if len(passages) > config.max_children else []
        items = Items(leaf_ids, levels, vectors)
        return await top_down(items, summariser, room=room, **limits)
    return await hybrid(
        passages,
        vectors,
        documents,
        summariser,
        room=room,
        concurrency=config.concurrency,
        events=events,
        **limits,
    )


def choose_kind(tree: TreeKind, documents: Sequence[str], *, by_model: bool) -> TreeKind:
    """What "auto" means: hybrid where documents have several passages or there are very many, else bottom-up."""
    if tree != "auto":
        return tree
    several = len(set(documents)) < len(documents)
    return "hybrid" if by_model and (several or len(documents) >= LARGE) else "bottom-up"
