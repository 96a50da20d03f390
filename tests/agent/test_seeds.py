"""The prior that BM25 and the vectors make."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.search.seeds import make_prior, no_prior


def legs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both legs."""
    rng = np.random.default_rng(seed)
    return rng.gamma(1, 3, count).astype(np.float32), rng.uniform(-0.1, 0.9, count).astype(np.float32)


@given(count=st.integers(0, 60), pool=st.integers(1, 80), seed=st.integers(0, 99))
def test_ranks_the_best_of_both(count: int, pool: int, seed: int) -> None:
    """The ranked rows are the best by the fused score, best first, all in [0, 1]."""
    prior = make_prior(*legs(count, seed), None, pool=pool)
    assert len(prior.ranked) == min(count, pool)
    best = np.sort(prior.fused)[::-1][: len(prior.ranked)]
    assert np.allclose(prior.fused[prior.ranked], best)
    assert ((prior.fused >= 0) & (prior.fused <= 1)).all()


def test_hidden_rows_are_out_of_sight() -> None:
    """A row that may not be seen is not ranked, and does not set the scale."""
    lexical, dense = np.array([100.0, 2.0, 1.0], dtype=np.float32), np.array([1.0, 0.4, 0.1], dtype=np.float32)
    prior = make_prior(lexical, dense, np.array([False, True, True]), pool=10)
    assert list(prior.ranked) == [1, 2]
    assert prior.fused[0] == -1
    assert prior.fused[1] == 1


def test_equal_scores_keep_their_order() -> None:
    """Ties are ranked by row, so that a search is the same everywhere."""
    prior = make_prior(np.ones(5, dtype=np.float32), np.ones(5, dtype=np.float32), None, pool=5)
    assert list(prior.ranked) == [0, 1, 2, 3, 4]


def test_nothing_known_is_not_hidden() -> None:
    """Without a prior every allowed leaf is in sight, and none is ranked."""
    prior = no_prior(3, np.array([True, False, True]))
    assert list(prior.fused >= 0) == [True, False, True]
    assert len(prior.ranked) == 0
