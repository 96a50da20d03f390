"""Every score heard so far, ready for calibration: appended slate by slate, never searched.

Tested in tests/agent/test_state.py.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from branchwise.agent.search.calibrate import Observations
from branchwise.stores.records import Judgement

Kind = Literal["inner", "leaf"]


class Heard:
    """Scores of nodes of one kind. `node_ids[j]` is node j of the observations.

    Scores that an embedded fallback gave in a model's place are kept apart as `weak`: they are no measurement of the
    judge, and stand only where it said nothing.
    """

    def __init__(self) -> None:
        self.node_ids: list[str] = []
        self.weak: dict[str, float] = {}
        self._place: dict[str, int] = {}
        self._slate: list[int] = []
        self._node: list[int] = []
        self._score: list[float] = []
        self._slates = 0

    def __bool__(self) -> bool:
        return bool(self._score)

    def add(self, judgement: Judgement) -> None:
        """Take in one slate's scores; what the judge left out stays unknown."""
        scores = [(node_id, score) for node_id, score in judgement.scores.items() if score is not None]
        if judgement.weak:
            self.weak.update(scores)
            return
        for node_id, score in scores:
            place = self._place.get(node_id)
            if place is None:
                place = self._place[node_id] = len(self.node_ids)
                self.node_ids.append(node_id)
            self._slate.append(self._slates)
            self._node.append(place)
            self._score.append(score)
        self._slates += 1

    def observations(self) -> Observations:
        """All scores as arrays."""
        return Observations(
            slate=np.array(self._slate, dtype=np.intp),
            node=np.array(self._node, dtype=np.intp),
            score=np.array(self._score, dtype=np.float64),
            slates=self._slates,
            nodes=len(self.node_ids),
        )
