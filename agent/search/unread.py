"""The leaves that are known but not read: the seeds, and what lies in clusters that were judged.

Kept as arrays, because every decision looks at all of them. Does not decide. Tested in tests/agent/test_state.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from branchwise.agent.search.belief import Belief
from branchwise.agent.search.seeds import Prior
from branchwise.stores.tree import SemanticTree

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


class Unread:
    """Rows of unread leaves, each with the place of its home in `homes`."""

    def __init__(self, tree: SemanticTree, prior: Prior) -> None:
        self._tree = tree
        self._prior = prior
        self._known = np.zeros(len(tree.leaf_ids), dtype=np.bool_)
        self._asked = np.zeros(len(tree.leaf_ids), dtype=np.bool_)
        self._homes: dict[str, int] = {}
        self._rows: Rows = np.zeros(0, dtype=np.intp)
        self._home: Rows = np.zeros(0, dtype=np.intp)
        self.add(prior.ranked)

    def add(self, rows: Sequence[int] | Rows) -> None:
        """Make leaves known; those out of sight, known or asked already stay as they are."""
        fresh = np.asarray(rows, dtype=np.intp)
        fresh = fresh[(self._prior.fused[fresh] >= 0) & ~self._known[fresh]]
        self._known[fresh] = True
        tree, homes = self._tree, self._homes
        home = [homes.setdefault(tree.parents(tree.leaf_ids[row])[0], len(homes)) for row in fresh.tolist()]
        self._rows = np.concatenate([self._rows, fresh])
        self._home = np.concatenate([self._home, np.array(home, dtype=np.intp)])

    def ask(self, rows: Sequence[int]) -> None:
        """Leaves were put before the judge."""
        self._asked[list(rows)] = True
        keep = ~self._asked[self._rows]
        self._rows, self._home = self._rows[keep], self._home[keep]

    def give_back(self, rows: Sequence[int]) -> None:
        """Leaves were not read after all."""
        self._asked[list(rows)] = False
        self._known[list(rows)] = False
        self.add(rows)

    def ranked(self, belief: Belief, standing: Callable[[str], float]) -> tuple[Rows, Floats]:
        """Unread rows, most promising first, and what is expected of each; ties keep the order in which they came."""
        above = np.array([standing(home) for home in self._homes], dtype=np.float64)
        expected = belief.expect(np.maximum(self._prior.fused[self._rows], 0.0).astype(np.float64), above[self._home])
        order = np.argsort(-expected, kind="stable")
        return self._rows[order], expected[order]
