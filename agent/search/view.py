"""The leaves as they stand before a decision: those read, best first, and those unread, most promising first.

Tested in tests/agent/test_choose.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from branchwise.agent.search import gain
from branchwise.agent.search.calibrate import Floats, shape
from branchwise.agent.search.state import SearchState

GOOD = 0.6
"""A find is expected to be at least this good, until better ones are read."""
LASTING = 0.15
"""Spread at 0.5 of the errors that a judge makes every time it reads the same leaf, and no repeat shows."""
ODDS_POWER = 1.5
"""Odds are a standing between junk (0) and good (1) to this power: most of what is expected to be a little relevant is
not relevant at all. Taken as odds themselves, the standings of twenty neighbours of a good passage promised .12 finds
a slate where .01 were found (a judge like the flash one of the benchmark)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """`judged` leaves with `theta`, `times` shown and `doubt` (what one more score of each would add); `unread` ones
    with `odds` that each is good.

    `votes` is what another opinion of each would add, such as that on the branch it lies in: a judge that repeats
    itself may still be wrong. `level` is what the best leaf scores, `junk` what the usual one does: odds and doubts
    are on the scale between the two. `find` is what one more leaf as good as `level` would add.
    """

    judged: tuple[str, ...]
    theta: Floats
    times: Floats
    doubt: Floats
    votes: Floats
    unread: list[str]
    odds: Floats
    level: float
    junk: float
    find: float

    @classmethod
    def of(cls, state: SearchState, k: int) -> View:
        """Rank what was read, and what was not."""
        known = [(leaf, latent) for leaf in state.judged_leaves() if (latent := state.latent(leaf))]
        known.sort(key=lambda pair: -pair[1].theta)
        theta = np.array([latent.theta for _, latent in known])
        sd = np.array([latent.sd for _, latent in known])
        level = max(GOOD, float(theta[0])) if len(theta) else GOOD
        junk = min(float(np.median(theta)), level / 2) if len(theta) else 0.0
        noise = state.judge["leaf"][0] * np.sqrt(shape(theta))
        lasting = LASTING * np.sqrt(shape(theta))
        unread, expected = state.unread_leaves()
        return cls(
            judged=tuple(leaf for leaf, _ in known),
            theta=theta,
            times=np.array([state.shown[leaf] for leaf, _ in known]),
            doubt=gain.worth_of_rescoring(theta, sd, noise, k, junk=junk, level=level) if len(theta) else theta,
            votes=gain.worth_of_rescoring(theta, lasting, lasting, k, junk=junk, level=level) if len(theta) else theta,
            unread=unread,
            odds=odds_of_good(expected, junk, level),
            level=level,
            junk=junk,
            find=gain.worth_of_find(theta, k, level=level),
        )

    def odds_of(self, state: SearchState, leaves: Sequence[str]) -> float:
        """How many of some unread leaves are expected to be good."""
        if not leaves:
            return 0.0
        return float(odds_of_good(state.expect(leaves, "leaf"), self.junk, self.level).sum())

    def good(self) -> list[str]:
        """The leaves read that score more than half of the best."""
        return [leaf for leaf, theta in zip(self.judged, self.theta.tolist(), strict=True) if theta > self.level / 2]

    def anchors(self, count: int) -> tuple[str, ...]:
        """Known leaves to show again: the best, which give the scale, and the most doubtful, which gain by it."""
        best = list(self.judged[: count // 2])
        doubtful = (self.judged[int(i)] for i in np.argsort(-self.doubt, kind="stable")[: 2 * count])
        best.extend(leaf for leaf in doubtful if leaf not in best)
        return tuple(best[:count])


def odds_of_good(expected: Floats, junk: float, level: float) -> Floats:
    """Odds in [0, 1] that leaves of these expected scores (n,) are as good as `level`; nothing for `junk`."""
    return np.asarray(np.clip((expected - junk) / (level - junk), 0.0, 1.0) ** ODDS_POWER, dtype=np.float64)
