"""Keeps what is spent under what may be spent: every call is reserved before it is made, and settled after it.

Reservations of calls in flight count, so a hundred calls at once cannot pass a limit together. Tokens are reserved at
the prompt's estimate and the reply's limit. Knows nothing of models. Safe to share between threads. Tested in
tests/prompts/test_budget.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from branchwise.stores.errors import BudgetSpent
from branchwise.stores.records import Budget, Usage


class Meter:
    """Counts usage against a budget; seconds run from its creation.

    What a meter counts, its `parent` counts too, and its limits hold as well: so one slate, one search and one session
    can each be measured.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        parent: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget or Budget()
        self.parent = parent
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._spent = Usage()
        self._reserved = Usage()

    @property
    def spent(self) -> Usage:
        """All usage so far, `seconds` being the time since the meter was made."""
        with self._lock:
            return replace(self._spent, seconds=self._clock() - self._started)

    def remaining_seconds(self) -> float | None:
        """Seconds until the nearest deadline, at least 0; None where there is none."""
        above = self.parent.remaining_seconds() if self.parent else None
        if self.budget.max_seconds is None:
            return above
        own = max(0.0, self.budget.max_seconds - (self._clock() - self._started))
        return own if above is None else min(own, above)

    def check(self, estimated_tokens: int = 0, estimated_cost: float | None = 0.0) -> None:
        """Raise BudgetSpent if one more call of this size could pass a limit."""
        if self.parent:
            self.parent.check(estimated_tokens, estimated_cost)
        with self._lock:
            self._check(estimated_tokens, estimated_cost)

    def reserve(self, estimated_tokens: int, estimated_cost: float | None) -> Reservation:
        """Set the call's share aside, or raise BudgetSpent. Settle the reservation whatever becomes of the call."""
        above = self.parent.reserve(estimated_tokens, estimated_cost) if self.parent else None
        try:
            with self._lock:
                self._check(estimated_tokens, estimated_cost)
                share = Usage(calls=1, input_tokens=estimated_tokens, cost=estimated_cost or 0.0)
                self._reserved += share
        except BudgetSpent:
            if above:
                above.settle(Usage())
            raise
        return Reservation(self, share, above)

    def add(self, usage: Usage) -> None:
        """Count usage that was not reserved."""
        if self.parent:
            self.parent.add(usage)
        with self._lock:
            self._spent += replace(usage, seconds=0.0)

    def _check(self, tokens: int, cost: float | None) -> None:
        budget, spent, held = self.budget, self._spent, self._reserved
        if budget.max_seconds is not None and self.remaining_seconds() == 0.0:
            raise BudgetSpent(f"The limit of {budget.max_seconds:g} seconds is reached.")
        if budget.max_calls is not None and spent.calls + held.calls + 1 > budget.max_calls:
            raise BudgetSpent(f"The limit of {budget.max_calls} model calls is reached.")
        used = spent.input_tokens + spent.output_tokens + held.input_tokens
        if budget.max_tokens is not None and used + tokens > budget.max_tokens:
            raise BudgetSpent(
                f"The next call of about {tokens:,} tokens would pass the limit of {budget.max_tokens:,} tokens."
            )
        if budget.max_cost is None:
            return
        if cost is None or spent.cost is None:
            raise BudgetSpent(
                "A limit in money is set, but the price of this model is unknown.",
                hint="Name a price list in BRANCHWISE_PRICES, or set a limit in calls or tokens instead.",
            )
        if spent.cost + (held.cost or 0.0) + cost > budget.max_cost:
            raise BudgetSpent(f"The next call would pass the limit of {budget.max_cost:g} in money.")


class Reservation:
    """One call's share of a budget, until it is settled."""

    def __init__(self, meter: Meter, share: Usage, above: Reservation | None) -> None:
        self._meter = meter
        self._share: Usage | None = share
        self._above = above

    def settle(self, usage: Usage) -> None:
        """Replace the reservation by what was really used; a second time does nothing."""
        meter = self._meter
        if self._above:
            self._above.settle(usage)
        with meter._lock:
            if self._share is None:
                return
            share, self._share = self._share, None
            held = meter._reserved
            meter._reserved = Usage(
                calls=held.calls - share.calls,
                input_tokens=held.input_tokens - share.input_tokens,
                cost=max(0.0, (held.cost or 0.0) - (share.cost or 0.0)),
            )
            meter._spent += replace(usage, seconds=0.0)
