"""The picture of a search: what its events say, and what became of each relevant passage."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from branchwise.agent.engine import Engine
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.surfaces.trace_view import draw_search, gold_leaves, read_events
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Event

QUESTION = "Why does a lake freeze from above?"


def search(index: Index, *, calls: int | None = None, **config: Any) -> list[Event]:
    """The events of a search."""
    events: list[Event] = []
    engine = Engine(index, config=SearchConfig(**config))
    asyncio.run(engine.search(QUESTION, k=3, budget=Budget(max_calls=calls), on_event=events.append))
    return events


def picture(index: Index, events: list[Event], *gold: str) -> dict[str, Any]:
    """The data behind the page."""
    page = draw_search(events, index, gold=gold)
    block = page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    data: dict[str, Any] = json.loads(block)
    return data


@pytest.fixture
def index(library: Path) -> Any:
    """The small library, open."""
    with Index.open(library) as opened:
        yield opened


def test_every_step_is_there(index: Index) -> None:
    """A walk from the root: opened nodes, scores, reasons and ranks are those of the events."""
    events = search(index, seeds=False, prior=False)
    data = picture(index, events)
    judged = [event for event in events if event.kind == "judged"]
    assert len(data["steps"]) == len(judged) > 1
    assert data["steps"][0]["parent"] == "n:root"
    assert data["nodes"]["n:root"]["opened"] == 0
    assert data["judges"] == ["embedded"]
    assert data["question"] == QUESTION
    ranks = [node["rank"] for node in data["nodes"].values() if node["rank"]]
    assert sorted(ranks) == [1, 2, 3]
    assert data["steps"][-1]["nodes"], "calibrated scores are kept for the last step"
    parents = {node["parent"] for node in data["nodes"].values()} - {None}
    assert parents <= data["nodes"].keys(), "the way to every node is drawn"


def test_the_fate_of_relevant_passages(index: Index) -> None:
    """A relevant passage is ranked, or lost at a node that was not opened: the picture names which."""
    events = search(index, seeds=False, prior=False, calls=1)
    opened = read_events(events).opened()
    data = picture(index, events, *[leaf.removeprefix("p:") for leaf in index.tree.leaf_ids])
    assert len(data["gold"]) == len(index.tree.leaf_ids)
    for fate in data["gold"]:
        if fate["rank"]:
            assert str(fate["rank"]) in fate["why"]
        elif fate["lost_at"]:
            assert fate["lost_at"] in index.tree.path_to(fate["node_id"])
            assert fate["lost_at"] not in opened
    assert any(fate["lost_at"] for fate in data["gold"]), "one call does not open every branch"


def test_gold_may_be_documents_or_unknown(index: Index) -> None:
    """Ids of documents count; ids that are nowhere are left out."""
    assert gold_leaves(index, ["ice.txt", "nothing.txt"]) == ["p:ice.txt"]
    assert gold_leaves(index, []) == []


def test_a_trace_that_was_cut_short_is_drawn(index: Index) -> None:
    """Whatever number of events there is, there is a picture of them."""
    events = search(index)
    for length in range(len(events)):
        assert picture(index, events[:length])["title"]
