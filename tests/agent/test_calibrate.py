"""Latent scores in closed form, and how noisy the judge is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.agent.search.calibrate import (
    BIAS,
    NOISE,
    Observations,
    calibrate,
    calibrate_as_lattice,
    measure_judge,
    shape,
)


def slates(
    rng: np.random.Generator, theta: np.ndarray, *, count: int, size: int, shared: int, noise: float, bias: float
) -> tuple[Observations, np.ndarray]:
    """`count` slates of `size` nodes, the first `shared` in each, scored with noise and biases; and the truth."""
    rest = np.arange(shared, len(theta))
    node = np.concatenate(
        [np.concatenate([np.arange(shared), rng.choice(rest, size - shared, replace=False)]) for _ in range(count)]
    )
    slate = np.repeat(np.arange(count), size)
    known, node = np.unique(node, return_inverse=True)
    level = theta[known][node]
    drift = rng.normal(0, bias, count)[slate] if bias else 0.0
    score = level + drift + rng.normal(0, 1, len(node)) * noise * np.sqrt(shape(level))
    return Observations(slate=slate, node=node, score=score, slates=count, nodes=len(known)), theta[known]


def flat(seen: Observations) -> tuple[np.ndarray, np.ndarray]:
    """A prior that says little."""
    return np.full(seen.nodes, 0.4), np.full(seen.nodes, 0.5)


@given(seed=st.integers(0, 10_000), shift=st.floats(-0.15, 0.15))
@settings(max_examples=40, deadline=None)
def test_order_survives_slate_shifts(seed: int, shift: float) -> None:
    """Two slates that share nodes rank alike whatever constant one of them is shifted by."""
    rng = np.random.default_rng(seed)
    theta = np.linspace(0.2, 0.8, 13)
    order = rng.permutation(13)
    slate = np.repeat([0, 1], 8)
    node = np.concatenate([order[:8], order[5:]])
    score = theta[node] + np.where(slate == 1, shift, 0.0)
    seen = Observations(slate=slate, node=node, score=score, slates=2, nodes=13)
    found = calibrate(seen, np.full(13, 0.5), np.full(13, 5.0), judge=(0.01, 1.0))
    assert list(np.argsort(found.theta)) == list(np.argsort(theta))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_order_of_slates_does_not_matter(seed: int) -> None:
    """The same scores in slates numbered differently give the same latent scores."""
    rng = np.random.default_rng(seed)
    seen, _ = slates(rng, rng.uniform(0.1, 0.9, 60), count=6, size=12, shared=3, noise=0.1, bias=0.05)
    relabel = rng.permutation(6)
    shuffled = rng.permutation(len(seen.node))
    other = Observations(
        slate=relabel[seen.slate][shuffled],
        node=seen.node[shuffled],
        score=seen.score[shuffled],
        slates=6,
        nodes=seen.nodes,
    )
    first = calibrate(seen, *flat(seen), judge=measure_judge(seen))
    second = calibrate(other, *flat(other), judge=measure_judge(other))
    assert first.theta == pytest.approx(second.theta, abs=1e-9)
    assert first.sd == pytest.approx(second.sd, abs=1e-9)


@pytest.mark.parametrize(("noise", "bias"), [(0.02, 0.02), (0.1, 0.04), (0.2, 0.1)])
def test_measures_the_judge(noise: float, bias: float) -> None:
    """Noise and bias are found from the anchors to within a third, for steady and for shaky judges."""
    rng = np.random.default_rng(7)
    found = [
        measure_judge(slates(rng, rng.uniform(0.1, 0.9, 400), count=25, size=20, shared=5, noise=noise, bias=bias)[0])
        for _ in range(20)
    ]
    measured_noise, measured_bias = np.mean(found, axis=0)
    assert measured_noise == pytest.approx(noise, rel=0.34)
    assert measured_bias == pytest.approx(bias, rel=0.34)


def test_believes_until_something_is_repeated() -> None:
    """With nothing judged twice the judge is believed to be average."""
    seen = Observations(slate=np.array([0, 0]), node=np.array([0, 1]), score=np.array([0.1, 0.9]), slates=1, nodes=2)
    assert measure_judge(seen) == (NOISE, BIAS)


def test_calibration_beats_raw_scores() -> None:
    """Under slate biases the posterior is nearer to the truth than the scores themselves, and its sd is honest."""
    rng = np.random.default_rng(3)
    raw, calibrated, spread = [], [], []
    for _ in range(20):
        seen, truth = slates(rng, rng.uniform(0.1, 0.9, 300), count=15, size=20, shared=5, noise=0.05, bias=0.15)
        found = calibrate(seen, *flat(seen), judge=measure_judge(seen))
        raw.append(np.abs(seen.mean() - truth).mean())
        calibrated.append(np.abs(found.theta - truth).mean())
        spread.append(np.std((found.theta - truth) / found.sd))
    assert np.mean(calibrated) < 0.7 * np.mean(raw)
    assert 0.6 < np.mean(spread) < 1.6


def test_agrees_with_the_full_system() -> None:
    """Eliminating the nodes gives what solving for all nodes and biases at once gives."""
    rng = np.random.default_rng(5)
    seen, _ = slates(rng, rng.uniform(0.1, 0.9, 30), count=4, size=10, shared=3, noise=0.1, bias=0.05)
    mean, sd = flat(seen)
    noise, spread = 0.1, 0.05
    precision = 1 / (noise**2 * shape(seen.mean()[seen.node]))
    size = seen.nodes + seen.slates
    system, right = np.zeros((size, size)), np.zeros(size)
    for slate, node, score, weight in zip(seen.slate, seen.node, seen.score, precision, strict=True):
        both = [node, seen.nodes + slate]
        system[np.ix_(both, both)] += weight
        right[both] += weight * score
    system[range(seen.nodes), range(seen.nodes)] += 1 / sd**2
    right[: seen.nodes] += mean / sd**2
    system[range(seen.nodes, size), range(seen.nodes, size)] += 1 / spread**2
    found = calibrate(seen, mean, sd, judge=(noise, spread))
    assert found.theta == pytest.approx(np.clip(np.linalg.solve(system, right)[: seen.nodes], 0, 1), abs=1e-9)
    assert found.sd == pytest.approx(np.sqrt(np.diag(np.linalg.inv(system))[: seen.nodes]), abs=1e-9)


def test_lattice_scale_ends_at_one() -> None:
    """The published scale puts the best node at exactly 1."""
    seen = Observations(
        slate=np.array([0, 0, 0]), node=np.array([0, 1, 2]), score=np.array([0.2, 0.9, 0.0]), slates=1, nodes=3
    )
    theta = calibrate_as_lattice(seen)
    assert theta.max() == 1.0
    assert list(np.argsort(theta)) == [2, 0, 1]
