"""The one door from ordinary calls into the asynchronous engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from branchwise.agent.sync import iterate, run


async def where() -> str:
    """The thread that the coroutine runs in."""
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_all_calls_share_one_loop() -> None:
    """Calls from several threads run on one background thread."""
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(run(where()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["branchwise"] * 4


def test_errors_come_through() -> None:
    """What the coroutine raises is raised here."""

    async def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        run(fail())


def test_leaving_an_iteration_closes_its_source() -> None:
    """Whoever breaks out of the loop ends the generator behind it."""
    closed = threading.Event()

    async def count() -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
        finally:
            closed.set()

    for number in iterate(count()):
        if number == 3:
            break
    assert closed.wait(5)


async def test_works_inside_a_running_loop() -> None:
    """A plain call inside a coroutine does not need the loop it blocks."""
    assert run(where()) == "branchwise"
