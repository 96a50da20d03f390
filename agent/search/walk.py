"""The walk: ask, hear, infer, until it is decided or the budget is spent.

The loop is the whole algorithm. What to ask next is the policy's (agent.search.choose, agent.search.lattice), what the
replies mean the state's. Calls run side by side, but replies are taken in the order in which the slates were sent: the
same replies give the same search, byte for byte, whatever their order of arrival. A judge that fails ends the walk
with what was learnt so far, never with "nothing found". Tested in tests/agent/test_walk.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from branchwise.agent.search.choose import Choice
from branchwise.agent.search.judge import Judge
from branchwise.agent.search.state import SearchState
from branchwise.stores.errors import BudgetSpent, ModelError
from branchwise.stores.records import Budget, Judgement, Question, Stop

Record = Callable[[str, dict[str, Any]], None]


class Policy(Protocol):
    """Decides what is asked."""

    def next(self, state: SearchState) -> Choice | None:
        """The next slate; None where replies must come first, or where there is nothing left to ask."""
        ...


async def walk(
    question: Question, state: SearchState, judge: Judge, policy: Policy, *, budget: Budget, record: Record
) -> tuple[Stop, str]:
    """Walk until the policy has nothing left to ask ("decided", or "exhausted" when all was read) or `budget` is spent.

    Fills `state` and tells `record` every step. Returns why it stopped and, where something failed, what: a failure
    before anything was heard is raised, since there is nothing to fall back on.
    """
    pending: deque[tuple[int, asyncio.Task[Judgement]]] = deque()
    deadline = None if budget.max_seconds is None else time.monotonic() + budget.max_seconds
    stopped: Stop = "decided"
    failure: ModelError | None = None
    try:
        while True:
            while stopped == "decided" and (choice := policy.next(state)) is not None:
                if len(state.slates) == budget.max_calls or (deadline and time.monotonic() >= deadline):
                    stopped = "budget"
                    break
                number = state.issue(choice.slate)
                record("slate", told(number, choice))
                pending.append((number, asyncio.create_task(judge.judge(choice.slate, question))))
            if not pending:
                break
            number, task = pending.popleft()
            try:
                judgement = await asyncio.wait_for(task, deadline and max(0.0, deadline - time.monotonic()))
            except (BudgetSpent, TimeoutError):
                stopped = "budget"
                state.withdraw(number)
            except ModelError as error:
                stopped, failure = "budget", error
                state.withdraw(number)
            else:
                state.record(number, judgement)
                record("judged", heard(number, judgement))
                record("calibrated", state.told())
    finally:
        for _, task in pending:
            task.cancel()
    if failure is not None and not state.judgements:
        raise failure
    if stopped == "decided" and state.exhausted():
        stopped = "exhausted"
    return stopped, failure.message if failure else ""


def told(number: int, choice: Choice) -> dict[str, Any]:
    """A choice as an event's payload."""
    slate = choice.slate
    return {
        "slate": number,
        "parent": slate.parent,
        "kind": slate.kind,
        "candidates": list(slate.candidate_ids),
        "anchors": list(slate.anchor_ids),
        "repeat": slate.repeat,
        "expected_gain": round(choice.expected_gain, 6),
        "why": choice.why,
    }


def heard(number: int, judgement: Judgement) -> dict[str, Any]:
    """A judgement as an event's payload: all that a replay needs."""
    usage = judgement.usage
    return {
        "slate": number,
        "scores": dict(judgement.scores),
        "reasons": dict(judgement.reasons),
        "judge": judgement.judge,
        "weak": judgement.weak,
        "usage": {
            "calls": usage.calls,
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "seconds": round(usage.seconds, 6),
            "cost": usage.cost,
        },
    }
