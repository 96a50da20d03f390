"""A judge with a budget around it, for the baselines: counts what is spent and refuses the call that would overspend.

Tested in tests/bench/test_methods.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from branchwise.stores.errors import BudgetSpent, ModelError
from branchwise.stores.records import Budget, Judgement, Question, Slate, Stop, Usage

if TYPE_CHECKING:
    from branchwise.agent.search.judge import Judge


class Purse:
    """One query's judge and budget. Once a limit is reached or the judge fails, `ask` raises BudgetSpent."""

    def __init__(self, judge: Judge, question: Question, budget: Budget) -> None:
        self.judgements: list[Judgement] = []
        self.usage = Usage()
        self.stopped: Stop = "decided"
        self.notes: tuple[str, ...] = ()
        self._judge = judge
        self.question = question
        self._budget = budget
        self._began = time.monotonic()

    @property
    def calls(self) -> int:
        """Slates judged so far, by any judge, the embedded one included."""
        return len(self.judgements)

    @property
    def calls_left(self) -> int | None:
        """Slates that may still be judged; None without a limit of calls."""
        return None if self._budget.max_calls is None else self._budget.max_calls - self.calls

    async def ask(self, slate: Slate) -> dict[str, float | None]:
        """Scores for the slate's nodes. Raises BudgetSpent where the call would pass a limit, or failed."""
        if self._spent():
            self.stopped = "budget"
            raise BudgetSpent("the budget of this query is spent")
        try:
            judgement = await self._judge.judge(slate, self.question)
        except ModelError as error:
            self.stopped, self.notes = "budget", (*self.notes, error.message)
            if not self.judgements:
                raise
            raise BudgetSpent(error.message) from error
        self.judgements.append(judgement)
        self.usage += judgement.usage
        return dict(judgement.scores)

    def _spent(self) -> bool:
        budget, usage = self._budget, self.usage
        largest = max((j.usage.input_tokens + j.usage.output_tokens for j in self.judgements), default=0)
        return (
            (budget.max_calls is not None and self.calls >= budget.max_calls)
            or (
                budget.max_tokens is not None and usage.input_tokens + usage.output_tokens + largest > budget.max_tokens
            )
            or (budget.max_seconds is not None and time.monotonic() - self._began >= budget.max_seconds)
            or (budget.max_cost is not None and usage.cost is not None and usage.cost >= budget.max_cost)
        )
