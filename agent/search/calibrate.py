"""Latent scores from noisy slates, in closed form, and how noisy the judge is.

A judge's score for node v in slate i is read as `s = theta_v + b_i + e`: the node's latent score, the slate's bias and
noise (arXiv:2510.13217v2, section 3.3, without its global scale, which nothing in the data can tell from theta). The
published fit is gradient descent that is stopped early; slates that share no candidate can then shift freely. Here
every theta has a prior, so the posterior is one linear system of the size of the number of slates: deterministic, the
same for any order of the slates, and with a standard deviation for each node.

The noise is not a setting. Nodes that were judged more than once (anchors, finalists, repeats) are measurements of it.
A score near 0 or 1 is steadier than one in the middle (of 340 recorded slates of a strong judge the spread was .014
over all scores and .065 between .1 and .9), so the variance is `noise^2 * shape(s)`.

Does not know what a tree is. Tested in tests/agent/test_calibrate.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

NOISE, BIAS = 0.08, 0.04
"""What is believed of a judge before it has said anything twice: between a strong one (.014) and a weak one (.13)."""
BELIEF = 6.0
"""How many repeated scores weigh as much as that belief."""
LEAST_NOISE = 0.01
"""No judge is believed to be steadier than this: a few equal repeats are not proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """All scores of a search: node `node[j]` got `score[j]` in [0, 1] in slate `slate[j]`; all of shape (n,)."""

    slate: Ints
    node: Ints
    score: Floats
    slates: int
    nodes: int

    def mean(self) -> Floats:
        """Mean score of every node, shape (nodes,)."""
        times = np.bincount(self.node, minlength=self.nodes)
        return np.asarray(np.bincount(self.node, self.score, minlength=self.nodes) / np.maximum(times, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Posterior of one search: `theta` and `sd` a node, `bias` a slate, and the judge's measured `noise` and `spread`.

    `noise` is the standard deviation of a repeated score at 0.5, `spread` that of the slates' biases. Thetas are
    clipped to [0, 1].
    """

    theta: Floats
    sd: Floats
    bias: Floats
    noise: float
    spread: float


def shape(score: Floats) -> Floats:
    """Variance of a repeated score relative to that of a score of 0.5: from 0.1 at the ends of the scale to 1."""
    clipped = np.clip(score, 0.0, 1.0)
    return np.asarray(0.1 + 3.6 * clipped * (1.0 - clipped), dtype=np.float64)


def measure_judge(seen: Observations) -> tuple[float, float]:
    """Noise and spread of slate biases, from the nodes that were judged in more than one slate.

    Two slates that share nodes differ by their biases (the mean difference) and by noise (what is left). With nothing
    repeated the belief stands; every repeat moves it.
    """
    times = np.bincount(seen.node, minlength=seen.nodes)
    nodes, column, again = _repeated(seen, times)
    if not len(nodes):
        return NOISE, BIAS
    score = seen.score[again]
    mean = np.bincount(column, score) / times[nodes]
    mask = np.zeros((seen.slates, len(nodes)))
    value = np.zeros_like(mask)
    mask[seen.slate[again], column] = 1.0
    value[seen.slate[again], column] = (score - mean[column]) / np.sqrt(shape(mean))[column]
    upper = np.triu_indices(seen.slates, 1)
    common = (mask @ mask.T)[upper]
    met = common > 0
    common = common[met]
    lead = value @ mask.T
    gap = (lead - lead.T)[upper][met]
    power = value**2 @ mask.T
    square = (power + power.T - 2 * value @ value.T)[upper][met]
    # A node seen c times makes c(c-1)/2 pairs, which hold c-1 independent differences.
    worth = (times[nodes] - 1).sum() / common.sum()
    believed = NOISE**2 + BIAS**2
    total = (BELIEF * believed + worth * square.sum() / 2) / (BELIEF + worth * common.sum())
    within = worth * (square - gap**2 / common).sum() / 2
    noise = (BELIEF * total * NOISE**2 / believed + within) / (BELIEF + worth * (common - 1.0).sum())
    return max(LEAST_NOISE, float(noise) ** 0.5), max(LEAST_NOISE, max(float(total - noise), 0.0) ** 0.5)


def calibrate(seen: Observations, prior_mean: Floats, prior_sd: Floats, *, judge: tuple[float, float]) -> Calibration:
    """Posterior of every latent score; `prior_mean` and `prior_sd` have shape (nodes,), `judge` = noise, spread."""
    noise, spread = judge
    precision = 1.0 / (noise**2 * shape(seen.mean()[seen.node]))
    theta, variance, bias = _ridge(seen, precision, 1.0 / prior_sd**2, prior_mean, 1.0 / spread**2)
    return Calibration(theta=np.clip(theta, 0.0, 1.0), sd=np.sqrt(variance), bias=bias, noise=noise, spread=spread)


def calibrate_as_lattice(seen: Observations) -> Floats:
    """LATTICE's latent scores (nodes,), in closed form: the best is 1, and below 0 is possible.

    The published code descends a weighted squared error for 200 steps from an unseeded start and stops; its early stop
    acts as a pull of thetas and biases towards 0. These two ridge weights reproduce what it stopped at: every leaf of
    the recorded run within .025 (tests/agent/test_lattice.py).
    """
    importance = np.maximum(1.0 / (1.0 + np.exp(0.5 - seen.score)), 0.1)
    theta, _, _ = _ridge(seen, importance, np.full(seen.nodes, 0.003), np.zeros(seen.nodes), 0.3)
    best = float(theta.max(initial=0.0))
    return theta / best if best > 0 else theta


def _ridge(
    seen: Observations, precision: Floats, prior: Floats, prior_mean: Floats, bias_prior: float
) -> tuple[Floats, Floats, Floats]:
    """Minimise sum precision (score - theta - bias)^2 + prior (theta - prior_mean)^2 + bias_prior bias^2.

    Returns thetas and their posterior variances (nodes,), biases (slates,). Nodes are eliminated first, for they only
    meet in slates; what is left is one unknown a slate, coupled by the nodes that were judged more than once.
    """
    times = np.bincount(seen.node, minlength=seen.nodes)
    weight = np.bincount(seen.node, precision, minlength=seen.nodes) + prior
    pull = np.bincount(seen.node, precision * seen.score, minlength=seen.nodes) + prior * prior_mean
    own = precision * (1.0 - precision / weight[seen.node])
    system = np.diag(np.bincount(seen.slate, own, minlength=seen.slates) + bias_prior)
    nodes, column, again = _repeated(seen, times)
    cross = np.zeros((seen.slates, len(nodes)))
    cross[seen.slate[again], column] = precision[again]
    coupling = (cross / weight[nodes]) @ cross.T
    np.fill_diagonal(coupling, 0.0)
    inverse = np.linalg.inv(system - coupling)
    residual = precision * (seen.score - (pull / weight)[seen.node])
    bias = inverse @ np.bincount(seen.slate, residual, minlength=seen.slates)
    theta = (pull - np.bincount(seen.node, precision * bias[seen.slate], minlength=seen.nodes)) / weight
    lever = np.bincount(seen.node, precision**2 * inverse.diagonal()[seen.slate], minlength=seen.nodes)
    lever[nodes] = ((inverse @ cross) * cross).sum(axis=0)
    return theta, (1.0 + lever / weight) / weight, bias


def _repeated(seen: Observations, times: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """The nodes judged more than once, the column of each of their observations, and which observations these are."""
    many = times > 1
    again = many[seen.node]
    return np.flatnonzero(many), (np.cumsum(many) - 1)[seen.node[again]], again
