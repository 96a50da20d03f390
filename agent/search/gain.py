"""What a call is expected to be worth, in the currency of the benchmark: discounted cumulative gain of the first k.

A ranking is worth `sum_r d_r theta_r`, d_r = 1 / log2(r + 1). Reading something new, or something again, is worth as
much as it is expected to raise that sum. One currency for opening a branch, reading seeds and rescoring finalists, and
so one rule for what to do next and for when to stop. Knows neither tree nor judge. Tested in tests/agent/test_gain.py.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

FINDS = 3.0
"""Good passages that a question is expected to have in all; more are welcome, but not counted on."""

Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def discounts(k: int) -> Floats:
    """d_1 .. d_k of DCG, shape (k,)."""
    return np.asarray(1.0 / np.log2(np.arange(2, k + 2)), dtype=np.float64)


@lru_cache(maxsize=8)
def steps(k: int) -> Floats:
    """What a rank is worth above the next, shape (k,): d_r - d_(r+1), with nothing after rank k."""
    return np.asarray(-np.diff(np.append(discounts(k), 0.0)), dtype=np.float64)


def worth(theta: Floats, k: int) -> float:
    """DCG of scores sorted from best to worst."""
    top = theta[:k]
    return float(top @ discounts(k)[: len(top)])


def worth_of_find(theta: Floats, k: int, *, level: float) -> float:
    """What one more passage as good as `level` would add to a ranking with sorted scores `theta`."""
    top = np.zeros(k)
    top[: min(k, len(theta))] = theta[:k]
    return float(steps(k) @ np.maximum(level - top, 0.0))


def worth_of_finds(find: float, expected: float, *, pending: float = 0.0) -> float:
    """What `expected` such passages would add to `pending` ones: the first counts whole, the next less and less.

    Few questions have many answers, and odds are not independent: all together count `FINDS` finds at most.
    """
    return float(FINDS * find * (np.exp(-pending / FINDS) - np.exp(-(pending + expected) / FINDS)))


def worth_of_rescoring(theta: Floats, sd: Floats, noise: Floats, k: int, *, junk: float, level: float) -> Floats:
    """What one more score of each ranked node would add, shape (n,): expected improvement over every rank.

    `theta` (n,) sorted from best to worst, `sd` their standard deviations, `noise` that of a further score. Moving up
    past rank r gains what rank r is worth above the next times the difference (the knowledge gradient of every
    threshold, summed; the node's own rank is no threshold). The order among what scores no better than `junk` is worth
    nothing, that among what is as good as `level` counts whole.
    """
    moved = sd**2 / np.sqrt(sd**2 + noise**2)
    top = theta[:k]
    z = np.abs(theta[:, None] - top[None, :]) / moved[:, None]
    density = np.exp(-0.5 * z**2) * 0.3989422804014327
    improvement = moved[:, None] * (density - z * _upper_tail(z))
    improvement[np.arange(len(top)), np.arange(len(top))] = 0.0
    good = np.clip((theta - junk) / (level - junk), 0.0, 1.0)
    improvement *= np.maximum(good[:, None], good[None, : len(top)])
    return np.asarray(improvement @ steps(k)[: len(top)], dtype=np.float64)


def _upper_tail(z: Floats) -> Floats:
    """1 - Phi(z) for z >= 0, to 1e-5 (Abramowitz and Stegun 26.2.16): importing SciPy costs more than this is worth."""
    t = 1.0 / (1.0 + 0.33267 * z)
    density = np.exp(-0.5 * z**2) * 0.3989422804014327
    return np.asarray(density * (0.4361836 * t - 0.1201676 * t**2 + 0.9372980 * t**3), dtype=np.float64)
