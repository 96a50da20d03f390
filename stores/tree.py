"""The semantic tree over a NetworkX graph: edges run from parent to child, children keep their order.

A tree but for soft membership: a leaf may hang under two parents, its home first. Knows nothing of files, vectors or
models. Tested in tests/stores/test_tree.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from branchwise.stores.errors import IndexMissing
from branchwise.stores.records import TreeNode

if TYPE_CHECKING:
    import networkx as nx

RowArray = npt.NDArray[np.int32]
MAX_PARENTS = 2  # a home and, by soft membership, one more


class SemanticTree:
    """Root, inner nodes and leaves. The leaf at place i of `leaf_ids` owns row i of every leaf matrix.

    `nodes` gives the record of every node of `graph`. Whoever opens a tree from a file gives records without texts.
    """

    def __init__(
        self,
        graph: nx.DiGraph,
        nodes: Mapping[str, TreeNode],
        *,
        leaf_ids: Sequence[str],
        inner_ids: Sequence[str],
        max_children: int,
    ) -> None:
        self.graph = graph
        self.max_children = max_children
        self.leaf_ids = tuple(leaf_ids)
        self.inner_ids = tuple(inner_ids)
        self.leaf_row: Mapping[str, int] = {node_id: row for row, node_id in enumerate(self.leaf_ids)}
        self.root_id = next((node_id for node_id in self.inner_ids if not graph.pred[node_id]), None)
        self._nodes = nodes
        self._rows: dict[str, RowArray] = {}
        self._heights: dict[str, int] = {}
        self._depths: dict[str, int] = {}
        self._parents: dict[str, tuple[str, ...]] = {}
        self._paths: dict[str, tuple[str, ...]] = {}

    @classmethod
    def from_nodes(
        cls, nodes: Iterable[TreeNode], children: Mapping[str, Sequence[str]], *, max_children: int
    ) -> SemanticTree:
        """The tree of `nodes` (their order gives the rows) and ordered `children`; sets `parent_ids` and `depth`.

        Of a leaf with two parents, the home is the one its record names first, else the one met first.
        """
        import networkx as nx

        given = {node.node_id: node for node in nodes}
        parents: dict[str, list[str]] = defaultdict(list)
        for parent_id, child_ids in children.items():
            for child_id in child_ids:
                parents[child_id].append(parent_id)
        if unknown := (parents.keys() | children.keys()) - given.keys():
            raise ValueError(f"children name nodes that were not given: {sorted(unknown)[:5]}")
        for node_id, node in given.items():
            if node.parent_ids:
                parents[node_id].sort(key=node.parent_ids[0].__ne__)
        depths = _depths(given, parents)
        graph = nx.DiGraph()
        graph.add_nodes_from(given)
        for parent_id, child_ids in children.items():
            graph.add_edges_from((parent_id, child_id) for child_id in child_ids)
        for node_id, node in given.items():
            given[node_id] = replace(node, parent_ids=tuple(parents[node_id]), depth=depths[node_id])
        return cls(
            graph,
            given,
            leaf_ids=[node_id for node_id, node in given.items() if node.is_leaf],
            inner_ids=[node_id for node_id, node in given.items() if not node.is_leaf],
            max_children=max_children,
        )

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def node(self, node_id: str) -> TreeNode:
        """The node's record. Raises IndexMissing for an unknown id."""
        try:
            return self._nodes[node_id]
        except KeyError:
            raise IndexMissing(f"There is no node {node_id!r} in this tree.", hint="branchwise tree show") from None

    def is_leaf(self, node_id: str) -> bool:
        """True where the node stands for one passage."""
        return node_id in self.leaf_row or self.node(node_id).is_leaf

    def children(self, node_id: str) -> tuple[str, ...]:
        """Ids of the children, in order; none for a leaf."""
        if node_id not in self._nodes:
            self.node(node_id)
        return tuple(self.graph.succ[node_id])

    def parents(self, node_id: str) -> tuple[str, ...]:
        """Ids of the parents, the home first; none for the root."""
        known = self._parents.get(node_id)
        if known is None:  # a search asks this thousands of times, and a record is made anew each time
            known = self._parents[node_id] = self.node(node_id).parent_ids
        return known

    def path_to(self, node_id: str) -> tuple[str, ...]:
        """Ids from the root to the node, along home parents."""
        if node_id not in self._paths:
            path = [node_id]
            seen = {node_id}
            while (parents := self.parents(path[-1])) and parents[0] not in seen:
                path.append(parents[0])
                seen.add(parents[0])
            self._paths[node_id] = tuple(reversed(path))
        return self._paths[node_id]

    def depth(self, node_id: str) -> int:
        """Edges from the root to the node, along home parents."""
        if node_id not in self._depths:
            self._depths[node_id] = self.node(node_id).depth
        return self._depths[node_id]

    def height(self, node_id: str) -> int:
        """Edges from the node down to its farthest leaf; 0 for a leaf."""
        known = self._heights
        if node_id in known:
            return known[node_id]
        for current in self._below_first(node_id, known):
            known[current] = 1 + max((known.get(child, 0) for child in self.graph.succ[current]), default=-1)
        return known[node_id]

    def leaf_rows(self, node_id: str) -> RowArray:
        """Rows of the distinct leaves at or below the node, ascending."""
        known = self._rows
        if node_id in known:
            return known[node_id]
        for current in self._below_first(node_id, known):
            if (row := self.leaf_row.get(current)) is not None:
                known[current] = np.array([row], dtype=np.int32)
                continue
            below = [known[child] for child in self.graph.succ[current] if child in known]
            known[current] = np.unique(np.concatenate(below)) if below else np.empty(0, dtype=np.int32)
        return known[node_id]

    def leaves(self, node_id: str) -> tuple[str, ...]:
        """Ids of the distinct leaves at or below the node, in row order."""
        return tuple(self.leaf_ids[row] for row in self.leaf_rows(node_id))

    def levels(self) -> list[list[str]]:
        """Node ids by depth, the root's level first."""
        by_depth: dict[int, list[str]] = defaultdict(list)
        for node_id, node in self._nodes.items():
            by_depth[node.depth].append(node_id)
        return [by_depth[depth] for depth in sorted(by_depth)]

    def check(self) -> list[str]:
        """Every broken invariant, one sentence each; an empty list is a sound tree.

        Sound: one root that is an inner node; every node below it, without cycles; only leaves have no children, but
        for the root of an empty tree; nobody has more than `max_children`, and they are all leaves or all inner nodes;
        a leaf has at most two parents, an inner node one; records agree with the edges on parents and depth; a passage
        has one leaf; parts speak of children.
        """
        nodes = dict(self._nodes)
        broken = [*self._check_root(nodes)]
        for node in nodes.values():
            broken += self._check_node(node, nodes)
        return broken

    def _check_root(self, nodes: Mapping[str, TreeNode]) -> Iterator[str]:
        roots = [node_id for node_id in nodes if not self.graph.pred[node_id]]
        if len(roots) != 1 and (roots or nodes):
            yield f"There are {len(roots)} roots instead of one: {_some(roots)}."
        if leafy := [node_id for node_id in roots if nodes[node_id].is_leaf]:
            yield f"A leaf hangs under no node: {_some(leafy)}."
        reached = {below for root in roots for below in self._below_first(root, {})}
        if lost := [node_id for node_id in nodes if node_id not in reached]:
            yield f"{len(lost)} nodes cannot be reached from a root: {_some(lost)}."
        if cycle := self._cycle():
            yield f"There is a cycle: {' -> '.join(cycle)}."
        passages = Counter(nodes[leaf].passage_id for leaf in self.leaf_ids)
        if doubled := [str(passage) for passage, times in passages.items() if times > 1]:
            yield f"{len(doubled)} passages have several leaves: {_some(doubled)}."

    def _check_node(self, node: TreeNode, nodes: Mapping[str, TreeNode]) -> Iterator[str]:
        node_id = node.node_id
        children, parents = self.graph.succ[node_id], self.graph.pred[node_id]
        if node.is_leaf and children:
            yield f"Leaf {node_id} has children: {_some(children)}."
        if not node.is_leaf and not children and (parents or len(self) > 1):
            yield f"Inner node {node_id} has no children."
        if len(children) > self.max_children:
            yield f"Node {node_id} has {len(children)} children; {self.max_children} are allowed."
        if len({child in self.leaf_row for child in children}) > 1:
            yield f"Node {node_id} has both leaves and inner nodes as children."
        if len(parents) > (allowed := MAX_PARENTS if node.is_leaf else 1):
            yield f"Node {node_id} has {len(parents)} parents; {allowed} allowed."
        if set(node.parent_ids) != set(parents) or len(node.parent_ids) != len(parents):
            yield f"Node {node_id} names {_some(node.parent_ids)} as parents, but hangs under {_some(parents)}."
        elif parents and node.depth != (depth := nodes[node.parent_ids[0]].depth + 1):
            yield f"Node {node_id} has depth {node.depth} instead of {depth}."
        elif not parents and node.depth != 0:
            yield f"Root {node_id} has depth {node.depth} instead of 0."
        if strangers := [part.child_id for part in node.parts if part.child_id not in children]:
            yield f"Node {node_id} has parts on nodes that are not its children: {_some(strangers)}."

    def _cycle(self) -> list[str]:
        import networkx as nx

        if nx.is_directed_acyclic_graph(self.graph):
            return []
        return [str(parent) for parent, _ in nx.find_cycle(self.graph)]

    def _below_first(self, node_id: str, known: Mapping[str, object]) -> list[str]:
        """The node and all below it that are not in `known`, every child before its parents; ends on cycles too."""
        self.node(node_id)
        order: list[str] = []
        seen: set[str] = set()
        stack = [(node_id, False)]
        while stack:
            current, done = stack.pop()
            if done:
                order.append(current)
            elif current not in seen and current not in known:
                seen.add(current)
                stack.append((current, True))
                stack.extend((child, False) for child in self.graph.succ[current])
        return order


def _depths(nodes: Mapping[str, TreeNode], parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Depth of every node along its home parents; a node on a cycle, or below one, counts from where it began."""
    depths: dict[str, int] = {}
    for node_id in nodes:
        way: list[str] = []
        current: str | None = node_id
        seen: set[str] = set()
        while current is not None and current not in depths and current not in seen:
            way.append(current)
            seen.add(current)
            above = parents.get(current)
            current = above[0] if above else None
        depth = depths.get(current, -1) if current is not None else -1
        for step in reversed(way):
            depth += 1
            depths[step] = depth
    return depths


def _some(ids: Iterable[str]) -> str:
    """The first few ids, for a message."""
    listed = list(ids)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") or "none"
