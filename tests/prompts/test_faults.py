"""Every kind of fault of a model server, at every kind of prompt: no crash, no hang, no silently wrong value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from pydantic import BaseModel

from branchwise.prompts.ask import Asked, Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.limits import Limits
from branchwise.prompts.openai_chat import Dialect, OpenAIChat
from branchwise.prompts.replies import ReadReply, SlateReply, SummaryReply, settle
from branchwise.stores.errors import BudgetSpent, ModelRefused, ModelUnavailable, ReplyInvalid
from branchwise.stores.records import Budget
from tests.loopback.faults import FAULTS, SCORE_FAULTS, always, first
from tests.loopback.server import LoopbackServer, run_server

PASSAGES = [f"Yeast number {n} makes bread rise because of gas {'and salt ' * n}." for n in range(6)] + ["The moon."]
PROMPTS: dict[str, tuple[dict[str, Any], type[BaseModel]]] = {
    "judge_leaf.v1": (
        {
            "relevance": "",
            "reasons": True,
            "candidates": PASSAGES[:5],
            "anchors": PASSAGES[5:],
            "count": 7,
            "query": "Why does yeast make bread rise with salt and sugar?",
        },
        SlateReply,
    ),
    "summarise.v1": ({"children": PASSAGES, "count": 7}, SummaryReply),
    "read.v1": ({"passages": PASSAGES, "history": [], "query": "Why does bread rise?"}, ReadReply),
}
SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("summarise.v1", "read.v1")]
SLOW = {"hang", "slow_drip"}
_asked = count(1)


def limits(timeout: float) -> Limits:
    """Three attempts, hardly a wait; never the same limits twice.

    All who call a server under the same limits share what is known of it, and after eight failures in a row one attempt
    is enough: whether a question before this one is still remembered is up to the garbage collector.
    """
    return Limits(attempts=3, first_wait=0.01, patience=2.0 + next(_asked) / 1e6, timeout=timeout, concurrency=4)


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    """One server for all; each test sets its own fault."""
    with run_server() as running:
        yield running


class Client:
    """One connection to the server for a whole test; every question starts with nothing remembered."""

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server
        self.model = OpenAIChat("stand-in", server.base_url)

    async def ask(self, prompt: str, *, fault: str = "", meter: Meter | None = None) -> Asked[Any]:
        """The reply to one of PROMPTS, checked as its real caller would; a slow fault gets a short timeout."""
        self.server.calls.clear()
        self.model.dialect, self.model._thinks = Dialect(), False
        variables, kind = PROMPTS[prompt]
        asker = Asker(self.model, limits=limits(0.5 if fault in SLOW and meter is None else 10.0))

        def accept(value: BaseModel) -> str | None:
            if isinstance(value, SlateReply):
                return settle(value, 7)[1]
            if isinstance(value, SummaryReply):
                return None if {part.number for part in value.parts} == set(range(1, 8)) else "Items are missing."
            return None

        return await asyncio.wait_for(asker.ask(prompt, variables, kind, accept=accept, meter=meter), 30)


@pytest.fixture
async def client(server: LoopbackServer) -> AsyncIterator[Client]:
    """A client of the server."""
    client = Client(server)
    yield client
    await client.model.aclose()


async def outcome(client: Client, prompt: str, fault: str) -> tuple[str, Any]:
    """What a call came to, in one word, and its value if it has one."""
    try:
        asked = await client.ask(prompt, fault=fault)
    except ModelRefused:
        return "refused", None
    except ReplyInvalid:
        return "invalid", None
    except ModelUnavailable:
        return "unavailable", None
    return "value", asked.value


def differs(value: Any, honest: Any) -> bool:
    """Whether a reply says something else than the honest one; a score that is left out says nothing."""
    if not isinstance(honest, SlateReply):
        return bool(value != honest)
    right, given = settle(honest, 7)[0], settle(value, 7)[0]
    return any(score is not None and abs(score - (right[n] or 0)) > 0.0051 for n, score in given.items())


EXPECTED = {"again": "unavailable", "refused": "refused", "reply": "invalid", "fine": "value"}
MOST_CALLS = {"again": 3, "refused": 3, "reply": 2, "fine": 1}


@pytest.mark.parametrize("prompt", ["judge_leaf.v1", *SLOWER])
async def test_every_fault_that_stays_ends_in_an_error_or_the_right_value(
    client: Client, server: LoopbackServer, prompt: str
) -> None:
    """For a fault at every call: the error of its kind, or the very value of an honest server; and few calls."""
    server.fault_for = lambda call: None
    honest = (await client.ask(prompt)).value
    wrong = []
    for name, fault in FAULTS.items():
        if name in SCORE_FAULTS and prompt != "judge_leaf.v1":
            continue
        server.fault_for = always(name)
        came, value = await outcome(client, prompt, name)
        if came != EXPECTED[fault.kind] and came != "value":
            wrong.append(f"{name}: {came} instead of {EXPECTED[fault.kind]}")
        if len(server.calls) > MOST_CALLS[fault.kind]:
            wrong.append(f"{name}: {len(server.calls)} calls")
        if value is not None and differs(value, honest):
            wrong.append(f"{name}: a wrong value")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("prompt", ["judge_leaf.v1", *SLOWER])
async def test_a_fault_that_passes_costs_calls_but_changes_nothing(
    client: Client, server: LoopbackServer, prompt: str
) -> None:
    """A fault at the first call only: the honest value, unless the server has refused for good."""
    server.fault_for = lambda call: None
    honest = (await client.ask(prompt)).value
    wrong = []
    for name, fault in FAULTS.items():
        if name in SCORE_FAULTS and prompt != "judge_leaf.v1":
            continue
        server.fault_for = first(name)
        came, value = await outcome(client, prompt, name)
        final = fault.kind == "refused" or name in {"content_filter", "refusal"}  # the same would be refused again
        if came != "value" and not (final and came == {"refused": "refused"}.get(fault.kind, "invalid")):
            wrong.append(f"{name}: {came}")
        if value is not None and differs(value, honest):
            wrong.append(f"{name}: a wrong value")
        if len(server.calls) > 3:
            wrong.append(f"{name}: {len(server.calls)} calls")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["hang", "slow_drip", "status_500", "status_429_retry_after_absurd", "reset"])
async def test_no_fault_outlives_the_deadline(client: Client, server: LoopbackServer, name: str) -> None:
    """With a second's budget the call ends as a spent budget or an unavailable model, well before the server would."""
    server.fault_for = always(name)
    with pytest.raises((BudgetSpent, ModelUnavailable)):
        await client.ask("judge_leaf.v1", fault=name, meter=Meter(Budget(max_seconds=0.4)))


async def test_nothing_listens() -> None:
    """A closed port is an unavailable model, and the message names the address."""
    asker = Asker(OpenAIChat("stand-in", "http://127.0.0.1:9/v1"), limits=limits(5.0))
    variables, kind = PROMPTS["read.v1"]
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:9"):
        await asker.ask("read.v1", variables, kind)
    await asker.aclose()


def test_there_are_enough_kinds_of_fault() -> None:
    """At least forty, of every kind."""
    assert len(FAULTS) >= 40
    assert {fault.kind for fault in FAULTS.values()} == {"again", "refused", "reply", "fine"}
