"""Concurrency, rates, retries, waiting and hedging around a call, on a clock that the tests move themselves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from branchwise.prompts import limits as room
from branchwise.prompts.limits import LONGEST_WISH, Gate, Limits, Overloaded, call, read_wish
from branchwise.stores.errors import InputError, ModelRefused, ModelUnavailable

QUICK = Limits(concurrency=4, attempts=5, first_wait=0.001, patience=5.0, timeout=5.0)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Every wait that is asked for; none is really waited."""
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(room.asyncio, "sleep", sleep)
    return waits


def failing(errors: Iterable[Exception]) -> Callable[[], asyncio.Future[str]]:
    """A call that raises these in turn and then succeeds."""
    turns = iter(errors)

    async def make() -> str:
        error = next(turns, None)
        if error is not None:
            raise error
        return "done"

    return make  # type: ignore[return-value]


async def test_a_passing_failure_is_tried_again(slept: list[float]) -> None:
    """Two failures, then the result; the waits grow and are never longer than the patience."""
    assert await call(failing([ModelUnavailable("a"), ModelUnavailable("b")]), Gate(QUICK)) == "done"
    assert len(slept) == 2
    assert all(0 <= wait <= QUICK.patience for wait in slept)


async def test_attempts_are_bounded_and_the_last_error_is_raised(slept: list[float]) -> None:
    """Five attempts, four waits, and the fifth error."""
    errors = [ModelUnavailable(str(n)) for n in range(10)]
    with pytest.raises(ModelUnavailable, match="4"):
        await call(failing(errors), Gate(QUICK))
    assert len(slept) == 4


@pytest.mark.parametrize("error", [ModelRefused("no"), TypeError("bug")])
async def test_what_cannot_succeed_is_not_tried_again(slept: list[float], error: Exception) -> None:
    """A refusal and a bug of our own are raised at once."""
    with pytest.raises(type(error)):
        await call(failing([error]), Gate(QUICK))
    assert not slept


async def test_retry_after_is_obeyed(slept: list[float]) -> None:
    """The server's wish is the shortest wait, for this call and for the whole endpoint."""
    now = itertools.count(0.0, 0.5)
    await call(failing([Overloaded("later", retry_after=3.0)]), Gate(QUICK, clock=lambda: float(next(now))))
    assert max(slept) >= 3.0 - 0.5
    assert slept[0] >= 3.0


async def test_a_wish_beyond_patience_or_deadline_ends_the_call(slept: list[float]) -> None:
    """Asked to wait longer than is bearable, the call gives up at once and does not ask sooner than was wished."""
    with pytest.raises(ModelUnavailable):
        await call(failing([Overloaded("later", retry_after=60.0)]), Gate(QUICK))
    with pytest.raises(ModelUnavailable):
        await call(failing([Overloaded("later", retry_after=3.0)]), Gate(QUICK), remaining=lambda: 2.0)
    assert not slept


@pytest.mark.parametrize("wish", [-1.0, float("nan"), float("inf"), LONGEST_WISH * 10, None])
async def test_an_absurd_wish_is_no_wish(slept: list[float], wish: float | None) -> None:
    """Ordinary waiting takes the place of a Retry-After that makes no sense."""
    assert read_wish(ModelUnavailable("x", retry_after=wish)) is None
    assert await call(failing([ModelUnavailable("x", retry_after=wish)]), Gate(QUICK)) == "done"
    assert slept[0] <= QUICK.first_wait


async def test_never_more_in_flight_than_allowed() -> None:
    """Of fifty calls at once, four are in flight at most, and all end."""
    busy = peak = 0

    async def make() -> None:
        nonlocal busy, peak
        busy += 1
        peak = max(peak, busy)
        await asyncio.sleep(0.001)
        busy -= 1

    gate = Gate(QUICK)
    await asyncio.gather(*(call(make, gate) for _ in range(50)))
    assert peak == 4
    assert gate.busy == 0


async def test_overload_halves_the_places_and_success_brings_them_back() -> None:
    """One 429 among many in flight halves once; a round of successes adds one."""
    now = 0.0
    gate = Gate(Limits(concurrency=16), clock=lambda: now)
    for _ in range(8):
        gate.failed(overloaded=True, retry_after=None)
    assert gate.allowed == 8
    now = 2.0
    gate.failed(overloaded=True, retry_after=None)
    assert gate.allowed == 4
    for _ in range(5):
        gate.succeeded(0.1)
    assert gate.allowed == 5
    for _ in range(500):
        gate.succeeded(0.1)
    assert gate.allowed == 16
    gate.failed(overloaded=False, retry_after=None)
    assert gate.allowed == 16


async def test_a_cancelled_wait_gives_its_place_on() -> None:
    """Waiters that are cancelled, before or after their turn came, leave no place occupied."""
    gate = Gate(Limits(concurrency=1))
    release = asyncio.Event()

    async def hold() -> None:
        await release.wait()

    tasks = [asyncio.create_task(call(hold, gate)) for _ in range(6)]
    await asyncio.sleep(0.01)
    for task in tasks[1:4]:
        task.cancel()
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.busy == 0
    assert await call(failing([]), gate) == "done"


def test_one_gate_serves_many_threads_and_loops() -> None:
    """Four threads with loops of their own share the places without deadlock."""
    gate = Gate(Limits(concurrency=2))
    peak = 0

    async def make() -> None:
        nonlocal peak
        peak = max(peak, gate.busy)
        await asyncio.sleep(0.001)

    async def many() -> None:
        await asyncio.gather(*(call(make, gate) for _ in range(25)))

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, many()) for _ in range(4)]:
            done.result(timeout=20)
    assert peak == 2
    assert gate.busy == 0


@pytest.mark.parametrize(("limits", "tokens"), [({"requests_per_minute": 60}, 0), ({"tokens_per_minute": 6_000}, 100)])
async def test_rates_are_kept(slept: list[float], limits: dict[str, int], tokens: int) -> None:
    """Sixty calls a minute: ninety calls take at least the minute that the second half of them needs."""
    now = 0.0
    gate = Gate(Limits(concurrency=100, **limits), clock=lambda: now + sum(slept))
    for _ in range(90):
        await call(failing([]), gate, tokens=tokens)
    assert 59.0 <= sum(slept) <= 61.0


async def test_a_call_larger_than_the_minutes_allowance_still_goes() -> None:
    """A prompt of more tokens than the bucket holds waits for a full bucket, not for ever."""
    gate = Gate(Limits(tokens_per_minute=100))
    assert await call(failing([]), gate, tokens=10_000) == "done"


async def test_a_hanging_call_ends_with_its_timeout() -> None:
    """The timeout is of the whole call and says how long was waited."""

    async def hang() -> None:
        await asyncio.sleep(60)

    with pytest.raises(ModelUnavailable, match=r"within 0\.0"):
        await call(hang, Gate(Limits(timeout=0.02, attempts=1)))


async def test_an_endpoint_that_only_fails_is_asked_once_a_call(slept: list[float]) -> None:
    """After eight failures in a row a call is one attempt; the first success ends that."""
    gate = Gate(QUICK)
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            await call(failing([ModelUnavailable("x")] * 9), gate)
    assert gate.is_down
    slept.clear()
    with pytest.raises(ModelUnavailable):
        await call(failing([ModelUnavailable("x")]), gate)
    assert not slept
    assert await call(failing([]), gate) == "done"
    assert not gate.is_down


async def test_a_straggler_is_hedged_rarely_and_only_when_asked() -> None:
    """With hedging on, one slow call in twenty-five is answered by its copy; the copies stay under a twentieth."""
    gate = Gate(Limits(hedge_after=5.0, concurrency=8))
    for _ in range(25):
        gate.succeeded(0.001)
    starts = 0

    async def make() -> int:
        nonlocal starts
        starts += 1
        number = starts
        await asyncio.sleep(5 if number == 1 else 0)
        return number

    assert await asyncio.wait_for(call(make, gate), 2) == 2
    assert gate.hedge_wait() is not None
    gate.hedged()
    assert gate.hedge_wait() is None
    assert Gate(Limits()).hedge_wait() is None


def test_limits_are_checked() -> None:
    """Nonsense is the user's error, named."""
    for wrong in ({"concurrency": 0}, {"attempts": 0}, {"timeout": 0.0}, {"requests_per_minute": 0}):
        with pytest.raises(InputError):
            Limits(**wrong)  # type: ignore[arg-type]
