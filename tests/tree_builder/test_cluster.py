"""Groups of bounded size, for any vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.tree_builder.cluster import Sizes, balanced_assignment, group, unit


def cloud(count: int, dimension: int, centres: int, seed: int) -> np.ndarray:
    """Unit vectors around random centres."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((centres, dimension)) * 2
    rows = base[rng.integers(0, centres, count)] + rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(count=st.integers(0, 300), room=st.integers(4, 20), centres=st.integers(1, 9), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_groups_partition_the_rows_within_bounds(count: int, room: int, centres: int, seed: int) -> None:
    """Every row is in exactly one group, and no group is empty or over its bound."""
    vectors = cloud(count, 8, centres, seed)
    groups = group(vectors, Sizes.for_children(room), seed=seed)
    assert sorted(np.concatenate(groups).tolist() if groups else []) == list(range(count))
    assert all(1 <= len(rows) <= room for rows in groups)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("count", [2, 17, 700])
def test_equal_vectors_still_end_in_groups(value: float, count: int) -> None:
    """Duplicates, and texts that nothing is known of, are grouped like everything else: no recursion without end."""
    vectors = np.zeros((count, 4), dtype=np.float32)
    vectors[:, 0] = value
    groups = group(vectors, Sizes.for_children(8), seed=0)
    assert sorted(np.concatenate(groups).tolist()) == list(range(count))
    assert max(map(len, groups)) <= 8


def test_groups_are_the_same_every_time_and_follow_the_seed() -> None:
    """The same vectors and seed give the same groups, byte for byte."""
    vectors = cloud(400, 16, 12, 3)
    first, second = (group(vectors, Sizes.for_children(10), seed=5) for _ in range(2))
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in second]


def test_clear_clusters_are_found() -> None:
    """Eight tight bundles of eight rows, shuffled, come out as eight groups."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(8), 8))
    vectors = np.eye(8, 32, dtype=np.float32)[labels] + rng.normal(0, 0.01, (64, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = group(vectors, Sizes(least=4, target=8, most=12), seed=1)
    assert sorted(tuple(set(labels[rows].tolist())) for rows in groups) == [(label,) for label in range(8)]


@given(weights=st.lists(st.integers(1, 8), min_size=1, max_size=80), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_weights_are_bounded_too(weights: list[int], seed: int) -> None:
    """With weights, no group weighs more than its bound."""
    vectors = cloud(len(weights), 6, 3, seed)
    mass = np.array(weights, dtype=np.float32)
    groups = group(vectors, Sizes.for_children(12), seed=seed, weights=mass)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(weights)))
    assert all(mass[rows].sum() <= 12 for rows in groups)


@given(count=st.integers(1, 120), columns=st.integers(1, 50), seed=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_balanced_assignment_is_stable(count: int, columns: int, seed: int) -> None:
    """No row and column would both rather have each other, and no column is over its room."""
    likeness = np.random.default_rng(seed).random((count, columns)).astype(np.float32)
    room = -(-count // columns) + seed % 2
    home = balanced_assignment(likeness, room)
    worst = np.array([likeness[home == k, k].min() if (home == k).sum() >= room else -1.0 for k in range(columns)])
    assert np.bincount(home, minlength=columns).max() <= room
    own = likeness[np.arange(count), home]
    assert not ((likeness > own[:, None]) & (likeness > worst[None, :])).any()


def test_a_zero_vector_stays_zero() -> None:
    """The unit of nothing is nothing, not a division by zero."""
    assert unit(np.zeros(3, dtype=np.float32)).tolist() == [0, 0, 0]
