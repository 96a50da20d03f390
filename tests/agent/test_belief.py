"""What is expected of nodes nobody has read."""

from __future__ import annotations

import numpy as np
import pytest

from branchwise.agent.search.belief import Belief


def test_nothing_heard_changes_nothing() -> None:
    """Without scores the belief stays as it was."""
    start = Belief.of_leaves()
    assert start.learn(np.zeros(0), np.zeros(0), np.zeros(0)) is start


def test_learns_that_the_vectors_mislead() -> None:
    """Where good seeds keep scoring nothing, less is expected of the next."""
    start = Belief.of_leaves()
    z = np.linspace(0.2, 1.0, 40)
    after = start.learn(z, np.full(40, 0.3), np.zeros(40))
    one = np.array([0.9]), np.array([0.3])
    assert after.expect(*one)[0] < 0.4 * start.expect(*one)[0]


def test_learns_that_summaries_are_good() -> None:
    """Where well-named clusters keep their promise, more is expected of the next."""
    start = Belief.of_leaves()
    rng = np.random.default_rng(0)
    above = rng.uniform(0, 1, 60)
    after = start.learn(np.full(60, 0.3), above, 0.9 * above)
    assert after.coefficients[2] > 2 * start.coefficients[2]


def test_expectations_are_scores() -> None:
    """Whatever was learnt, expectations stay in [0, 1] and never fall with a better prior."""
    after = Belief.of_clusters().learn(np.ones(50), np.ones(50), np.ones(50))
    z = np.linspace(0, 1, 11)
    expected = after.expect(z, np.full(11, 0.5))
    assert expected.min() >= 0
    assert expected.max() <= 1
    assert (np.diff(expected) >= 0).all()


def test_sure_after_much() -> None:
    """Scores that lie where they are expected leave little doubt."""
    z = np.linspace(0, 1, 200)
    after = Belief.of_leaves().learn(z, np.zeros(200), 0.35 * z)
    assert after.sd == pytest.approx(0.05, abs=0.03)
