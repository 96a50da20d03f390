"""Texts by a model: what is asked, what is done with bad replies, and what the embedded summariser takes over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.model import Request
from branchwise.prompts.stand_in import answer
from branchwise.prompts.testing import FunctionModel
from branchwise.stores.errors import ModelRefused
from branchwise.stores.records import Budget, Document, Passage
from branchwise.tree_builder.model_summariser import ModelSummariser
from branchwise.tree_builder.summarise import LONGEST_TEXT, ChildText, ExtractiveSummariser
from branchwise.tree_builder.terms import TermTable


def passages_of(documents: list[Document]) -> list[Passage]:
    """Each document one passage."""
    return [
        Passage(passage_id=d.doc_id, doc_id=d.doc_id, text=d.text, title=d.title, start=0, end=len(d.text))
        for d in documents
    ]


def summariser(
    passages: list[Passage], function: Callable[[Request], str], *, budget: Budget | None = None, window: int = 32_768
) -> tuple[ModelSummariser, FunctionModel]:
    """A summariser over a model that is a function."""
    table = TermTable.count([f"{passage.title}\n{passage.text}" for passage in passages])
    model = FunctionModel(function, name="tiny", context_window=window)
    extractive = ExtractiveSummariser(table, lambda texts: np.eye(len(texts), dtype=np.float32))
    return ModelSummariser(Asker(model), extractive, meter=Meter(budget)), model


def children_of(passages: list[Passage]) -> list[ChildText]:
    """Leaves as children."""
    return [
        ChildText(node_id=f"p:{p.passage_id}", title=p.title, text=p.text, rows=np.array([row], dtype=np.int32))
        for row, p in enumerate(passages)
    ]


def obedient(request: Request) -> str:
    """What a good model says."""
    return answer(request.messages[0].content, request.messages[1].content)


async def test_a_summary_has_a_part_for_every_child(make_documents: Callable[..., list[Document]]) -> None:
    """Title, theme and a part a child, in the order of the children, in one call."""
    passages = passages_of(make_documents(7))
    writer, model = summariser(passages, obedient)
    summary = await writer.summarise(children_of(passages), np.arange(7, dtype=np.int32))
    assert [part.child_id for part in summary.parts] == [f"p:doc-{number}" for number in range(7)]
    assert summary.title
    assert len(summary.text) <= LONGEST_TEXT
    assert summary.written_by == "tiny"
    assert len(model.requests) == 1


async def test_garbage_ends_with_the_embedded_summariser(make_documents: Callable[..., list[Document]]) -> None:
    """A model that never makes sense costs at most four calls a node, and the node says who wrote it."""
    passages = passages_of(make_documents(5))
    writer, model = summariser(passages, lambda request: "I would rather not.")
    summary = await writer.summarise(children_of(passages), np.arange(5, dtype=np.int32))
    assert summary.written_by == "fallback:tiny"
    assert len(summary.parts) == 5
    assert len(model.requests) == 4


async def test_a_forgotten_child_gets_a_line_of_the_embedded_summariser(
    make_documents: Callable[..., list[Document]],
) -> None:
    """Asked once more, and then the model's other parts are kept."""
    passages = passages_of(make_documents(4))

    def forgetful(request: Request) -> str:
        reply = json.loads(obedient(request))
        reply["parts"] = [part for part in reply["parts"] if part["number"] != 2]
        return json.dumps(reply)

    writer, model = summariser(passages, forgetful)
    summary = await writer.summarise(children_of(passages), np.arange(4, dtype=np.int32))
    assert len(model.requests) == 2
    assert summary.written_by == "tiny"
    assert all(part.text for part in summary.parts)


async def test_levels_are_asked_twenty_at_a_time(make_documents: Callable[..., list[Document]]) -> None:
    """45 passages are three calls; every passage has five levels."""
    passages = passages_of(make_documents(45))
    writer, model = summariser(passages, obedient)
    levels = await writer.levels(passages)
    assert len(model.requests) == 3
    assert len(levels) == 45
    assert all(len(level) == 5 and all(level) for level in levels)


async def test_a_batch_that_fails_is_asked_in_halves(make_documents: Callable[..., list[Document]]) -> None:
    """Levels that cannot be had for twenty passages are had for ten."""
    passages = passages_of(make_documents(20))

    def small_minded(request: Request) -> str:
        many = len(re.findall(r"<item \d+>", request.messages[1].content)) > 10
        return "too much" if many else obedient(request)

    writer, model = summariser(passages, small_minded)
    assert len(await writer.levels(passages)) == 20
    assert len(model.requests) == 4  # twice in vain, then once for each half


async def test_a_spent_budget_ends_the_models_part_only(make_documents: Callable[..., list[Document]]) -> None:
    """After the limit the embedded summariser writes, under its own name, and no call is made."""
    passages = passages_of(make_documents(6))
    writer, model = summariser(passages, obedient, budget=Budget(max_calls=1))
    company = np.arange(6, dtype=np.int32)
    first = await writer.summarise(children_of(passages), company)
    second = await writer.summarise(children_of(passages)[:3], company)
    assert (first.written_by, second.written_by) == ("tiny", "extractive")
    assert writer.stopped
    assert len(model.requests) == 1


async def test_a_server_that_refuses_ends_the_build(make_documents: Callable[..., list[Document]]) -> None:
    """A wrong key is not a bad reply: it is raised."""

    def refuse(request: Request) -> str:
        raise ModelRefused("no such key")

    passages = passages_of(make_documents(3))
    writer, _ = summariser(passages, refuse)
    with pytest.raises(ModelRefused):
        await writer.summarise(children_of(passages), np.arange(3, dtype=np.int32))


async def test_long_children_are_cut_to_a_small_window(make_documents: Callable[..., list[Document]]) -> None:
    """Sixteen long passages fit a window of 4,096 tokens, with a mark where something is left out."""
    passages = passages_of(make_documents(16, sentences=60))
    writer, model = summariser(passages, obedient, window=4_096)
    summary = await writer.summarise(children_of(passages), np.arange(16, dtype=np.int32))
    assert summary.written_by == "tiny"
    assert "more characters]" in model.requests[0].messages[1].content


async def test_bad_topics_are_sorted_by_vectors() -> None:
    """A model that puts everything into one topic is asked twice; then the embedded summariser sorts."""

    def lump(request: Request) -> str:
        count = len(re.findall(r"<item \d+>", request.messages[1].content))
        return json.dumps({"topics": [{"name": "all", "description": "", "members": list(range(1, count + 1))}]})

    passages = [Passage(passage_id="a", doc_id="a", text="one two", start=0, end=7)]
    writer, model = summariser(passages, lump)
    topics = await writer.topics([f"string {n}" for n in range(30)], [1] * 30, fewest=3, most=8)
    assert len(topics) > 1
    assert {topic.written_by for topic in topics} == {""}
    assert sorted(member for topic in topics for member in topic.members) == list(range(30))
    assert len(model.requests) == 2
