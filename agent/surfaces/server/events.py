"""A search or an answer while it happens: its events, kept, so that whoever follows can leave and come back.

A run is one task and the list of all it has told. Followers read the list from wherever they are (Last-Event-ID). A run
that nobody follows any more is cancelled after a moment of grace: time enough to reconnect, not to spend a budget for
nobody. "Stop and answer now" ends a run's search but not the run: its meter refuses further calls, as if the budget
were spent, and the reader answers from what was found. Knows nothing of HTTP. Tested in
tests/surfaces/server/test_events.py.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from branchwise.prompts.budget import Meter, Reservation
from branchwise.stores.errors import BranchwiseError, BudgetSpent, IndexMissing
from branchwise.stores.records import Event

MAX_KEPT = 256  # finished runs that can still be replayed; the oldest go first
FINAL = frozenset({"result", "error", "cancelled"})

STOPPED = "Stopped on request."


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event and when it was told, in milliseconds since the run began."""

    event: Event
    milliseconds: float


Work = Callable[["Run"], Awaitable[Mapping[str, Any]]]


class Run:
    """One search or answer under way. `work` tells its steps to the run and returns the payload of "result"."""

    def __init__(self, work: Work, *, grace: float) -> None:
        self.run_id = secrets.token_urlsafe(12)
        self.meter = StoppableMeter()
        self.told: list[Told] = []
        self._grace = grace
        self._started = monotonic()
        self._news = asyncio.Event()
        self._followers = 0
        self._task = asyncio.create_task(self._run(work))

    @property
    def finished(self) -> bool:
        """True once nothing more will be told."""
        return bool(self.told) and self.told[-1].event.kind in FINAL

    def tell(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Add an event and wake who follows."""
        event = Event(seq=len(self.told), kind=kind, payload=payload)
        self.told.append(Told(event=event, milliseconds=round(1000 * (monotonic() - self._started), 1)))
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after: int = -1) -> AsyncIterator[Told]:
        """Every event with a `seq` above `after`, those to come included, until the run is finished."""
        self._followers += 1
        position = after + 1
        try:
            while True:
                while position < len(self.told):
                    yield self.told[position]
                    position += 1
                if self.finished:
                    return
                await self._news.wait()
        finally:
            self._followers -= 1
            if not self._followers and not self.finished:
                asyncio.get_running_loop().call_later(self._grace, self._cancel_if_alone)

    def cancel(self) -> None:
        """End the run."""
        self._task.cancel()

    async def wait(self) -> None:
        """Return when the run has ended, whatever its end."""
        await asyncio.wait([self._task])

    def _cancel_if_alone(self) -> None:
        if not self._followers:
            self._task.cancel()

    async def _run(self, work: Work) -> None:
        try:
            self.tell("result", await work(self))
        except asyncio.CancelledError:
            self.tell("cancelled", {})
        except BranchwiseError as error:
            self.tell("error", {"type": type(error).__name__, "message": error.message, "hint": error.hint})
        except Exception:
            self.tell(
                "error", {"type": "InternalError", "message": "the server failed; its log says where", "hint": ""}
            )
            raise


class Runs:
    """The runs of a server, by id: those under way, and the last that ended."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def add(self, run: Run) -> Run:
        """Keep a run, and drop the oldest finished ones beyond what is kept."""
        self._runs[run.run_id] = run
        finished = [run_id for run_id, kept in self._runs.items() if kept.finished]
        for run_id in finished[: max(0, len(self._runs) - MAX_KEPT)]:
            del self._runs[run_id]
        return run

    def get(self, run_id: str) -> Run:
        """Raises IndexMissing for an id that is unknown, or no longer kept."""
        if run_id not in self._runs:
            raise IndexMissing("there is no such run, or it is no longer kept", hint="ask again")
        return self._runs[run_id]


class StoppableMeter(Meter):
    """A meter that, once stopped, refuses every further call as if the budget were spent: until the search is over."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False

    def stop(self) -> None:
        """Refuse calls from now on."""
        self._stopped = True

    def release(self) -> None:
        """The search has ended: the reader's calls are welcome."""
        self._stopped = False

    def check(self, estimated_tokens: int = 0, estimated_cost: float | None = 0.0) -> None:
        """As Meter.check; BudgetSpent when stopped."""
        if self._stopped:
            raise BudgetSpent(STOPPED)
        super().check(estimated_tokens, estimated_cost)

    def reserve(self, estimated_tokens: int, estimated_cost: float | None) -> Reservation:
        """As Meter.reserve; BudgetSpent when stopped."""
        if self._stopped:
            raise BudgetSpent(STOPPED)
        return super().reserve(estimated_tokens, estimated_cost)
