"""The engine: one path from a question to hits, to an answer, and back again from a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from branchwise import Budget, Collection, InputError, ModelUnavailable, Question
from branchwise.agent.engine import LONGEST_QUESTION, Engine
from branchwise.agent.search.config import lattice
from branchwise.agent.search.judge import EmbeddedJudge
from branchwise.agent.search.trace import read_trace, to_line, write_trace
from branchwise.stores.records import Answer, Event, Judgement, SearchResult, Slate

ASKED = "why do moths circle lamps?"


async def test_finds_what_answers(collection: Collection) -> None:
    """The passage that answers the question is the first hit, with its path from the root and a score in [0, 1]."""
    result = await collection.asearch(ASKED, k=5)
    best = result.hits[0]
    assert best.passage.passage_id == "moths-0"
    assert [step.node_id for step in best.steps] == list(collection.tree.path_to(best.node_id))
    assert all(0 <= hit.score <= 1 for hit in result.hits)
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4, 5]
    assert (result.judge, result.usage.calls, result.usage.cost) == ("embedded", 0, 0.0)


async def test_answers_with_a_checked_citation(collection: Collection) -> None:
    """The quote of a citation stands in its document at exactly that place."""
    answer = await collection.aask(ASKED)
    citation = answer.citations[0]
    document = collection.index.document(citation.doc_id)
    assert answer.found
    assert document.text[citation.start : citation.end] == citation.quote
    assert citation.doc_id == "moths-0"


async def test_exclusions_and_filters_hold_everywhere(collection: Collection) -> None:
    """What is excluded or filtered out is in no slate, no hit and no citation."""
    asked = Question(text=ASKED, excluded_ids=frozenset({"moths-0"}), filters={"topic": ("moths", "bees")})
    answer = await collection.aask(asked)
    shown = {node_id for j in answer.search.judgements for node_id in j.slate.node_ids}
    leaves = {node_id for node_id in shown if node_id.startswith("p:")}
    assert leaves
    assert all(leaf.startswith(("p:moths", "p:bees")) for leaf in leaves)
    assert "p:moths-0" not in leaves
    assert {hit.passage.metadata["topic"] for hit in answer.search.hits} <= {"moths", "bees"}
    assert all(citation.doc_id != "moths-0" for citation in answer.citations)


async def test_nothing_in_sight_is_nothing_found(collection: Collection) -> None:
    """A filter that nothing passes gives no hit and an answer that says it found nothing; it is no error."""
    answer = await collection.aask(Question(text=ASKED, filters={"topic": "volcanoes"}))
    assert answer.search.hits == ()
    assert not answer.found


@pytest.mark.parametrize("text", ["", "   \n", "x" * (LONGEST_QUESTION + 1)])
async def test_refuses_what_is_no_question(collection: Collection, text: str) -> None:
    """An empty question and a whole document are refused with a reason."""
    with pytest.raises(InputError, match="question"):
        await collection.asearch(text)


@pytest.mark.parametrize("k", [0, -1, 1001])
async def test_refuses_impossible_k(collection: Collection, k: int) -> None:
    """k must be between 1 and 1000."""
    with pytest.raises(InputError, match="k ="):
        await collection.asearch(ASKED, k=k)


async def test_no_calls_is_the_hybrid_ranking(collection: Collection) -> None:
    """max_calls=0 judges nothing, says that it stopped for the budget, and still ranks."""
    result = await collection.asearch(ASKED, budget=Budget(max_calls=0))
    assert result.judgements == ()
    assert (result.stopped, result.partial) == ("budget", True)
    assert result.hits[0].passage.passage_id == "moths-0"
    assert not result.hits[0].judged


async def test_a_trace_replays_byte_for_byte(collection: Collection, tmp_path: Path) -> None:
    """Written, read and replayed with no judge, a search gives the same events and the same result."""
    events: list[Event] = []
    asked = Question(text=ASKED, filters={"topic": ("moths", "bees", "bread")}, excluded_ids=frozenset({"bees-3"}))
    result = await collection.engine.search(asked, k=7, on_event=events.append)
    write_trace(events, tmp_path / "search.jsonl")
    again: list[Event] = []
    replayed = await collection.engine.replay(read_trace(tmp_path / "search.jsonl"), on_event=again.append)
    assert [to_line(event) for event in again] == [to_line(event) for event in events]
    assert replayed == result


async def test_a_budget_replays_too(collection: Collection) -> None:
    """A search cut short by its budget replays to where it was cut."""
    events: list[Event] = []
    engine = Engine(collection.index, judge=EmbeddedJudge(collection.index))
    result = await engine.search(ASKED, budget=Budget(max_calls=1), on_event=events.append)
    assert (await engine.replay(events)).hits == result.hits


async def test_a_foreign_trace_is_refused(collection: Collection) -> None:
    """A trace whose slates are not those of this index is refused, not bent."""
    events: list[Event] = []
    await collection.engine.search(ASKED, on_event=events.append)
    bent = [
        Event(seq=e.seq, kind=e.kind, payload={**e.payload, "candidates": ["p:elsewhere"]}) if e.kind == "slate" else e
        for e in events
    ]
    with pytest.raises(InputError, match="another index"):
        await collection.engine.replay(bent)


async def test_same_question_same_result(collection: Collection) -> None:
    """Two searches give the same hits with the same scores."""
    first, second = [await collection.asearch(ASKED) for _ in range(2)]
    assert first.hits == second.hits


async def test_events_come_in_order(collection: Collection) -> None:
    """Events are numbered without gaps; the result is the last thing that a stream gives."""
    items = [item async for item in collection.astream(ASKED)]
    events = [item for item in items if isinstance(item, Event)]
    assert [event.seq for event in events] == list(range(len(events)))
    assert [events[0].kind, events[-1].kind] == ["question", "answer"]
    answer = items[-1]
    assert isinstance(answer, Answer)
    assert "".join(event.payload["text"] for event in events if event.kind == "token") == answer.text


class Waiting:
    """A judge that never answers, and notes when it is given up."""

    name = "waiting"
    max_slate = 40

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """Wait for ever."""
        self.started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


async def test_leaving_a_stream_cancels_the_search(collection: Collection) -> None:
    """Whoever stops listening stops the search: the call in flight is cancelled."""
    judge = Waiting()
    stream = Engine(collection.index, judge=judge).stream(ASKED)
    async for item in stream:
        if isinstance(item, Event) and item.kind == "slate":
            await judge.started.wait()
            break
    await stream.aclose()
    await asyncio.wait_for(judge.cancelled.wait(), 60)


async def test_a_deadline_keeps_the_best_so_far(collection: Collection) -> None:
    """A judge that hangs is given up at the deadline: partial, and ranked by what is known."""
    judge = Waiting()
    result = await Engine(collection.index, judge=judge).search(ASKED, budget=Budget(max_seconds=2))
    assert judge.cancelled.is_set()
    assert result.partial
    assert result.hits


async def test_a_dead_judge_is_an_error(collection: Collection) -> None:
    """An infrastructure failure is never "nothing found"."""

    class Dead(Waiting):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            raise ModelUnavailable("the server is down")

    with pytest.raises(ModelUnavailable, match="down"):
        await Engine(collection.index, judge=Dead()).ask(ASKED)


async def test_fallback_scores_are_told(collection: Collection) -> None:
    """Slates that the embedded judge scored in a model's place are counted in the notes."""
    embedded = EmbeddedJudge(collection.index)

    class Standing(Waiting):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            judgement = await embedded.judge(slate, question)
            return Judgement(slate=slate, scores=judgement.scores, judge="model", weak=True)

    result = await Engine(collection.index, judge=Standing()).search(ASKED)
    assert any("embedded judge stood in" in note for note in result.notes)


async def test_the_published_method_runs_on_any_index(collection: Collection) -> None:
    """LATTICE's own walk finds the passage too, by the same engine."""
    result = await Engine(collection.index, config=lattice()).search(ASKED)
    assert result.hits[0].passage.passage_id == "moths-0"


async def test_many_at_once(collection: Collection) -> None:
    """Fifty searches at the same time give what they give alone."""
    alone = await collection.asearch(ASKED)
    together: Sequence[SearchResult] = await asyncio.gather(*(collection.asearch(ASKED) for _ in range(50)))
    assert all(result.hits == alone.hits for result in together)
