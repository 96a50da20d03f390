"""Significance: known cases, and what must hold for any two runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.agent.bench.compare import compare, mean_interval, randomisation_p
from branchwise.stores.errors import InputError

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def run(scores: list[float]) -> dict[str, dict[str, float]]:
    """A run with one metric."""
    return {f"q{n}": {"m": score} for n, score in enumerate(scores)}


def test_equal_runs_do_not_differ() -> None:
    """Difference 0, p 1, and only ties."""
    found = compare(run([0.1, 0.5]), run([0.1, 0.5]), "m")
    assert (found.difference, found.p_value, found.wins, found.ties, found.losses) == (0.0, 1.0, 0, 2, 0)


def test_a_steady_gain_over_ten_queries_is_significant() -> None:
    """All of ten signs agree: the exact two-sided p is 2 / 2**10 = .002."""
    found = compare(run([0.0] * 10), run([0.3] * 10), "m")
    assert found.p_value == pytest.approx(2 / 2**10, abs=0.002)
    assert found.low == pytest.approx(0.3)


def test_a_query_that_a_run_lacks_counts_as_zero() -> None:
    """Missing in one run: the other wins it."""
    found = compare({"a": {"m": 1.0}}, {"a": {"m": 1.0}, "b": {"m": 0.5}}, "m")
    assert (found.queries, found.wins, found.mean_a) == (2, 1, 0.5)


def test_runs_without_the_metric_are_refused() -> None:
    """No number is made up for a metric nobody measured."""
    with pytest.raises(InputError, match="no query with 'x'"):
        compare(run([1.0]), run([1.0]), "x")


@settings(max_examples=20, deadline=None)
@given(SCORES, st.integers(0, 3))
def test_swapping_the_runs_mirrors_the_result(scores: list[float], seed: int) -> None:
    """b against a is a against b with the sign turned and the same p."""
    other = list(reversed(scores))
    one, two = (compare(a, b, "m", seed=seed) for a, b in ((run(scores), run(other)), (run(other), run(scores))))
    assert one.difference == pytest.approx(-two.difference)
    assert one.p_value == two.p_value
    assert one.wins == two.losses


@settings(max_examples=20, deadline=None)
@given(SCORES)
def test_the_interval_holds_the_mean_of_its_means(scores: list[float]) -> None:
    """The interval lies within the values and, for one value, is that value."""
    low, high = mean_interval(np.array(scores))
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9


def test_chance_gives_uniform_p() -> None:
    """Where there is no difference, p under .1 comes up about once in ten."""
    draw = np.random.default_rng(1)
    small = sum(randomisation_p(draw.normal(size=30)) < 0.1 for _ in range(150))
    assert 5 <= small <= 28
