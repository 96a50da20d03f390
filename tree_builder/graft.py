"""Changes the shape of a tree that is already there: leaves in, leaves out, splits and merges that keep the fan-out.

Search-and-insert (lattice: section 1) decides where a leaf goes; here it is put there, and what has become too large or
too small is mended around it: a node of more than M children is split, one of too few is merged with its nearest
sibling, a node with a single child gives way to it. Nodes that nothing happened to keep their ids and their texts.
Knows no texts. Tested in tests/tree_builder/test_graft.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from branchwise.tree_builder.bottom_up import even_sizes
from branchwise.tree_builder.cluster import FloatMatrix, FloatVector, Sizes, group, unit
from branchwise.tree_builder.outline import ROOT, Outline, inner_id


class Graft:
    """A tree under change: `made` are nodes that are new, `changed` counts the leaves that came or went below each."""

    def __init__(
        self,
        children: Mapping[str, Sequence[str]],
        vectors: FloatMatrix,
        row_of: Mapping[str, int],
        homes: Mapping[str, str],
        *,
        max_children: int,
        seed: int,
        salt: str,
    ) -> None:
        """Row `row_of[leaf]` of `vectors` is the leaf's; `homes` names the first parent of leaves that have two.

        `salt` tells new ids from all that the index has ever used.
        """
        self.children = {node_id: list(below) for node_id, below in children.items()}
        self.parents: dict[str, list[str]] = {}
        for node_id, below in self.children.items():
            for child in below:
                self.parents.setdefault(child, []).append(node_id)
        for leaf, home in homes.items():
            self.parents[leaf].sort(key=home.__ne__)
        self.made: set[str] = set()
        self.changed: dict[str, int] = {}
        self._vectors = vectors
        self._row_of = row_of
        self._max_children = max_children
        self._sizes = Sizes.for_children(max_children)
        self._seed = seed
        self._salt = salt
        self._dirty: set[str] = set()
        self._sums: dict[str, FloatVector] = {}

    def clusters(self) -> list[str]:
        """Nodes whose children are leaves, in a fixed order; the root where it has no other children."""
        return [
            node_id
            for node_id, below in self.children.items()
            if (not below and node_id == ROOT) or (below and below[0] not in self.children)
        ]

    def centres(self, node_ids: Sequence[str]) -> FloatMatrix:
        """The unit mean of the leaves below each node, (n, d)."""
        rows = [unit(self._sum(node_id)) for node_id in node_ids]
        return np.array(rows, dtype=np.float32)

    def remove(self, leaf: str) -> None:
        """Take a leaf out of all its clusters."""
        for cluster in self.parents.pop(leaf, []):
            self.children[cluster].remove(leaf)
            self._touch(cluster)

    def insert(self, leaf: str, cluster: str) -> None:
        """Put a leaf into a cluster."""
        self.children[cluster].append(leaf)
        self.parents.setdefault(leaf, []).append(cluster)
        self._touch(cluster)

    def insert_cluster(self, leaves: Sequence[str], beside: str) -> None:
        """A cluster of these leaves, as a sibling of the cluster `beside` (below it, where that is the root)."""
        if beside == ROOT:
            for leaf in leaves:
                self.insert(leaf, ROOT)
            return
        parent = self.parents[beside][0]
        node_id = self._make(leaves)
        self.children[parent].insert(self.children[parent].index(beside) + 1, node_id)
        self.parents[node_id] = [parent]
        self._touch(node_id, len(leaves))
        self._dirty.add(parent)

    def settle(self) -> Outline:
        """Split and merge until every node has 2 to `max_children` children again (the root: any number up to it)."""
        while self._dirty:
            depths = {node_id: self._depth(node_id) for node_id in self._dirty if node_id in self.children}
            if not depths:
                break
            deepest = max(depths, key=lambda node_id: (depths[node_id], node_id))
            self._dirty.discard(deepest)
            self._settle(deepest)
        self._dirty.clear()
        homes = {child: above[0] for child, above in self.parents.items() if len(above) > 1}
        return Outline({node_id: tuple(below) for node_id, below in self.children.items()}, homes=homes)

    def _settle(self, node_id: str) -> None:
        below = self.children[node_id]
        if len(below) > self._max_children:
            self._split(node_id)
        elif node_id == ROOT:
            if len(below) == 1 and below[0] in self.children:
                self._dissolve(below[0])
        elif not below:
            self._drop(node_id)
        elif len(below) == 1 and below[0] in self.children:
            self._dissolve(below[0])
        elif len(below) < max(2.0, self._sizes.least / 2):
            self._merge(node_id)

    def _split(self, node_id: str) -> None:
        """Children in groups: the largest stays with the node, the others become siblings (children, of the root)."""
        below = self.children[node_id]
        vectors = self.centres(below)
        wanted = even_sizes(len(below), self._max_children) if node_id == ROOT else self._sizes
        sizes = Sizes(least=wanted.least, target=wanted.target, most=min(wanted.most, len(below) - 1))
        groups = [[below[row] for row in rows] for rows in group(vectors, sizes, seed=self._seed)]
        groups = _without_singles(groups)
        if node_id == ROOT:
            self.children[ROOT] = [self._adopt(members, ROOT) for members in groups]
            self._dirty.add(ROOT)
            return
        parent = self.parents[node_id][0]
        groups.sort(key=len, reverse=True)
        self.children[node_id] = groups[0]
        self.made.add(node_id)
        if len(groups[0]) > self._max_children:  # a single joined a full group
            self._dirty.add(node_id)
        place = self.children[parent].index(node_id) + 1
        self.children[parent][place:place] = [self._adopt(members, parent, was=node_id) for members in groups[1:]]
        self._sums.clear()
        self._dirty.add(parent)

    def _adopt(self, members: Sequence[str], parent: str, *, was: str = ROOT) -> str:
        """A new node for `members`, which were children of `was`."""
        node_id = self._make(members)
        for child in members:
            self.parents[child] = [node_id if above == was else above for above in self.parents[child]]
        self.parents[node_id] = [parent]
        if len(members) > self._max_children:
            self._dirty.add(node_id)
        return node_id

    def _merge(self, node_id: str) -> None:
        """Give the children to the nearest sibling of the same kind; an only child gives them to its parent."""
        parent = self.parents[node_id][0]
        kind = self.children[node_id][0] in self.children
        siblings = [
            other
            for other in self.children[parent]
            if other != node_id and self.children[other] and (self.children[other][0] in self.children) == kind
        ]
        if not siblings and len(self.children[parent]) == 1:
            self._dissolve(node_id)
            return
        if not siblings and len(self.children[node_id]) == 1:  # a lone leaf among branches: any cluster will do
            siblings = [other for other in self.clusters() if other != node_id]
        if not siblings:
            return
        nearest = siblings[int(np.argmax(self.centres(siblings) @ self.centres([node_id])[0]))]
        for child in self.children[node_id]:
            self.parents[child] = [nearest if above == node_id else above for above in self.parents[child]]
            if child not in self.children[nearest]:  # a leaf with both for homes has one now
                self.children[nearest].append(child)
            self.parents[child] = list(dict.fromkeys(self.parents[child]))
        self.made.add(nearest)
        self._forget(node_id)
        self._sums.clear()
        self._dirty |= {nearest, parent}

    def _dissolve(self, node_id: str) -> None:
        """An only child gives its children to its parent."""
        parent = self.parents[node_id][0]
        self.children[parent] = self.children[node_id]
        for child in self.children[node_id]:
            self.parents[child] = [parent if above == node_id else above for above in self.parents[child]]
        del self.children[node_id], self.parents[node_id]
        self._clean(node_id)
        self.made.add(parent)
        self._dirty.add(parent)

    def _drop(self, node_id: str) -> None:
        """Remove an empty node."""
        parent = self.parents[node_id][0]
        self._forget(node_id)
        self._dirty.add(parent)

    def _forget(self, node_id: str) -> None:
        self.children[self.parents.pop(node_id)[0]].remove(node_id)
        del self.children[node_id]
        self._clean(node_id)

    def _clean(self, node_id: str) -> None:
        self.made.discard(node_id)
        self.changed.pop(node_id, None)
        self._dirty.discard(node_id)

    def _make(self, members: Sequence[str]) -> str:
        node_id = inner_id(members, salt=self._salt)
        while node_id in self.children:
            node_id = inner_id([node_id], salt=self._salt)
        self.children[node_id] = list(members)
        self.made.add(node_id)
        return node_id

    def _touch(self, cluster: str, leaves: int = 1) -> None:
        """Count leaves that came to a cluster, or went, for it and all above it."""
        self._dirty.add(cluster)
        above: str | None = cluster
        while above is not None:
            self.changed[above] = self.changed.get(above, 0) + leaves
            self._sums.pop(above, None)
            above = self.parents[above][0] if above != ROOT else None

    def _depth(self, node_id: str) -> int:
        depth = 0
        while node_id != ROOT:
            node_id = self.parents[node_id][0]
            depth += 1
        return depth

    def _sum(self, node_id: str) -> FloatVector:
        if node_id not in self.children:
            return np.asarray(self._vectors[self._row_of[node_id]])
        known = self._sums.get(node_id)
        if known is None:
            below = [self._sum(child) for child in self.children[node_id]]
            known = np.sum([np.zeros(self._vectors.shape[1], dtype=np.float32), *below], axis=0, dtype=np.float32)
            self._sums[node_id] = known
        return known


def _without_singles(groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """Groups of two or more: a single joins the group before it, or the next; at least two groups remain."""
    joined: list[list[str]] = []
    for members in groups:
        if joined and (len(members) == 1 or len(joined[-1]) == 1):
            joined[-1] += members
        else:
            joined.append(list(members))
    if len(joined) > 1 and len(joined[-1]) == 1:
        joined[-2] += joined.pop()
    if len(joined) == 1:
        half = len(joined[0]) // 2
        joined = [joined[0][:half], joined[0][half:]]
    return joined
