"""The judge that asks a model, over a real index: what it shows, what it makes of replies, what stands in for it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import branchwise
from branchwise.agent.search.judge import EmbeddedJudge
from branchwise.agent.search.judge_model import ModelJudge, in_order
from branchwise.agent.search.node_texts import visible_texts
from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.limits import Limits
from branchwise.prompts.model import ModelReply, Request, TokenChoice
from branchwise.prompts.stand_in import stand_in_model
from branchwise.prompts.testing import FunctionModel
from branchwise.stores.errors import BudgetSpent, ModelRefused, ModelUnavailable, ReplyInvalid
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Document, Question, Slate, Turn, Usage
from branchwise.stores.replies import ReplyStore

TOPICS = ["yeast bread flour oven", "moon tides ocean gravity", "violin string bow sound", "glacier ice melt river"]
QUESTION = Question(text="Why does bread rise with yeast?")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Forty passages on four topics."""
    documents = [
        Document(doc_id=f"secret-{n}", title=f"Note {n}", text=f"Fact {n}: {TOPICS[n % 4]} and detail number{n}.")
        for n in range(40)
    ]
    collection = branchwise.build(documents, index=tmp_path_factory.mktemp("judge") / "index")
    yield collection.index
    collection.close()


@pytest.fixture
def slate(index: Index) -> Slate:
    """Eight leaves, the last two as anchors."""
    leaves = index.tree.leaf_ids[:8]
    return Slate(parent=None, candidate_ids=leaves[:6], anchor_ids=leaves[6:], kind="leaf")


def items(request: Request) -> list[int]:
    """The numbers of the items in a prompt."""
    return [int(n) for n in re.findall(r"^<item (\d+)>$", request.messages[1].content, re.MULTILINE)]


def told(request: Request, score: Callable[[int], object] = lambda n: 10 * n) -> str:
    """A complete reply for whatever the prompt shows."""
    return json.dumps({"scores": {str(n): score(n) for n in items(request)}})


def judge_by(
    function: Callable[[Request], str | ModelReply], index: Index, **options: object
) -> tuple[FunctionModel, ModelJudge]:
    """A judge by this function, the embedded one behind it."""
    model = FunctionModel(function)
    asker = Asker(model, limits=Limits(attempts=2, first_wait=0.001))
    options = {"fallback": EmbeddedJudge(index), **options}
    return model, ModelJudge(asker, index, **options)  # type: ignore[arg-type]


async def test_scores_come_back_by_node_in_one_call(index: Index, slate: Slate) -> None:
    """Candidates and anchors, each in [0, 1], with the model's name and what it cost."""
    model, judge = judge_by(told, index)
    judgement = await judge.judge(slate, QUESTION)
    assert list(judgement.scores) == list(slate.node_ids)
    assert list(judgement.scores.values()) == pytest.approx([n / 10 for n in range(1, 9)])
    assert (judgement.judge, judgement.weak, judgement.usage.calls, len(model.requests)) == ("function", False, 1, 1)


async def test_the_prompt_shows_texts_and_never_an_id(index: Index, slate: Slate) -> None:
    """Passages with their titles, the question in its own words, earlier turns; no node, passage or document id."""
    model, judge = judge_by(told, index)
    history = (Turn(role="user", text="What is dough?"),)
    await judge.judge(slate, Question(text="Why does it rise?", history=history, relevance="It names a cause."))
    prompt = "\n".join(message.content for message in model.requests[0].messages)
    assert "user: What is dough?\nWhy does it rise?" in prompt
    assert "It names a cause." in prompt
    assert "detail number" in prompt
    assert not re.search(r"secret-|p:|n:root", prompt)


async def test_the_same_candidates_make_the_same_prefix(index: Index, slate: Slate) -> None:
    """Two questions over one slate share every byte up to the query."""
    model, judge = judge_by(told, index)
    for text in ("Why does bread rise?", "What pulls the tides?"):
        await judge.judge(slate, Question(text=text))
    first, second = (request.messages for request in model.requests)
    assert first[0] == second[0]
    assert first[1].content.split("<query>")[0] == second[1].content.split("<query>")[0]


async def test_what_is_left_out_is_asked_for_once_more(index: Index, slate: Slate) -> None:
    """Missing items get a slate of their own; what stays missing is None, not 0, and nothing is weak."""

    def forgetful(request: Request) -> str:
        kept = [n for n in items(request) if n % 2]
        return json.dumps({"scores": {str(n): 50 for n in kept}})

    model, judge = judge_by(forgetful, index)
    judgement = await judge.judge(slate, QUESTION)
    assert [len(items(request)) for request in model.requests] == [8, 4]
    assert sum(score is None for score in judgement.scores.values()) == 2
    assert not judgement.weak


async def test_garbage_ends_with_the_embedded_judge_and_says_so(index: Index, slate: Slate) -> None:
    """Whole slate twice, each half twice, then the fallback: weak, with a reason, and every node scored."""
    model, judge = judge_by(lambda request: "no", index)
    judgement = await judge.judge(slate, QUESTION)
    assert len(model.requests) == 6
    assert judgement.usage.calls == 6
    assert judgement.weak
    assert judgement.judge == "embedded for function"
    assert "holds no JSON" in judgement.note
    embedded = await EmbeddedJudge(index).judge(slate, QUESTION)
    assert judgement.scores == pytest.approx(embedded.scores)


async def test_one_bad_passage_spoils_only_its_half(index: Index, slate: Slate) -> None:
    """Where one item makes the model fail, the other half keeps the model's scores."""
    text = visible_texts(index, QUESTION, [slate.candidate_ids[0]])[slate.candidate_ids[0]]

    def touchy(request: Request) -> str:
        return "I cannot." if text.splitlines()[-1] in request.messages[1].content else told(request, lambda n: 77)

    _, judge = judge_by(touchy, index)
    judgement = await judge.judge(slate, QUESTION)
    assert [judgement.scores[node_id] for node_id in slate.node_ids[4:]] == [0.77] * 4
    assert judgement.weak
    assert judgement.note.startswith("4 of 8 scores by embedded")


async def test_without_a_fallback_the_error_is_raised(index: Index, slate: Slate) -> None:
    """An evaluation of a model alone must not be helped."""
    _, judge = judge_by(lambda request: "no", index, fallback=None)
    with pytest.raises(ReplyInvalid):
        await judge.judge(slate, QUESTION)


async def test_a_server_that_fails_later_is_stood_in_for_and_one_that_never_answered_is_not(
    index: Index, slate: Slate
) -> None:
    """A search loses nothing when a server breaks down; a server that is not there is the user's to know."""
    broken = [True]

    def maybe(request: Request) -> str:
        if broken[0]:
            raise ModelUnavailable("nobody there")
        return told(request)

    _, judge = judge_by(maybe, index)
    with pytest.raises(ModelUnavailable):
        await judge.judge(slate, QUESTION)
    broken[0] = False
    assert not (await judge.judge(slate, QUESTION)).weak
    broken[0] = True
    judgement = await judge.judge(slate, QUESTION)
    assert judgement.weak
    assert "nobody there" in judgement.note


async def test_a_refusal_is_raised_at_once(index: Index, slate: Slate) -> None:
    """A wrong key is not worth one more call, nor a search that looks judged."""

    def refuse(request: Request) -> str:
        raise ModelRefused("wrong key")

    model, judge = judge_by(refuse, index)
    with pytest.raises(ModelRefused):
        await judge.judge(slate, QUESTION)
    assert len(model.requests) == 1


async def test_a_small_window_gets_small_slates(index: Index, slate: Slate) -> None:
    """Slates that do not fit are halved before anything is sent, and max_slate says what fits."""
    model = FunctionModel(told, context_window=2_048)
    judge = ModelJudge(Asker(model), index, fallback=EmbeddedJudge(index))
    assert 2 <= judge.max_slate <= 4
    assert ModelJudge(Asker(FunctionModel(told, context_window=131_072)), index).max_slate == 32
    tiny = FunctionModel(told, context_window=800)
    judgement = await ModelJudge(Asker(tiny), index, fallback=EmbeddedJudge(index)).judge(slate, QUESTION)
    assert not judgement.weak
    assert all(len(items(request)) < 8 for request in tiny.requests)


async def test_the_budget_is_kept(index: Index, slate: Slate) -> None:
    """BudgetSpent before the call; what the judge spent is on the search's meter."""
    meter = Meter(Budget(max_calls=1))
    model, judge = judge_by(told, index, meter=meter)
    await judge.judge(slate, QUESTION)
    with pytest.raises(BudgetSpent):
        await judge.judge(slate, Question(text="Another?"))
    assert len(model.requests) == meter.spent.calls == 1


def test_a_repeat_turns_the_order_and_loses_nothing(slate: Slate) -> None:
    """Six repeats, six orders where there are so many; candidates stay before anchors."""
    orders = []
    for repeat in range(4):
        order = in_order(replace(slate, repeat=repeat))
        assert sorted(order[:6]) == sorted(slate.candidate_ids)
        assert sorted(order[6:]) == sorted(slate.anchor_ids)
        orders.append(order)
    assert orders[0] == slate.node_ids
    assert len(set(orders)) == 4


async def test_a_repeat_is_asked_and_a_second_search_is_not(index: Index, slate: Slate, tmp_path: Path) -> None:
    """The cache answers the same slate; a repeat is another prompt, since it is there to measure."""
    model = FunctionModel(told)
    with ReplyStore(tmp_path / "r.sqlite") as cache:
        judge = ModelJudge(Asker(model, cache=cache), index)
        first = await judge.judge(slate, QUESTION)
        again = await judge.judge(slate, QUESTION)
        assert (again.scores, again.usage.calls) == (first.scores, 0)
        await judge.judge(replace(slate, repeat=1), QUESTION)
    assert len(model.requests) == 2


async def test_nothing_excluded_is_shown_in_a_summary(index: Index) -> None:
    """A branch of which a passage is excluded is described by its other children alone; one without is unchanged."""
    tree = index.tree
    leaf = tree.leaf_ids[0]
    excluded = index.node(leaf).passage_id or ""
    word = re.findall(r"number\d+", index.texts([leaf])[leaf])[0]
    model, judge = judge_by(told, index)
    for parent in tree.path_to(leaf)[:-1]:
        inner = [child for child in tree.children(parent) if not tree.is_leaf(child)]
        if inner:
            slate = Slate(parent=parent, candidate_ids=tuple(inner))
            await judge.judge(slate, Question(text="Why?", excluded_ids=frozenset([excluded])))
    assert model.requests
    shown = "\n".join(request.messages[1].content for request in model.requests)
    assert not re.search(rf"\b{word}\b", shown)
    free = [child for child in tree.children(tree.root_id or "") if leaf not in tree.leaves(child)]
    question = Question(text="Why?", excluded_ids=frozenset([excluded]))
    assert visible_texts(index, question, free) == visible_texts(index, Question(text="Why?"), free)


async def test_expected_scores_are_taken_where_they_are_asked_for(index: Index, slate: Slate) -> None:
    """With probabilities half on 40 and half on 80, an 80 counts as 60; without the option as 80."""

    def unsure(request: Request) -> ModelReply:
        text = told(request, lambda n: 80)
        alternatives = {"80": math.log(0.5), "40": math.log(0.5)}
        tokens = tuple(
            TokenChoice(token=piece, alternatives=alternatives if piece == "80" else {})
            for piece in re.findall(r"\d+|\D", text)
        )
        return ModelReply(text=text, usage=Usage(), model="m", tokens=tokens if request.top_logprobs else ())

    for option, score in ((True, 0.6), (False, 0.8)):
        _, judge = judge_by(unsure, index, expected=option)
        assert list((await judge.judge(slate, QUESTION)).scores.values()) == pytest.approx([score] * 8)


async def test_a_search_with_the_stand_in_finds_and_explains(index: Index) -> None:
    """End to end: the walk, judged by a model that reads, puts the topic's passages first, with reasons."""
    engine = branchwise.agent.engine.Engine(index, asker=Asker(stand_in_model()))
    result = await engine.search("bread flour oven yeast number8", k=5)
    assert result.judge == "stand-in"
    assert all("bread" in hit.passage.text for hit in result.hits)
    assert any(hit.reason for hit in result.hits)
    assert not result.notes
