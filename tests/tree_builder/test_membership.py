"""Second homes of leaves between two clusters."""

from __future__ import annotations

import numpy as np

from branchwise.tree_builder.membership import second_homes
from branchwise.tree_builder.outline import ROOT, Outline


def two_clusters(between: int) -> tuple[Outline, dict[str, int], np.ndarray]:
    """Two bundles along two axes, and `between` leaves of the first exactly between them."""
    rows = [[1.0, 0.02 * n] for n in range(4)] + [[0.02 * n, 1.0] for n in range(4)] + [[1.0, 1.0]] * between
    vectors = np.array(rows, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    leaves = [f"p:{number}" for number in range(len(rows))]
    children = {ROOT: ("n:a", "n:b"), "n:a": (*leaves[:4], *leaves[8:]), "n:b": tuple(leaves[4:8])}
    return Outline(children), {leaf: row for row, leaf in enumerate(leaves)}, vectors


def test_a_leaf_between_two_clusters_gets_both() -> None:
    """The leaf in the middle hangs under both, its home first; the others stay where they are."""
    outline, row_of, vectors = two_clusters(1)
    soft = second_homes(outline, row_of, vectors, max_children=8)
    assert soft.children["n:a"] == outline.children["n:a"]
    assert soft.children["n:b"] == (*outline.children["n:b"], "p:8")
    assert soft.homes["p:8"] == "n:a"


def test_second_homes_keep_the_fan_out() -> None:
    """A full cluster takes nobody in."""
    outline, row_of, vectors = two_clusters(1)
    soft = second_homes(outline, row_of, vectors, max_children=4)
    assert soft.children == outline.children


def test_one_cluster_has_no_second() -> None:
    """A tree without clusters below its root is left as it is."""
    outline = Outline({ROOT: ("p:0", "p:1")})
    assert second_homes(outline, {"p:0": 0, "p:1": 1}, np.eye(2, dtype=np.float32), max_children=4) is outline
