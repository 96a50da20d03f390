"""The shape of a tree before it has texts: which node stands under which, and what is already written of it.

A shape is made by bottom_up, top_down or hybrid, written by summarise, and becomes TreeNodes in build. Ids of inner
nodes are hashes of what they hold, so that the same grouping has the same ids wherever it is made. Tested in
tests/tree_builder/test_outline.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from branchwise.stores.records import Part

ROOT = "n:root"
RowArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSummary:
    """What is written of an inner node: `text` is what a judge reads, `parts` what it says of each child.

    `keywords` go no further than the build: the parent's part on this node is made of them.
    """

    title: str
    text: str
    parts: tuple[Part, ...] = ()
    keywords: tuple[str, ...] = ()
    written_by: str = "extractive"


@dataclass(frozen=True, slots=True)
class Outline:
    """Children of every inner node, the root's under "n:root"; leaves are named "p:" + passage id.

    `written` holds the summaries that came with the shape (topics of a top-down build), `homes` the home of every leaf
    where some have a second parent (soft membership).
    """

    children: Mapping[str, tuple[str, ...]]
    written: Mapping[str, NodeSummary] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)

    def heights(self) -> dict[str, int]:
        """Edges from each inner node down to its farthest leaf, in an order in which children precede parents."""
        heights: dict[str, int] = {}
        for node_id in reversed(self.below_root()):
            heights[node_id] = 1 + max((heights.get(child, 0) for child in self.children[node_id]), default=0)
        return heights

    def below_root(self) -> list[str]:
        """Inner nodes, every parent before its children, level by level."""
        order = [ROOT]
        for node_id in order:
            order.extend(child for child in self.children[node_id] if child in self.children)
        return order

    def leaf_rows(self, row_of: Mapping[str, int]) -> dict[str, RowArray]:
        """Rows of the distinct leaves below every inner node, ascending; `row_of` maps leaf ids to rows."""
        rows: dict[str, RowArray] = {}
        for node_id in reversed(self.below_root()):
            below = [
                rows[child] if child in rows else np.array([row_of[child]], dtype=np.int32)
                for child in self.children[node_id]
            ]
            rows[node_id] = np.unique(np.concatenate(below)) if below else np.empty(0, dtype=np.int32)
        return rows


def leaf_id(passage_id: str) -> str:
    """Node id of the leaf of a passage."""
    return f"p:{passage_id}"


def inner_id(children: Sequence[str], salt: str = "") -> str:
    """Node id of a cluster, from its children's ids whatever their order; `salt` tells apart what would be equal."""
    digest = hashlib.sha256("\n".join([salt, *sorted(children)]).encode()).hexdigest()
    return f"n:{digest[:12]}"
