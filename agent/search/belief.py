"""What to expect of a node before a judge has read it, learnt while the search goes on.

The score of an unread node is expected to be `c0 + c1 z + c2 q`: z what BM25 and the vectors say of it, q how well the
judge thinks of the cluster it lies in. The coefficients start from a belief and are corrected by every score heard
(Bayesian linear regression in closed form): where the vectors mislead, c1 falls within a few slates; where the
summaries are good, c2 rises. Nothing is fitted between searches.

Knows neither tree nor slates. Tested in tests/agent/test_belief.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WEIGHT = 8.0
"""How many read nodes weigh as much as the belief that a search starts with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Coefficients (c0, c1, c2) of the expected score, and the standard deviation of scores around it."""

    coefficients: tuple[float, float, float]
    sd: float

    @classmethod
    def of_leaves(cls) -> Belief:
        """Most passages are worth nothing, whatever cluster they lie in; good seeds are often worth something."""
        return cls(coefficients=(0.0, 0.35, 0.2), sd=0.25)

    @classmethod
    def of_clusters(cls) -> Belief:
        """A cluster of a good parent that holds a good seed is worth a look."""
        return cls(coefficients=(0.0, 0.4, 0.2), sd=0.3)

    def expect(self, prior: Floats, above: Floats) -> Floats:
        """Expected scores in [0, 1] of unread nodes with prior z and parent's worth q, both of shape (n,)."""
        c0, c1, c2 = self.coefficients
        return np.clip(c0 + c1 * prior + c2 * above, 0.0, 1.0)

    def learn(self, prior: Floats, above: Floats, scores: Floats) -> Belief:
        """This belief after `scores` (n,) were heard of nodes with `prior` and `above`."""
        if not len(scores):
            return self
        features = np.stack([np.ones_like(prior), prior, above], axis=1)
        start = np.asarray(self.coefficients)
        # A unit of prior or parent's worth is a whole scale; the constant is what all slates show: believed less.
        ridge = np.diag([1.0, WEIGHT / 3, WEIGHT / 3])
        residual = scores - features @ start
        step = np.linalg.solve(features.T @ features + ridge, features.T @ residual)
        left = residual - features @ step
        variance = (WEIGHT * self.sd**2 + float(left @ left)) / (WEIGHT + len(scores))
        c0, c1, c2 = (float(c) for c in start + step)
        return Belief(coefficients=(c0, max(0.0, c1), max(0.0, c2)), sd=max(0.02, variance**0.5))
