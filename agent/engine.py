"""The engine: a question in, passages or a cited answer out. Every way in calls this one path.

    ask = search + read            search = rewrite -> prior -> walk -> rank -> hits

It owns no algorithm: the walk is agent.search's, words are agent.rewrite's and agent.reader's. One engine serves many
searches at once over one generation of an index. Tested in tests/agent/test_engine.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from branchwise.agent.hits import make_hits
from branchwise.agent.read_extractive import ExtractiveReader
from branchwise.agent.reader import Reader
from branchwise.agent.rewrite import EmbeddedRewriter, Rewriter, make_probe
from branchwise.agent.search.choose import GainPolicy
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.fuse import rank
from branchwise.agent.search.judge import EmbeddedJudge, Judge
from branchwise.agent.search.lattice import LatticePolicy, rank_as_lattice
from branchwise.agent.search.seeds import Prior, no_prior, prior_of
from branchwise.agent.search.state import SearchState
from branchwise.agent.search.trace import OnEvent, Recorder, ReplayJudge, first
from branchwise.agent.search.walk import Policy, walk
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import InputError
from branchwise.stores.records import (
    Answer,
    Budget,
    Event,
    Hit,
    Judgement,
    Question,
    Rewrite,
    SearchResult,
    Turn,
    Usage,
)

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker
    from branchwise.stores.index import Index

LONGEST_QUESTION = 20_000
"""Characters: beyond this it is no question but a document, and every slate would carry it."""
DEEPEST = 1_000
"""Most hits of one search."""
RANKS_THAT_COUNT = 10
"""Calls are spent on the order of this many hits; more may be asked for, and come in the order they have by then."""
SEEDS_TOLD = 20
"""Seeds in the event that tells of them."""


class Engine:
    """Searches and answers over one opened index.

    Without an `asker` no model is used. Any of the roles can be given: `judge`, `rewriter`, `reader`.
    """

    def __init__(
        self,
        index: Index,
        *,
        asker: Asker | None = None,
        judge: Judge | None = None,
        rewriter: Rewriter | None = None,
        reader: Reader | None = None,
        config: SearchConfig | None = None,
    ) -> None:
        self.index = index
        self.asker = asker
        self.config = config or SearchConfig()
        self._judge = judge
        self._rewriter = rewriter or EmbeddedRewriter()
        self._reader = reader or self._default_reader()

    @property
    def judge_name(self) -> str:
        """Who judges: "embedded" or a model's name."""
        return self._judge.name if self._judge else self.asker.name if self.asker else EmbeddedJudge.name

    async def search(
        self,
        question: Question | str,
        *,
        k: int = 10,
        budget: Budget | None = None,
        on_event: OnEvent | None = None,
        meter: Meter | None = None,
    ) -> SearchResult:
        """The best `k` passages, whatever the budget: with `max_calls=0` what BM25 and the vectors say.

        Raises InputError for an empty or endless question and for k outside 1..1000, ModelError where a model was to
        judge and nothing at all could be heard from it.
        """
        asked = check_question(question, k)
        recorder = Recorder(on_event)
        spent = Meter(budget, parent=meter)
        rewrite, _ = await self._rewriter.rewrite(asked, meter=spent)
        judge = self.judge_on(spent)
        recorder("question", _told(asked, rewrite, judge, self.config, k, spent.budget))
        return await self._walk(asked, rewrite, judge, k, spent, recorder)

    async def replay(self, events: Sequence[Event], *, on_event: OnEvent | None = None) -> SearchResult:
        """Search again from a trace, with no model: the same events, the same hits, the same usage."""
        told = first(events, "question")
        asked = Question(
            text=told["text"],
            history=tuple(Turn(**turn) for turn in told["history"]),
            filters=_with_tuples(told["filters"]),
            excluded_ids=frozenset(told["excluded_ids"]),
            relevance=told["relevance"],
        )
        rewrite = Rewrite(**_with_tuples(told["rewrite"]))
        recorder = Recorder(on_event)
        recorder("question", told)
        engine = Engine(self.index, config=SearchConfig(**told["config"]))
        slates = sum(event.kind == "judged" for event in events)
        stopped = first(events, "stopped")
        budget = Budget(max_calls=slates) if stopped["reason"] == "budget" else Budget()
        judge = ReplayJudge(events)
        return await engine._walk(asked, rewrite, judge, told["k"], Meter(budget), recorder, recorded=stopped)

    async def ask(
        self,
        question: Question | str,
        *,
        k: int = 10,
        budget: Budget | None = None,
        on_event: OnEvent | None = None,
        meter: Meter | None = None,
    ) -> Answer:
        """An answer whose every citation is checked against the stored text; not `found` where nothing supports one."""
        asked = check_question(question, k)
        spent = Meter(budget, parent=meter)
        recorder = Recorder(on_event)
        # The reader's call is kept back: a search that spends all leaves nothing to answer with.
        result = await self.search(
            asked,
            k=k,
            budget=self._search_share(spent.budget),
            on_event=lambda event: recorder(event.kind, event.payload),
            meter=spent,
        )
        reading = await self._reader.read(
            asked, result.hits, self.index, meter=spent, on_token=lambda text: recorder("token", {"text": text})
        )
        answer = Answer(
            question=asked,
            text=reading.text,
            citations=reading.citations,
            found=reading.found,
            search=result,
            usage=replace(result.usage + reading.usage, seconds=spent.spent.seconds),
            reader=reading.written_by,
            conflicts=reading.conflicts,
            notes=result.notes + reading.notes,
        )
        citations = [asdict(citation) for citation in answer.citations]
        recorder("answer", {"text": answer.text, "found": answer.found, "citations": citations})
        return answer

    async def stream(
        self, question: Question | str, *, k: int = 10, budget: Budget | None = None, answer: bool = True
    ) -> AsyncIterator[Event | SearchResult | Answer]:
        """The events of a search as they happen, with the answer's text piece by piece; the result itself comes last.

        Leaving the loop early cancels the search: no further call is made.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        run = self.ask if answer else self.search
        task: asyncio.Task[Any] = asyncio.create_task(run(question, k=k, budget=budget, on_event=queue.put_nowait))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            yield await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    def over(self, index: Index) -> Engine:
        """The same engine over another generation of the index."""
        return Engine(
            index,
            asker=self.asker,
            judge=self._judge,
            rewriter=self._rewriter,
            reader=self._reader,
            config=self.config,
        )

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    async def _walk(
        self,
        question: Question,
        rewrite: Rewrite,
        judge: Judge,
        k: int,
        meter: Meter,
        recorder: Recorder,
        *,
        recorded: Any = None,
    ) -> SearchResult:
        prior = await asyncio.to_thread(self._prior, question, rewrite)
        state = SearchState(self.index.tree, prior, self.config)
        recorder("seeds", {"leaves": self._seeds(prior)})
        stopped, failure = await walk(
            question, state, judge, self._policy(k, judge), budget=meter.budget, record=recorder
        )
        lattice = self.config.mode == "lattice"
        ranked = (rank_as_lattice if lattice else rank)(state, limit=k)
        hits = await asyncio.to_thread(make_hits, self.index, question, state, ranked)
        judgements = tuple(state.judgements[number] for number in sorted(state.judgements))
        usage = meter.spent
        if recorded is not None:
            usage = Usage(**recorded["usage"])
        notes = _notes(judgements, failure)
        partial = stopped == "budget"
        recorder("hits", {"hits": [_placed(hit) for hit in hits]})
        recorder("stopped", {"reason": stopped, "partial": partial, "notes": list(notes), "usage": asdict(usage)})
        return SearchResult(
            question=question,
            hits=hits,
            judgements=judgements,
            stopped=stopped,
            partial=partial,
            usage=usage,
            judge=judge.name,
            rewrite=rewrite,
            notes=notes,
        )

    def _prior(self, question: Question, rewrite: Rewrite) -> Prior:
        index, config = self.index, self.config
        allowed = index.allowed_rows(question.filters, question.excluded_ids)
        if not config.prior or not index.tree.leaf_ids:
            return no_prior(len(index.tree.leaf_ids), allowed)
        probe = make_probe(question, rewrite, embedder=index.embedder, lexical=index.lexical)
        return prior_of(index, probe.words, probe.vector, allowed, pool=config.pool)

    def _seeds(self, prior: Prior) -> list[dict[str, Any]]:
        leaf_ids = self.index.tree.leaf_ids
        return [
            {"node_id": leaf_ids[row], "lexical": _digits(prior.lexical[row]), "dense": _digits(prior.dense[row])}
            for row in prior.ranked[:SEEDS_TOLD]
        ]

    def _policy(self, k: int, judge: Judge) -> Policy:
        if self.config.mode == "lattice":
            return LatticePolicy(self.config)
        return GainPolicy(self.config, k=min(k, RANKS_THAT_COUNT), max_slate=judge.max_slate)

    def judge_on(self, meter: Meter) -> Judge:
        """The judge of one search, whose calls `meter` counts and limits."""
        if self._judge is not None:
            return self._judge
        embedded = EmbeddedJudge(self.index)
        if self.asker is None:
            return embedded
        from branchwise.agent.search.judge_model import ModelJudge

        return ModelJudge(self.asker, self.index, fallback=embedded, meter=meter)

    def _default_reader(self) -> Reader:
        if self.asker is None:
            return ExtractiveReader()
        from branchwise.agent.read_model import ModelReader

        return ModelReader(self.asker)

    def _search_share(self, budget: Budget) -> Budget:
        """The budget without the reader's own call, where a model reads."""
        if self.asker is None or not budget.max_calls:
            return budget
        return replace(budget, max_calls=budget.max_calls - 1)


def check_question(question: Question | str, k: int) -> Question:
    """The question as a record, if it can be searched for. Raises InputError."""
    asked = Question(text=question) if isinstance(question, str) else question
    if not asked.text.strip():
        raise InputError("The question is empty.")
    if len(asked.text) > LONGEST_QUESTION:
        raise InputError(
            f"The question has {len(asked.text):,} characters; at most {LONGEST_QUESTION:,} can be searched for.",
            hint="Ask for one thing, in your own words.",
        )
    if not 1 <= k <= DEEPEST:
        raise InputError(f"k = {k}: between 1 and {DEEPEST} passages can be asked for.")
    return asked


def _told(
    question: Question, rewrite: Rewrite, judge: Judge, config: SearchConfig, k: int, budget: Budget
) -> dict[str, Any]:
    """Everything that decides a search but the replies, as plain JSON."""
    return {
        "text": question.text,
        "history": [asdict(turn) for turn in question.history],
        "filters": {key: list(v) if isinstance(v, tuple) else v for key, v in question.filters.items()},
        "excluded_ids": sorted(question.excluded_ids),
        "relevance": question.relevance,
        "k": k,
        "judge": judge.name,
        "max_slate": judge.max_slate,
        "rewrite": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(rewrite).items()},
        "config": asdict(config),
        "budget": asdict(budget),
    }


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that records hold."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _notes(judgements: Sequence[Judgement], failure: str) -> tuple[str, ...]:
    """What went wrong on the way, a line each."""
    notes = [failure] if failure else []
    if weak := sum(judgement.weak for judgement in judgements):
        notes.append(f"The model failed on {weak} of {len(judgements)} slates; the embedded judge stood in.")
    return tuple(notes)


def _placed(hit: Hit) -> dict[str, Any]:
    return {"node_id": hit.node_id, "passage_id": hit.passage.passage_id, "score": round(hit.score, 6)}


def _digits(value: float) -> float:
    return round(float(value), 4)
