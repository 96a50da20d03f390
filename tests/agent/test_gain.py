"""What a call is expected to be worth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from branchwise.agent.search import gain


def test_worth_is_dcg() -> None:
    """A ranking is worth its discounted cumulative gain, cut at k."""
    theta = np.array([1.0, 0.5, 0.25])
    assert gain.worth(theta, 2) == pytest.approx(1.0 + 0.5 / math.log2(3))


def test_find_is_worth_what_it_adds() -> None:
    """A find as good as the best adds exactly what the ranking gains by inserting it."""
    theta = np.array([0.9, 0.4, 0.2])
    with_find = np.array([0.9, 0.9, 0.4, 0.2])
    expected = gain.worth(with_find, 10) - gain.worth(theta, 10)
    assert gain.worth_of_find(theta, 10, level=0.9) == pytest.approx(expected)


def test_finds_add_less_and_less() -> None:
    """Twice the odds are worth less than twice, and what is pending already counts against the next."""
    one, two = gain.worth_of_finds(1.0, 1.0), gain.worth_of_finds(1.0, 2.0)
    assert one < two < 2 * one
    assert gain.worth_of_finds(1.0, 1.0, pending=1.0) == pytest.approx(two - one)


def test_rescoring_is_worth_the_expected_improvement() -> None:
    """The closed form agrees with drawing what a further score would reveal and sorting again."""
    theta, sd, noise = np.array([0.8, 0.7, 0.3]), np.array([0.1, 0.1, 0.1]), np.array([0.1, 0.1, 0.1])
    rng = np.random.default_rng(0)
    moved = sd**2 / np.sqrt(sd**2 + noise**2)
    drawn = []
    for i in range(3):
        worths = []
        for value in rng.normal(theta[i], moved[i], 40_000):
            other = theta.copy()
            other[i] = value
            worths.append(gain.worth(np.sort(other)[::-1], 3))
        drawn.append(np.mean(worths) - gain.worth(theta, 3))
    closed = gain.worth_of_rescoring(theta, sd, noise, 3, junk=-10.0, level=0.3)
    assert closed == pytest.approx(drawn, abs=2e-3)


def test_order_of_junk_is_worth_nothing() -> None:
    """Two leaves that score no better than junk are not put side by side again."""
    theta, sd = np.array([0.9, 0.05, 0.05]), np.array([0.01, 0.05, 0.05])
    doubt = gain.worth_of_rescoring(theta, sd, sd, 10, junk=0.05, level=0.9)
    assert doubt[1:] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_certainty_is_worth_nothing() -> None:
    """Where the posterior is sharp, another score adds nothing."""
    theta, sd = np.array([0.9, 0.5]), np.array([1e-4, 1e-4])
    assert gain.worth_of_rescoring(theta, sd, np.array([0.1, 0.1]), 10, junk=0.0, level=0.9).max() < 1e-6
