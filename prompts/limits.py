"""What stands around every model call, once: how many at a time, how fast, how long, how often again.

One Gate an endpoint keeps concurrency, requests and tokens a minute. Concurrency falls by half on 429 and climbs back
by one each round of successes (additive increase, multiplicative decrease, as in TCP). `call` retries what can succeed:
ModelUnavailable, with Retry-After obeyed where the deadline allows it, else exponential waiting with full jitter.
Knows nothing of prompts, replies or budgets. Tested in tests/prompts/test_limits.py.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from branchwise.stores.errors import InputError, ModelUnavailable

T = TypeVar("T")

LONGEST_WISH = 86_400.0  # seconds; a Retry-After of more than a day is a mistake of the server, not a wish
DOWN_AFTER = 8  # failures in a row, over all calls, before an endpoint is taken to be down


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How an endpoint may be used. Seconds, and whole numbers of at least 1; None is no limit.

    `attempts` counts the first try: with 8, calls that fail 30 % of the time all fail once in 15,000. `timeout` is of
    one attempt, `patience` the longest wait between two, `total` what a call may take with all its attempts.
    `hedge_after` sends a second copy of a call that takes this many times the median (at most one call in twenty);
    None, the default, never does: a hedged call is paid twice.
    """

    concurrency: int = 16
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 120.0
    attempts: int = 8
    first_wait: float = 0.5
    patience: float = 60.0
    total: float = 600.0
    hedge_after: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")
        if not (self.timeout > 0 and self.first_wait >= 0 and self.patience >= 0):
            raise InputError("Timeout and waits must be positive numbers of seconds.")


class Overloaded(ModelUnavailable):
    """The server has too much to do (429, 503): fewer calls at a time will help."""


class Gate:
    """Admits calls to one endpoint. Works across threads and event loops: waiters are woken on their own loop."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._allowed = float(limits.concurrency)
        self._busy = 0
        self._paused_until = -math.inf
        self._slowed_at = -math.inf
        self._failures = 0
        self._requests = _Bucket(limits.requests_per_minute, clock)
        self._tokens = _Bucket(limits.tokens_per_minute, clock)
        self._durations: deque[float] = deque(maxlen=64)
        self._calls = self._hedges = 0

    @property
    def allowed(self) -> int:
        """Calls that may be in flight now."""
        return max(1, int(self._allowed))

    @property
    def busy(self) -> int:
        """Calls in flight."""
        return self._busy

    @property
    def is_down(self) -> bool:
        """True while nothing but failures has come back lately: one attempt a call is then enough to find out."""
        return self._failures >= DOWN_AFTER

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[None]:
        """Hold one of the endpoint's places; waits for it, for the minute's allowance, and for the server's pause."""
        await self._enter()
        try:
            while (wait := self._delay(tokens)) > 0:  # noqa: ASYNC110 (it waits for time to pass, not for an event)
                await asyncio.sleep(wait)
            yield
        finally:
            self._leave()

    def succeeded(self, seconds: float) -> None:
        """A call came back: one more place for each full round of successes."""
        with self._lock:
            self._failures = 0
            self._calls += 1
            self._durations.append(seconds)
            self._allowed = min(float(self.limits.concurrency), self._allowed + 1.0 / max(1.0, self._allowed))
        self._wake()

    def failed(self, *, overloaded: bool, retry_after: float | None) -> None:
        """A call failed; `overloaded` halves the places, once for the calls that were in flight together."""
        with self._lock:
            self._failures += 1
            if not overloaded:
                return
            now = self._clock()
            if now - self._slowed_at > 1.0:
                self._slowed_at = now
                self._allowed = max(1.0, self._allowed / 2)
            if retry_after is not None and retry_after <= self.limits.patience:
                self._paused_until = max(self._paused_until, now + retry_after)

    def hedge_wait(self) -> float | None:
        """Seconds after which a second copy of a call may be sent, None for never: bounded to one call in twenty."""
        with self._lock:
            if self.limits.hedge_after is None or len(self._durations) < 20 or self._hedges * 20 >= self._calls:
                return None
            return self.limits.hedge_after * statistics.median(self._durations)

    def hedged(self) -> None:
        """A second copy was sent."""
        with self._lock:
            self._hedges += 1

    async def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._busy < self.allowed and not self._waiting:
                self._busy += 1
                return
            ticket: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, ticket))
        try:
            await ticket
        except asyncio.CancelledError:
            with self._lock:
                waited = (loop, ticket) in self._waiting
                if waited:
                    self._waiting.remove((loop, ticket))
            if not waited:  # the place was handed over in the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        with self._lock:
            self._busy -= 1
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            while self._waiting and self._busy < self.allowed:
                loop, ticket = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_admit, ticket)
                except RuntimeError:  # its loop was closed; nobody waits there any more
                    continue
                self._busy += 1

    def _delay(self, tokens: int) -> float:
        with self._lock:
            now = self._clock()
            wait = max(self._paused_until - now, self._requests.wait(1), self._tokens.wait(tokens))
            if wait <= 0:
                self._requests.take(1)
                self._tokens.take(tokens)
            return wait


_gates: weakref.WeakValueDictionary[tuple[str, Limits], Gate] = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


def gate_for(endpoint: str, limits: Limits) -> Gate:
    """The gate of a server, one for all who call it under the same limits; a model in this process gets its own."""
    if "//" not in endpoint:
        return Gate(limits)
    with _gates_lock:
        gate = _gates.get((endpoint, limits))
        if gate is None:
            gate = _gates[(endpoint, limits)] = Gate(limits)
        return gate


def _admit(ticket: asyncio.Future[None]) -> None:
    if not ticket.done():
        ticket.set_result(None)


class _Bucket:
    """An allowance of `rate` a minute, refilled steadily; half a minute's worth may be spent at once."""

    def __init__(self, rate: int | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._size = max(1.0, (rate or 0) / 2)
        self._level = self._size
        self._at = clock()

    def wait(self, amount: float) -> float:
        """Seconds until `amount` is there; a single call of more than the whole bucket waits for a full one."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._at) * self._rate / 60)
        self._at = now
        return max(0.0, (min(amount, self._size) - self._level) * 60 / self._rate)

    def take(self, amount: float) -> None:
        """Spend `amount`, into debt if it is more than the bucket holds."""
        self._level -= amount


async def call(
    make: Callable[[], Awaitable[T]],
    gate: Gate,
    *,
    tokens: int = 0,
    remaining: Callable[[], float | None] = lambda: None,
) -> T:
    """Call `make` within the gate's limits, again while it raises ModelUnavailable and another try can succeed.

    `remaining` gives the seconds left to the caller's deadline. Raises the last ModelUnavailable when attempts, or the
    deadline, or the server's own Retry-After leave no room for another; every other error at once.
    """
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

    limits = gate.limits

    def wait_for(state: RetryCallState) -> float:
        wish = read_wish(_failure(state))
        longest = min(limits.patience, limits.first_wait * 2 ** (state.attempt_number - 1))
        return random.uniform(0, longest) if wish is None else wish + random.uniform(0, limits.first_wait)  # noqa: S311

    def give_up(state: RetryCallState) -> bool:
        left = remaining()
        wish = read_wish(_failure(state)) or 0.0
        return (
            state.attempt_number >= (1 if gate.is_down else limits.attempts)
            or (state.seconds_since_start or 0.0) >= limits.total
            or wish > limits.patience
            or (left is not None and wish >= left)
        )

    async def sleep(seconds: float) -> None:
        left = remaining()
        await asyncio.sleep(seconds if left is None else min(seconds, left))

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(ModelUnavailable), wait=wait_for, stop=give_up, sleep=sleep, reraise=True
    ):
        with attempt:
            return await _once(make, gate, tokens, remaining)
    raise AssertionError("tenacity ended without a result or an error")


async def _once(make: Callable[[], Awaitable[T]], gate: Gate, tokens: int, remaining: Callable[[], float | None]) -> T:
    async with gate.slot(tokens):
        left = remaining()
        timeout = gate.limits.timeout if left is None else min(gate.limits.timeout, left)
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                result = await _hedged(make, gate)
        except TimeoutError as problem:
            gate.failed(overloaded=False, retry_after=None)
            raise ModelUnavailable(f"The model did not answer within {timeout:.1f} seconds.") from problem
        except ModelUnavailable as problem:
            gate.failed(overloaded=isinstance(problem, Overloaded), retry_after=read_wish(problem))
            raise
        gate.succeeded(time.monotonic() - started)
        return result


async def _hedged(make: Callable[[], Awaitable[T]], gate: Gate) -> T:
    wait = gate.hedge_wait()
    if wait is None:
        return await make()
    tasks = {asyncio.ensure_future(make())}
    try:
        done, _ = await asyncio.wait(tasks, timeout=wait)
        if not done:
            gate.hedged()
            tasks.add(asyncio.ensure_future(make()))
        while True:
            done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            good = [task for task in done if task.exception() is None]
            if good or not running:
                return (good or list(done))[0].result()
            tasks = running
    finally:
        for task in tasks:
            task.cancel()


def read_wish(problem: BaseException | None) -> float | None:
    """The server's Retry-After in seconds, None where it gave none that makes sense."""
    wish = getattr(problem, "retry_after", None)
    if wish is None or not math.isfinite(wish) or not 0 <= wish <= LONGEST_WISH:
        return None
    return float(wish)


def _failure(state: object) -> BaseException | None:
    outcome = getattr(state, "outcome", None)
    return outcome.exception() if outcome is not None else None
