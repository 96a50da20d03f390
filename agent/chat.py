"""A conversation with a collection: what was asked, what was answered, and why.

A follow-up is first put so that it stands alone: "it" finds nothing. What the user really said is kept beside it. The
last answer explains itself: `/why` each passage was found, `/tree` which branches led there, `/sources` what is cited,
`/budget` what it cost. Draws nothing and reads no terminal: agent.surfaces.cli does.
Tested in tests/agent/test_chat.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from branchwise.agent.rewrite import condense, stand_alone
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import InputError
from branchwise.stores.records import Answer, Budget, Filters, Hit, Question, Step, Turn, Usage

if TYPE_CHECKING:
    from branchwise.agent.engine import Engine
    from branchwise.agent.search.trace import OnEvent

FORMAT = 1
"""Version of a saved conversation."""
COMMANDS: Mapping[str, str] = {
    "/why": "why each passage of the last answer was found",
    "/tree": "the branches that led to them",
    "/sources": "what the last answer cites, with the quotes",
    "/budget": "what the conversation has cost, and the limits of a question",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One question as it was asked, as it was understood (`answer.question`), and its answer."""

    asked: str
    answer: Answer


@dataclass(slots=True, kw_only=True)
class Chat:
    """A conversation. One question at a time; `budget` is what each may cost."""

    engine: Engine
    k: int = 10
    budget: Budget = field(default_factory=Budget)
    filters: Filters = field(default_factory=dict)
    excluded_ids: frozenset[str] = frozenset()
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def history(self) -> tuple[Turn, ...]:
        """All turns so far, oldest first."""
        return tuple(
            turn
            for exchange in self.exchanges
            for turn in (Turn(role="user", text=exchange.asked), Turn(role="assistant", text=exchange.answer.text))
        )

    @property
    def spent(self) -> Usage:
        """What all questions so far have cost together."""
        return sum((exchange.answer.usage for exchange in self.exchanges), Usage())

    async def ask(self, text: str, *, on_event: OnEvent | None = None) -> Answer:
        """Answer `text` in the light of what was said; the exchange joins the conversation once it is answered.

        Raises what Engine.ask raises; the conversation is then as it was before.
        """
        meter = Meter(self.budget)
        said = Question(text=text, history=self.history)
        asker = self.engine.asker
        usage = Usage()
        standalone = stand_alone(said)
        if asker is not None and self.exchanges:
            standalone, usage = await condense(said, asker, meter=meter)
        question = Question(text=standalone, filters=self.filters, excluded_ids=self.excluded_ids)
        answer = await self.engine.ask(question, k=self.k, on_event=on_event, meter=meter, budget=self.budget)
        answer = replace(answer, usage=answer.usage + usage)
        self.exchanges.append(Exchange(asked=text, answer=answer))
        return answer

    def command(self, line: str) -> str:
        """The answer to one of COMMANDS, as plain text. Raises InputError for any other."""
        name = line.strip().split(" ")[0].lower()
        if name not in COMMANDS:
            raise InputError(f"There is no command {name!r}.", hint=f"Commands: {', '.join(COMMANDS)}.")
        if name == "/budget":
            return "\n".join(_budget_lines(self.spent, self.budget))
        if not self.exchanges:
            return "Nothing has been asked yet."
        answer = self.exchanges[-1].answer
        lines = {"/why": _why, "/tree": _tree, "/sources": _sources}[name](answer)
        return "\n".join(lines) or "The last answer rests on nothing: no passage was found."

    def save(self, path: Path | str) -> None:
        """Write the conversation as JSON: every exchange with its hits, citations and cost."""
        from pydantic import TypeAdapter

        light = [
            replace(exchange, answer=replace(exchange.answer, search=replace(exchange.answer.search, judgements=())))
            for exchange in self.exchanges
        ]
        saved = TypeAdapter(list[Exchange]).dump_python(light, mode="json")
        text = json.dumps({"format": FORMAT, "exchanges": saved}, ensure_ascii=False, indent=1)
        Path(path).write_text(text, encoding="utf-8")

    def load(self, path: Path | str) -> None:
        """Continue the conversation that `save` wrote, in place of this one. Raises InputError naming the file."""
        from pydantic import TypeAdapter, ValidationError

        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(saved, dict) or saved.get("format") != FORMAT:
                raise InputError(f"{path} is not a conversation of format {FORMAT}.")
            self.exchanges = TypeAdapter(list[Exchange]).validate_python(saved.get("exchanges"))
        except OSError as problem:
            raise InputError(f"{path} cannot be read: {problem.strerror or problem}") from problem
        except ValidationError as problem:
            first = problem.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(f"{path} is not a saved conversation: {place}: {first['msg']}") from problem
        except ValueError as problem:
            raise InputError(f"{path} is not JSON: {problem}") from problem


def _why(answer: Answer) -> Iterator[str]:
    for hit in answer.search.hits:
        yield f"{hit.rank}. {_name(hit)}  {hit.score:.2f}"
        yield f"   {' > '.join(map(_step, hit.steps))}"
        if hit.reason:
            yield f"   {hit.reason}"


def _tree(answer: Answer) -> Iterator[str]:
    """The paths to the hits, laid over one another."""
    shown: set[str] = set()
    for hit in answer.search.hits:
        for depth, step in enumerate(hit.steps):
            if step.node_id not in shown:
                shown.add(step.node_id)
                yield f"{'  ' * depth}{_step(step)}"


def _sources(answer: Answer) -> Iterator[str]:
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page is not None else ""
        place = f"{citation.doc_id}{page}, characters {citation.start}-{citation.end}"
        yield f"[{citation.number}] {citation.title or citation.doc_id} ({place})"
        yield f"    {' '.join(citation.quote.split())}"
    for one, other in answer.conflicts:
        yield f"[{one}] and [{other}] contradict each other."


def _budget_lines(spent: Usage, budget: Budget) -> Iterator[str]:
    cost = "cost unknown" if spent.cost is None else f"cost {spent.cost:.4f}"
    yield (
        f"Spent: {spent.calls} model calls, {spent.input_tokens:,} tokens in ({spent.cached_tokens:,} cached), "
        f"{spent.output_tokens:,} out, {spent.seconds:.1f} s, {cost}."
    )
    limits = (
        ("calls", budget.max_calls),
        ("tokens", budget.max_tokens),
        ("seconds", budget.max_seconds),
        ("cost", budget.max_cost),
    )
    yield f"A question may take: {_listed(f'{limit:g} {unit}' for unit, limit in limits if limit is not None)}."


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "as much as it needs"


def _name(hit: Hit) -> str:
    return hit.passage.title or hit.passage.passage_id


def _step(step: Step) -> str:
    title = step.title or step.node_id
    return title if step.path is None else f"{title} ({step.path:.2f})"
