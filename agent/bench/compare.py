"""Is one run better than another? Paired randomisation test and bootstrap intervals over the queries of both.

Sources: Smucker, Allan and Carterette 2007 (randomisation test); Efron 1979 (bootstrap). Seeded: the same runs give the
same p value. Tested in tests/bench/test_compare.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from branchwise.stores.errors import InputError

ROUNDS = 10_000
PerQuery = Mapping[str, Mapping[str, float]]
"""Metrics by query id and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Run b against run a on one metric: means, mean difference b - a with its 95 % interval, two-sided p value.

    `wins`, `ties` and `losses` count queries from b's side.
    """

    metric: str
    queries: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    ties: int
    losses: int


def compare(a: PerQuery, b: PerQuery, metric: str, *, seed: int = 0) -> Comparison:
    """Compare two runs on the queries that either measured; one that a run lacks counts as zero there.

    Raises InputError where there is no query or a run does not hold the metric.
    """
    queries = sorted(a.keys() | b.keys())
    if not queries or any(metric not in values for run in (a, b) for values in run.values()):
        raise InputError(f"the runs hold no query with {metric!r}")
    left, right = (np.array([run.get(query, {}).get(metric, 0.0) for query in queries]) for run in (a, b))
    difference = right - left
    low, high = mean_interval(difference, seed=seed)
    return Comparison(
        metric=metric,
        queries=len(queries),
        mean_a=float(left.mean()),
        mean_b=float(right.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        p_value=randomisation_p(difference, seed=seed),
        wins=int((difference > 1e-12).sum()),
        ties=int((np.abs(difference) <= 1e-12).sum()),
        losses=int((difference < -1e-12).sum()),
    )


def randomisation_p(differences: npt.NDArray[np.floating], *, seed: int = 0) -> float:
    """Two-sided p of the mean difference when each query's sign could as well be the other, in (0, 1]."""
    draw = np.random.default_rng(seed)
    signs = draw.integers(0, 2, size=(ROUNDS, len(differences)), dtype=np.int8) * 2 - 1
    means = np.abs(signs @ differences) / len(differences)
    # The observed signs are one of the equally likely ones: with it in the count, p is never 0.
    return float((1 + (means >= abs(differences.mean()) - 1e-12).sum()) / (1 + ROUNDS))


def mean_interval(values: npt.NDArray[np.floating], *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; (value, value) for a single query."""
    draw = np.random.default_rng(seed)
    picks = draw.integers(0, len(values), size=(ROUNDS, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
