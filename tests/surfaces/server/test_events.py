"""Event streams: every step, resumable, stoppable, and cancelled when nobody listens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from branchwise.agent.surfaces.server.events import MAX_KEPT, Run, Runs
from branchwise.stores.errors import BudgetSpent, IndexMissing, InputError

QUESTION = "How are the names in a nested function looked up?"


def read(text: str) -> list[dict[str, Any]]:
    """The data of each server-sent event."""
    lines = [line for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line.removeprefix("data:")) for line in lines]


async def test_a_stream_tells_the_search_and_ends_with_the_result(client: httpx2.AsyncClient) -> None:
    """Numbers without gaps, every node named before or where it is first spoken of, and the result last."""
    answer = await client.post("/ask", json={"question": QUESTION, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read(answer.text)
    assert [event["seq"] for event in events] == list(range(len(events)))
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "question"
    assert {"seeds", "slate", "judged", "calibrated", "hits", "stopped"} <= set(kinds)
    assert kinds[-1] == "result"
    named: set[str] = set()
    for event in events:
        named |= set(event["payload"].get("labels", {}))
        if event["kind"] == "slate":
            assert set(event["payload"]["candidates"]) <= named
    assert events[-1]["payload"]["citations"]


async def test_a_stream_resumes_where_it_broke_off(client: httpx2.AsyncClient) -> None:
    """Last-Event-ID gives the rest, once each, and the whole again without it."""
    answer = await client.post("/search", json={"question": QUESTION, "stream": True})
    whole = read(answer.text)
    path = f"/runs/{answer.headers['x-run-id']}/events"
    rest = read((await client.get(path, headers={"last-event-id": "3"})).text)
    assert rest == whole[4:]
    assert read((await client.get(path)).text) == whole


async def test_an_error_is_the_last_event(client: httpx2.AsyncClient) -> None:
    """A question that cannot be searched ends its stream with the sentence, not with silence."""
    events = read((await client.post("/ask", json={"question": "  ", "stream": True})).text)
    assert [event["kind"] for event in events] == ["error"]
    assert "empty" in events[0]["payload"]["message"]


async def test_a_run_that_nobody_follows_is_cancelled() -> None:
    """The last follower leaves; after the grace the work is cancelled, and says so to whoever comes back."""
    cancelled = asyncio.Event()

    async def work(run: Run) -> dict[str, Any]:
        run.tell("slate", {})
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return {}

    run = Run(work, grace=0.05)
    followed = run.follow()
    assert (await anext(followed)).event.kind == "slate"
    await followed.aclose()
    await asyncio.wait_for(cancelled.wait(), 60)
    await run.wait()
    assert [told.event.kind async for told in run.follow()] == ["slate", "cancelled"]


async def test_a_follower_who_comes_back_in_time_keeps_the_run() -> None:
    """Within the grace a new follower takes over, and the run goes on to its result."""
    go_on = asyncio.Event()

    async def work(run: Run) -> dict[str, Any]:
        run.tell("slate", {})
        await go_on.wait()
        return {"done": True}

    run = Run(work, grace=0.2)
    first = run.follow()
    await anext(first)
    await first.aclose()
    second = run.follow(after=0)
    waiting = asyncio.create_task(anext(second))
    await asyncio.sleep(0.4)
    go_on.set()
    assert (await waiting).event.kind == "result"


async def test_stop_ends_the_search_but_not_the_reader() -> None:
    """After a stop every call is refused as if the budget were spent, until the search is over."""

    async def work(run: Run) -> dict[str, Any]:
        run.meter.check(1)
        run.meter.stop()
        with pytest.raises(BudgetSpent):
            run.meter.reserve(10, 0.0)
        with pytest.raises(BudgetSpent):
            run.meter.check(1)
        run.meter.release()
        run.meter.check(1)
        return {"answered": True}

    run = Run(work, grace=1)
    assert [told.event.payload async for told in run.follow()] == [{"answered": True}]


async def test_errors_and_bugs_end_a_run_differently() -> None:
    """Our errors speak; a bug says only that it is one."""

    async def wrong(run: Run) -> dict[str, Any]:
        raise InputError("the question is empty", hint="ask something")

    told = [each.event async for each in Run(wrong, grace=1).follow()]
    assert told[0].payload == {"type": "InputError", "message": "the question is empty", "hint": "ask something"}

    async def broken(run: Run) -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    run = Run(broken, grace=1)
    told = [each.event async for each in run.follow()]
    assert "secret" not in str(told[0].payload)
    with pytest.raises(ZeroDivisionError):
        await run._task


async def test_finished_runs_are_forgotten_in_order() -> None:
    """Memory is bounded: beyond a number of runs, the oldest finished one goes."""

    async def work(run: Run) -> dict[str, Any]:
        return {}

    runs = Runs()
    kept = [runs.add(Run(work, grace=1)) for _ in range(MAX_KEPT)]
    await asyncio.gather(*(run.wait() for run in kept))
    runs.add(Run(work, grace=1))
    with pytest.raises(IndexMissing):
        runs.get(kept[0].run_id)
    assert runs.get(kept[1].run_id) is kept[1]
