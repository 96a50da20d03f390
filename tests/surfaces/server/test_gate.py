"""Bounded concurrency: some run, some wait, the rest are told when to come back."""

from __future__ import annotations

import asyncio

import pytest

from branchwise.agent.surfaces.server.gate import Busy, Gate


async def test_only_so_many_run_and_only_so_many_wait() -> None:
    """2 run, 3 wait in order, the 6th is refused with whole seconds to wait; all that were let in finish."""
    gate = Gate(max_running=2, max_waiting=3)
    release = asyncio.Event()
    order: list[int] = []
    most = 0

    async def visit(number: int) -> None:
        nonlocal most
        async with gate.enter():
            order.append(number)
            most = max(most, gate.running)
            await release.wait()

    visits = [asyncio.create_task(visit(number)) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (gate.running, gate.waiting) == (2, 3)
    with pytest.raises(Busy) as refused:
        await visit(6)
    assert refused.value.retry_after >= 1
    assert refused.value.http_status == 429
    release.set()
    await asyncio.gather(*visits)
    assert order == [0, 1, 2, 3, 4]
    assert most == 2
    assert (gate.running, gate.waiting) == (0, 0)


async def test_who_leaves_while_waiting_frees_the_place() -> None:
    """A cancelled visitor is neither running nor waiting afterwards."""
    gate = Gate(max_running=1, max_waiting=1)
    async with gate.enter():
        waiting = asyncio.create_task(gate.enter().__aenter__())
        await asyncio.sleep(0)
        assert gate.waiting == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert gate.waiting == 0
        gate.check()
    assert gate.running == 0
