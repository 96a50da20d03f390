"""Questions that no one passage answers: what the first search finds names what the second must look for.

First hop: the question itself, and its sub-questions where a rewriter named some. Second hop: the best passages name
people, places and things that the question does not; each such name, with what of the question its passage leaves
open, is looked for, and the passages found inherit their worth from the one that led to them. The cheap lexical leg
picks the few bridges worth a search. All searches draw on one budget; the hits are merged, each node once.

It is a loop around a search, not a part of it: `Searches` is all it knows of the engine. Costs up to
1 + sub-questions + `BRIDGES` searches. Tested in tests/agent/test_multihop.py, measured by agent.bench.rewriting.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from branchwise.agent.rewrite import stand_alone
from branchwise.agent.words import content_words
from branchwise.prompts.budget import Meter
from branchwise.stores.language import tokens
from branchwise.stores.records import Budget, Event, Hit, Judgement, Question, SearchResult

if TYPE_CHECKING:
    from branchwise.agent.search.trace import OnEvent
    from branchwise.stores.index import Index
    from branchwise.stores.lexical import LexicalIndex

SOURCES = 3
"""How many of the best hits may name a bridge."""
NAMES = 12
"""How many names each of them may give, the first ones first."""
BRIDGES = 3
"""How many bridges are searched for."""
SECOND_HAND = 0.95
"""What the best hit of a further search is worth, as a share of the score of the passage that led to it."""
LEAST_TOP = 0.5
"""A further search whose best hit scores less than this is not lifted to the source's height: it found little."""

_NAME = re.compile(r"[^\W_a-z][\w'’.-]*(?:\s+(?:(?:of|the|de|and|&|in|van|von|da|do)\s+)?[^\W_a-z][\w'’.-]*)*")


class Searches(Protocol):
    """What is asked of an engine (agent.engine.Engine is one)."""

    @property
    def index(self) -> Index:
        """The index that is searched."""
        ...

    async def search(
        self,
        question: Question,
        *,
        k: int = 10,
        budget: Budget | None = None,
        on_event: OnEvent | None = None,
        meter: Meter | None = None,
    ) -> SearchResult:
        """One search, its cost counted by `meter` too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What a passage names, and the question that looks for it. `worth` in [0, 1] orders bridges."""

    name: str
    question: str
    source: Hit
    worth: float


async def search_in_hops(
    engine: Searches,
    question: Question,
    *,
    k: int = 10,
    budget: Budget | None = None,
    on_event: OnEvent | None = None,
    meter: Meter | None = None,
    second: bool = True,
) -> SearchResult:
    """The best `k` passages of all hops together, within one budget.

    The events of all searches come as one sequence, each with the number of its search ("search", from 0).
    `second=False` leaves the second hop out. The result is `partial` where any search was; its usage is that of all.
    Filters and exclusions hold in every hop. Raises what the engine raises.
    """
    spent = Meter(budget, parent=meter)
    purse = _Purse(spent)
    relay = _Relay(on_event)
    alone = stand_alone(question)
    half = purse.take(1 / 2 if second else 1)
    first = await engine.search(question, k=k, budget=half, on_event=relay.next_search(), meter=spent)
    purse.pay(first)
    parts = [(1.0, first)]
    top = first.hits[0].score if first.hits else 1.0
    asked = first.rewrite.sub_questions if first.rewrite else ()
    parts += [(_weight(top, result), result) for result in await _search_each(engine, question, asked, k, purse, relay)]
    if second and first.hits:
        bridges = await asyncio.to_thread(find_bridges, alone, first.hits, engine.index)
        questions = [bridge.question for bridge in bridges]
        found = await _search_each(engine, question, questions, k, purse, relay)
        parts += [(_weight(b.source.score, result), result) for b, result in zip(bridges, found, strict=True)]
    return replace(merge(first, parts, k=k), usage=spent.spent)


def find_bridges(question: str, hits: Sequence[Hit], index: Index) -> list[Bridge]:
    """The bridges most worth a search, best first, at most `BRIDGES`.

    A bridge is worth the share of its words' weight that the best other passage holds, times its source's score.
    """
    found: dict[str, Bridge] = {}
    lexical = index.lexical
    for hit in hits[:SOURCES]:
        open_words = _left_open(question, hit, lexical)
        if not open_words:
            continue  # it holds all that is asked: what else it names would only lead astray
        for name in _names(hit, question, lexical):
            query = " ".join((name, *open_words))
            weight = sum(map(lexical.idf, lexical.terms(query)))
            own = index.tree.leaf_row[hit.node_id]
            held = max((score for row, score in lexical.top(query, 2) if row != own), default=0.0)
            worth = hit.score * min(1.0, held / weight) if weight else 0.0
            if worth and (name not in found or worth > found[name].worth):
                found[name] = Bridge(name=name, question=query, source=hit, worth=worth)
    return sorted(found.values(), key=lambda bridge: (-bridge.worth, bridge.name))[:BRIDGES]


def merge(first: SearchResult, parts: Iterable[tuple[float, SearchResult]], *, k: int) -> SearchResult:
    """One result out of several: each passage at the best score it got, times the weight of the search that gave it."""
    best: dict[str, Hit] = {}
    judgements: list[Judgement] = []
    notes: list[str] = []
    cut_short = False
    for weight, result in parts:
        judgements += result.judgements
        notes += result.notes
        cut_short = cut_short or result.partial
        for hit in result.hits:
            score = weight * hit.score
            if hit.node_id not in best or score > best[hit.node_id].score:
                best[hit.node_id] = replace(hit, score=score)
    ordered = sorted(best.values(), key=lambda hit: (-hit.score, hit.node_id))[:k]
    return replace(
        first,
        hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(ordered, 1)),
        judgements=tuple(judgements),
        partial=cut_short,
        stopped="budget" if cut_short else first.stopped,
        notes=tuple(dict.fromkeys(notes)),
    )


def _weight(source: float, result: SearchResult) -> float:
    """What the scores of a further search count: its best hit comes just below its source."""
    top = max((hit.score for hit in result.hits), default=1.0)
    return SECOND_HAND * source / max(top, LEAST_TOP)


async def _search_each(
    engine: Searches, question: Question, texts: Sequence[str], k: int, purse: _Purse, relay: _Relay
) -> list[SearchResult]:
    """A search for each text, side by side, each with an equal part of what is left."""
    # A judge must know what the passage is for; only the user's words say so, never a document's.
    relevance = question.relevance or f"A passage is relevant if it helps to answer: {stand_alone(question)}"
    wanted = [replace(question, text=text, history=(), relevance=relevance) for text in texts]
    budget = purse.take(1 / max(1, len(wanted)))
    searches = [
        engine.search(one, k=k, budget=budget, on_event=relay.next_search(), meter=purse.meter) for one in wanted
    ]
    found = await asyncio.gather(*searches)
    purse.pay(*found)
    return found


class _Relay:
    """Makes one sequence of the events of many searches."""

    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event = on_event
        self._searches = 0
        self._events = 0

    def next_search(self) -> OnEvent | None:
        """The listener of one more search; None where nobody listens."""
        number, self._searches = self._searches, self._searches + 1
        return partial(self._pass_on, number) if self._on_event else None

    def _pass_on(self, search: int, event: Event) -> None:
        if self._on_event:
            self._on_event(replace(event, seq=self._events, payload={**event.payload, "search": search}))
            self._events += 1


class _Purse:
    """One budget for many searches: `max_calls` counts slates, which the results tell; the meter keeps the rest."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.calls = meter.budget.max_calls

    def take(self, share: float) -> Budget:
        """The budget of a search that may use this share of the slates left; with none left the search is free."""
        calls = None if self.calls is None else int(self.calls * share)
        return replace(self.meter.budget, max_calls=calls, max_seconds=self.meter.remaining_seconds())

    def pay(self, *results: SearchResult) -> None:
        """Count the slates that were judged."""
        if self.calls is not None:
            self.calls = max(0, self.calls - sum(len(result.judgements) for result in results))


def _left_open(question: str, hit: Hit, lexical: LexicalIndex) -> list[str]:
    """Content words of the question that the passage does not hold."""
    held = set(lexical.terms(f"{hit.passage.title}\n{hit.passage.text}"))
    return [word for word in content_words(question) if not held.issuperset(lexical.terms(word))]


def _names(hit: Hit, question: str, lexical: LexicalIndex) -> list[str]:
    """Names in the passage, its own title first, that say something the question does not."""
    known = set(tokens(question))
    names = [match.group().rstrip(".-'’") for match in _NAME.finditer(f"{hit.passage.title}\n{hit.passage.text}")]
    new = (name for name in names if content_words(name) and not known.issuperset(content_words(name)))
    return list(dict.fromkeys(new))[:NAMES]
