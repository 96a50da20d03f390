"""What may be spent is checked before a call, and calls in flight count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.prompts.budget import Meter
from branchwise.stores.errors import BudgetSpent
from branchwise.stores.records import Budget, Usage


def test_calls_in_flight_count_against_every_limit() -> None:
    """Two reservations fill a limit of two, though neither has come back."""
    for budget in (Budget(max_calls=2), Budget(max_tokens=200), Budget(max_cost=2.0)):
        meter = Meter(budget)
        held = [meter.reserve(100, 1.0) for _ in range(2)]
        with pytest.raises(BudgetSpent):
            meter.reserve(100, 1.0)
        held[0].settle(Usage(calls=0))  # nothing was sent after all
        meter.reserve(100, 1.0)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), max_size=30), st.integers(1, 2_000))
def test_no_limit_of_tokens_is_ever_passed(calls: list[tuple[int, int]], limit: int) -> None:
    """Whatever was estimated, if no call uses more than its estimate the sum stays under the limit."""
    meter = Meter(Budget(max_tokens=limit))
    for estimate, used in calls:
        try:
            meter.reserve(estimate, None).settle(Usage(calls=1, input_tokens=min(used, estimate)))
        except BudgetSpent:
            continue
    assert meter.spent.input_tokens <= limit


def test_settling_twice_counts_once() -> None:
    """A reservation that is settled in a finally clause again changes nothing."""
    meter = Meter()
    reservation = meter.reserve(10, 0.5)
    reservation.settle(Usage(calls=1, input_tokens=7, cost=0.2))
    reservation.settle(Usage(calls=1, input_tokens=7, cost=0.2))
    assert (meter.spent.calls, meter.spent.input_tokens, meter.spent.cost) == (1, 7, 0.2)


def test_an_unknown_price_is_not_free() -> None:
    """With a limit in money and no price, nothing is bought; without a limit it is, and the sum is unknown."""
    with pytest.raises(BudgetSpent, match="price of this model is unknown"):
        Meter(Budget(max_cost=1.0)).reserve(1, None)
    meter = Meter()
    meter.reserve(1, None).settle(Usage(calls=1, cost=None))
    assert meter.spent.cost is None


def test_the_deadline_is_a_limit() -> None:
    """Seconds run from the meter's making; after them every call is refused."""
    now = 0.0
    meter = Meter(Budget(max_seconds=5), clock=lambda: now)
    assert meter.remaining_seconds() == 5
    meter.check()
    now = 5.0
    assert meter.remaining_seconds() == 0
    with pytest.raises(BudgetSpent, match="5 seconds"):
        meter.check()
    assert Meter().remaining_seconds() is None


def test_a_parent_counts_and_limits_too() -> None:
    """What a child spends the parent has spent; what the parent may not, no child may, and nothing stays reserved."""
    parent = Meter(Budget(max_calls=2, max_seconds=9))
    first, second = Meter(parent=parent), Meter(Budget(max_calls=1), parent=parent)
    assert first.remaining_seconds() is not None
    first.reserve(5, 0.0).settle(Usage(calls=1, input_tokens=5))
    second.reserve(5, 0.0).settle(Usage(calls=1, input_tokens=5))
    assert parent.spent.input_tokens == 10
    with pytest.raises(BudgetSpent):
        first.reserve(5, 0.0)
    roomy = Meter(Budget(max_calls=3))
    child = Meter(Budget(max_calls=0), parent=roomy)
    with pytest.raises(BudgetSpent):
        child.reserve(1, 0.0)
    for _ in range(3):
        roomy.reserve(1, 0.0)
