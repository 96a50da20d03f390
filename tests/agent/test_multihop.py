"""The second hop finds what the first one names, within one budget."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from branchwise.agent.engine import Engine
from branchwise.agent.facade import build
from branchwise.agent.multihop import BRIDGES, find_bridges, merge, search_in_hops
from branchwise.prompts.budget import Meter
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Document, Event, Question, Rewrite, SearchResult, Usage

TEXTS = {
    "Kasper": "Kasper Schmeichel is a Danish goalkeeper. He is the son of Peter Bolesław, himself a sportsman.",
    "Bolesław": "Peter Bolesław was voted the best in the world in 1992 by a federation of historians.",
    "Historians": "Historians study the past; a federation of them meets every year.",
    "Goalkeeper": "A goalkeeper guards the goal and may use the hands. A goalkeeper wears gloves.",
    "Denmark": "Denmark is a kingdom in the north. Danish is spoken there by most people.",
    "Tea": "Tea is an infusion of leaves in hot water, drunk at any time of the day.",
    "Bees": "Honey bees dance to tell the hive where the flowers are.",
    "Eels": "Eels swim to the Sargasso Sea to spawn, and die there.",
}
QUESTION = Question(text="What was the father of goalkeeper Kasper Schmeichel voted in 1992?")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Eight documents; the one with the answer shares no name with the question."""
    documents = [Document(doc_id=title.lower(), title=title, text=text) for title, text in TEXTS.items()]
    collection = build(documents, index=tmp_path_factory.mktemp("hops") / "index")
    yield collection.index
    collection.close()


def ids(result: SearchResult) -> list[str]:
    """Document ids of the hits, in order."""
    return [hit.passage.doc_id for hit in result.hits]


async def test_the_second_hop_lifts_what_the_first_hit_names(index: Index) -> None:
    """The passage about the father, named only in the first hit, comes second."""
    engine = Engine(index)
    two = await search_in_hops(engine, QUESTION, k=4)
    assert ids(two)[:2] == ["kasper", "bolesław"]
    assert [hit.rank for hit in two.hits] == [1, 2, 3, 4]
    assert all(0 <= hit.score <= 1 for hit in two.hits)
    assert len(set(ids(two))) == 4


async def test_without_the_second_hop_it_is_one_search(index: Index) -> None:
    """Switched off, the hits are those of the engine."""
    engine = Engine(index)
    assert ids(await search_in_hops(engine, QUESTION, k=4, second=False)) == ids(await engine.search(QUESTION, k=4))


async def test_bridges_are_names_the_question_does_not_hold(index: Index) -> None:
    """What is looked for is a new name with what its passage leaves open, and few of them."""
    hits = (await Engine(index).search(QUESTION, k=4)).hits
    bridges = find_bridges(QUESTION.text, hits, index)
    assert 0 < len(bridges) <= BRIDGES
    assert "Peter Bolesław" in {bridge.name for bridge in bridges}
    assert all("Kasper" not in bridge.name for bridge in bridges)
    father = next(bridge for bridge in bridges if bridge.name == "Peter Bolesław")
    assert {"voted", "1992"} <= set(father.question.split())
    assert find_bridges(QUESTION.text, [], index) == []


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 7])
async def test_all_hops_share_one_budget(index: Index, calls: int) -> None:
    """However few slates may be judged, no more are, and there are hits all the same."""
    result = await search_in_hops(Engine(index), QUESTION, k=4, budget=Budget(max_calls=calls))
    assert len(result.judgements) <= calls
    assert len(result.hits) == 4


async def test_exclusions_hold_in_every_hop(index: Index) -> None:
    """An excluded passage is no hit of any hop."""
    question = Question(text=QUESTION.text, excluded_ids=frozenset({"bolesław"}))
    assert "bolesław" not in ids(await search_in_hops(Engine(index), question, k=8))


class _Splits:
    """A rewriter that names one sub-question."""

    name = "splits"

    async def rewrite(self, question: Question, *, meter: Meter | None = None) -> tuple[Rewrite, Usage]:
        return Rewrite(standalone=question.text, sub_questions=("Where do eels spawn?",)), Usage()


async def test_sub_questions_are_searched_and_merged(index: Index) -> None:
    """What only a sub-question finds is among the hits."""
    engine = Engine(index, rewriter=_Splits())
    assert "eels" in ids(await search_in_hops(engine, QUESTION, k=4, second=False))[:2]


async def test_the_events_of_all_hops_are_one_sequence(index: Index) -> None:
    """Numbers run from 0 without gaps over all searches, and each event names its search."""
    events: list[Event] = []
    await search_in_hops(Engine(index), QUESTION, k=4, on_event=events.append)
    assert [event.seq for event in events] == list(range(len(events)))
    searches = [event.payload["search"] for event in events if event.kind == "question"]
    assert searches == list(range(len(searches)))
    assert len(searches) > 1


async def test_merging_keeps_each_passage_once_at_its_best(index: Index) -> None:
    """The same hits twice, once at half their worth, are the same hits."""
    result = await Engine(index).search(QUESTION, k=4)
    merged = merge(result, [(0.5, result), (1.0, result)], k=3)
    assert [(hit.node_id, hit.score) for hit in merged.hits] == [(hit.node_id, hit.score) for hit in result.hits[:3]]
