"""How many searches run at once, how many may wait, and what the rest are told.

Tested in tests/surfaces/server/test_gate.py.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from branchwise.stores.errors import BranchwiseError


class Busy(BranchwiseError):
    """More wait already than may. `retry_after` is in whole seconds, at least 1."""

    http_status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__("the server is busy", hint=f"try again in {retry_after} s")
        self.retry_after = retry_after


class Gate:
    """`max_running` at a time, in order of arrival; `max_waiting` behind them; then Busy."""

    def __init__(self, *, max_running: int, max_waiting: int) -> None:
        self._slots = asyncio.Semaphore(max_running)
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._seconds = 0.1  # a search's usual length, as a running mean
        self.running = 0
        self.waiting = 0

    def check(self) -> None:
        """Raises Busy where too many wait already."""
        if self.waiting >= self._max_waiting:
            raise Busy(max(1, math.ceil(self._seconds * self.waiting / self._max_running)))

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises Busy at once where too many wait."""
        self.check()
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        started = monotonic()
        try:
            yield
        finally:
            self._seconds += 0.1 * (monotonic() - started - self._seconds)
            self.running -= 1
            self._slots.release()
