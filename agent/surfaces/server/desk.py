"""Where every question is served, whatever the door it came in by: REST, event stream or OpenAI's protocol.

A question waits for its turn, leases the newest generation of its index, is searched or answered, counted and, where
OpenTelemetry is installed, traced; never is its content. A client that goes away takes its question with it. Knows
nothing of routes. Tested in tests/surfaces/server/test_rest.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from starlette.requests import Request

from branchwise.agent.engine import Engine
from branchwise.agent.search.trace import OnEvent
from branchwise.agent.surfaces.server.events import Run, Runs
from branchwise.agent.surfaces.server.gate import Gate
from branchwise.agent.surfaces.server.metrics import Metrics
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.agent.surfaces.server.wire import QuestionIn, labels_json
from branchwise.agent.surfaces.shapes import answer_json, search_json
from branchwise.prompts.budget import Meter
from branchwise.stores.index import Index
from branchwise.stores.records import Answer, Event, SearchResult

Kind = Literal["search", "ask"]


class ClientGone(Exception):
    """The client closed the connection before its answer was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The server's working parts. `grace` is how long, in seconds, a run waits for a follower to come back."""

    shelf: Shelf
    gate: Gate
    grace: float = 5.0
    runs: Runs = field(default_factory=Runs)
    metrics: Metrics = field(default_factory=Metrics)

    async def search(
        self, asked: QuestionIn, *, on_event: OnEvent | None = None, meter: Meter | None = None
    ) -> SearchResult:
        """The hits for a question."""
        async with self._served("search", asked) as engine:
            result = await engine.search(
                asked.to_question(),
                k=asked.k,
                budget=asked.to_budget(),
                on_event=_told(on_event, asked, engine),
                meter=meter,
            )
            self._count_spending(result)
            return result

    async def ask(self, asked: QuestionIn, *, on_event: OnEvent | None = None, meter: Meter | None = None) -> Answer:
        """The answer to a question."""
        async with self._served("ask", asked) as engine:
            answer = await engine.ask(
                asked.to_question(),
                k=asked.k,
                budget=asked.to_budget(),
                on_event=_told(on_event, asked, engine),
                meter=meter,
            )
            self._count_spending(answer)
            return answer

    def start(self, kind: Kind, asked: QuestionIn) -> Run:
        """A run that tells each step of a search or an answer. Raises IndexMissing for an unknown index, Busy."""
        self.shelf.name_of(asked.index)
        self.gate.check()

        async def work(run: Run) -> Mapping[str, Any]:
            def forward(event: Event) -> None:
                run.tell(event.kind, event.payload)
                if event.kind == "stopped":
                    run.meter.release()

            if kind == "search":
                return search_json(await self.search(asked, on_event=forward, meter=run.meter))
            return answer_json(await self.ask(asked, on_event=forward, meter=run.meter))

        return self.runs.add(Run(work, grace=self.grace))

    @asynccontextmanager
    async def _served(self, kind: Kind, asked: QuestionIn) -> AsyncIterator[Engine]:
        started = monotonic()
        outcome = "ok"
        try:
            with _span(f"branchwise.{kind}"):
                async with self.gate.enter(), self.shelf.lease(asked.index) as engine:
                    yield engine
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self.metrics.count(kind, outcome, monotonic() - started)

    def _count_spending(self, result: SearchResult | Answer) -> None:
        usage = result.usage
        self.metrics.spend(calls=usage.calls, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)


async def unless_gone(request: Request, work: Any) -> Any:
    """The result of the coroutine `work`; cancelled, and ClientGone raised, when the client closes the connection."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told(on_event: OnEvent | None, asked: QuestionIn, engine: Engine) -> OnEvent | None:
    """`on_event`, given the names of the nodes with the first event that speaks of them."""
    if on_event is None:
        return None
    known: set[str] = set()
    sight = asked.to_sight(engine.index)

    def tell(event: Event) -> None:
        new = [node_id for node_id in _nodes_of(event, engine.index) if node_id not in known]
        known.update(new)
        payload = {**event.payload, "labels": labels_json(sight, new)} if new else event.payload
        on_event(Event(seq=event.seq, kind=event.kind, payload=payload))

    return tell


def _nodes_of(event: Event, index: Index) -> Iterator[str]:
    """The nodes that a picture of the tree draws because of this event, with all that stand above them."""
    payload = event.payload
    named: list[str] = []
    if event.kind == "slate":
        named += [*([payload["parent"]] if payload.get("parent") else []), *payload["candidates"]]
    elif event.kind in {"ranking", "hits"}:
        named += [hit["node_id"] for hit in payload["hits"]]
    for node_id in named:
        if node_id in index.tree:
            yield from index.tree.path_to(node_id)


@contextmanager
def _span(name: str) -> Iterator[None]:
    """A span of OpenTelemetry, where its API is installed; the application decides where spans go, if anywhere.

    Of an error it has the kind alone: messages may speak of what was asked.
    """
    try:
        from opentelemetry import trace
    except ImportError:
        yield
        return
    tracer = trace.get_tracer("branchwise")
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield
        except Exception as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
