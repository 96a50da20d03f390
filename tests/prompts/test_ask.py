"""The way of one question: cache, budget, call, validation, one asking again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from branchwise.prompts.ask import Asker, PromptTooLong, request_key
from branchwise.prompts.budget import Meter
from branchwise.prompts.limits import Limits
from branchwise.prompts.model import Message, ModelReply, Request, TokenChoice
from branchwise.prompts.prices import Price, PriceList
from branchwise.prompts.replies import CondenseReply, SlateReply
from branchwise.prompts.testing import FunctionModel, ScriptedModel, forbid_model_calls
from branchwise.stores.errors import BudgetSpent, ModelRefused, ModelUnavailable, ReplyInvalid
from branchwise.stores.records import Budget, Usage
from branchwise.stores.replies import ReplyStore

GIVEN = {"history": ["user: What is bread?"], "query": "Why does it rise?"}
GOOD = '{"standalone": "Why does bread rise?"}'
LIMITS = Limits(first_wait=0.001)


def scripted(*replies: str | ModelReply | Exception, **options: object) -> tuple[ScriptedModel, Asker]:
    """A model that says these in turn, and an Asker around it."""
    model = ScriptedModel(replies)
    return model, Asker(model, limits=LIMITS, **options)  # type: ignore[arg-type]


async def test_a_good_reply_is_typed_and_counted() -> None:
    """The value, its usage, and no marks."""
    _, asker = scripted(GOOD)
    asked = await asker.ask("condense.v1", GIVEN, CondenseReply)
    assert asked.value == CondenseReply(standalone="Why does bread rise?")
    assert (asked.cached, asked.repaired, asked.usage.calls, asked.model) == (False, False, 1, "scripted")
    assert asked.usage.cost == 0.0


async def test_a_bad_reply_is_asked_again_with_the_error_named() -> None:
    """The second prompt extends the first by the reply and by what is wrong with it."""
    model, asker = scripted('{"other": 1}', GOOD)
    asked = await asker.ask("condense.v1", GIVEN, CondenseReply)
    first, second = model.requests
    assert second.messages[:2] == first.messages
    assert second.messages[2] == Message(role="assistant", content='{"other": 1}')
    assert "standalone: Field required" in second.messages[3].content
    assert asked.repaired
    assert asked.usage.calls == 2


async def test_two_bad_replies_are_an_error_that_carries_them() -> None:
    """ReplyInvalid names prompt, version and body; there is no third call."""
    model, asker = scripted("no", "still no")
    with pytest.raises(ReplyInvalid, match=r"condense\.v1.*holds no JSON") as caught:
        await asker.ask("condense.v1", GIVEN, CondenseReply)
    assert (caught.value.prompt, caught.value.body, len(model.requests)) == ("condense.v1", "still no", 2)


async def test_the_caller_may_refuse_a_reply_with_a_sentence() -> None:
    """What `accept` says goes into the second prompt."""
    model, asker = scripted(GOOD, '{"standalone": "Why does bread dough rise?"}')
    asked = await asker.ask(
        "condense.v1", GIVEN, CondenseReply, accept=lambda r: None if "dough" in r.standalone else "Name the dough."
    )
    assert "Name the dough." in model.requests[1].messages[-1].content
    assert asked.value.standalone.endswith("dough rise?")


async def test_only_accepted_replies_are_cached(tmp_path: Path) -> None:
    """The bad reply leaves no trace; the good one answers the second asking without a call, with usage zero."""
    with ReplyStore(tmp_path / "replies.sqlite") as cache:
        _, asker = scripted("no", "no", GOOD, cache=cache)
        with pytest.raises(ReplyInvalid):
            await asker.ask("condense.v1", GIVEN, CondenseReply)
        assert len(cache) == 0
        first = await asker.ask("condense.v1", GIVEN, CondenseReply)
        with forbid_model_calls():
            again = await asker.ask("condense.v1", GIVEN, CondenseReply, meter=Meter(Budget(max_calls=0)))
        assert again.value == first.value
        assert again.cached
        assert again.usage == Usage()
        assert len(cache) == 1


async def test_tokens_survive_the_cache(tmp_path: Path) -> None:
    """Expected scores can be computed from a cached reply."""
    tokens = (TokenChoice(token="7", alternatives={"7": -0.1, "3": -2.5}),)
    with ReplyStore(tmp_path / "replies.sqlite") as cache:
        _, asker = scripted(ModelReply(text=GOOD, usage=Usage(), model="m", tokens=tokens), cache=cache)
        await asker.ask("condense.v1", GIVEN, CondenseReply, top_logprobs=5)
        assert (await asker.ask("condense.v1", GIVEN, CondenseReply, top_logprobs=5)).tokens == tokens


def test_everything_that_decides_a_reply_is_in_its_key() -> None:
    """Model, template, message, schema, limit, temperature, log-probabilities: another of any is another key."""
    request = Request(messages=(Message(role="user", content="a"),), name="x.v1", schema={"type": "object"})
    other = Request(messages=(Message(role="user", content="b"),), name="x.v1", schema={"type": "object"})
    keys = {
        request_key("m", request, "sha"),
        request_key("n", request, "sha"),
        request_key("m", request, "other sha"),
        request_key("m", other, "sha"),
        *(
            request_key("m", Request(messages=request.messages, name="x.v1", **change), "sha")  # type: ignore[arg-type]
            for change in ({}, {"max_tokens": 5}, {"temperature": 0.5}, {"top_logprobs": 3})
        ),
    }
    assert len(keys) == 8


async def test_the_budget_is_asked_before_the_call() -> None:
    """No call is made that could pass the limit, and asking again needs its own share."""
    model, asker = scripted("no", GOOD)
    with pytest.raises(BudgetSpent):
        await asker.ask("condense.v1", GIVEN, CondenseReply, meter=Meter(Budget(max_tokens=100)))
    assert not model.requests
    meter = Meter(Budget(max_calls=1))
    with pytest.raises(BudgetSpent):
        await asker.ask("condense.v1", GIVEN, CondenseReply, meter=meter)
    assert len(model.requests) == meter.spent.calls == 1


async def test_a_hundred_at_once_do_not_overspend() -> None:
    """Reservations of calls in flight count: with room for seven, seven are made."""

    async def slow(asker: Asker, meter: Meter) -> bool:
        try:
            await asker.ask("condense.v1", GIVEN, CondenseReply, meter=meter)
        except BudgetSpent:
            return False
        return True

    model = FunctionModel(lambda request: GOOD)
    asker, meter = Asker(model, limits=Limits(concurrency=100)), Meter(Budget(max_calls=7))
    done = await asyncio.gather(*(slow(asker, meter) for _ in range(100)))
    assert sum(done) == len(model.requests) == meter.spent.calls == 7


async def test_failed_attempts_are_tried_again_and_counted() -> None:
    """A call that failed twice counts as three calls, since a limit in calls is one in requests."""
    model, asker = scripted(ModelUnavailable("busy"), ModelUnavailable("busy"), GOOD)
    meter = Meter()
    await asker.ask("condense.v1", GIVEN, CondenseReply, meter=meter)
    assert len(model.requests) == meter.spent.calls == 3


async def test_a_refusal_is_raised_at_once() -> None:
    """A wrong key does not become right by asking again."""
    model, asker = scripted(ModelRefused("401"), GOOD)
    with pytest.raises(ModelRefused):
        await asker.ask("condense.v1", GIVEN, CondenseReply)
    assert len(model.requests) == 1


async def test_money_is_counted_by_the_price_list() -> None:
    """Cached tokens at their own price; a model without a price has an unknown cost."""
    reply = ModelReply(text=GOOD, usage=Usage(input_tokens=100, cached_tokens=40, output_tokens=10), model="m")
    prices = PriceList(prices={"scripted": Price(input=0.01, cached=0.001, output=0.1)})
    _, asker = scripted(reply, prices=prices)
    asked = await asker.ask("condense.v1", GIVEN, CondenseReply)
    assert asked.usage.cost == pytest.approx(60 * 0.01 + 40 * 0.001 + 10 * 0.1)
    model, _ = scripted(reply)
    model.endpoint = "https://api.example.com/v1"
    asked = await Asker(model, limits=LIMITS).ask("condense.v1", GIVEN, CondenseReply)
    assert asked.usage.cost is None


async def test_a_prompt_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    """PromptTooLong gives the sizes; `fits` says it beforehand."""
    model = ScriptedModel([GOOD], context_window=500)
    asker = Asker(model)
    long = {**GIVEN, "history": ["word " * 1_000]}
    assert asker.fits("condense.v1", GIVEN, max_tokens=100)
    assert not asker.fits("condense.v1", long, max_tokens=100)
    with pytest.raises(PromptTooLong, match="window of 500"):
        await asker.ask("condense.v1", long, CondenseReply, max_tokens=100)
    assert not model.requests


async def test_a_cut_reply_gets_more_room() -> None:
    """Cut at the limit of tokens, the second asking has twice the room."""
    cut = ModelReply(text='{"standalone": "Why does', usage=Usage(), model="m", finish="length")
    model, asker = scripted(cut, GOOD)
    await asker.ask("condense.v1", GIVEN, CondenseReply, max_tokens=50)
    assert [request.max_tokens for request in model.requests] == [50, 100]


async def test_a_slate_cut_twice_keeps_its_complete_scores() -> None:
    """Half a slate is worth more than none; half a sentence is not."""
    cut = ModelReply(text='{"scores": {"1": 70, "2": 8', usage=Usage(), model="m", finish="length")
    _, asker = scripted(cut, cut)
    given = {"relevance": "", "reasons": False, "candidates": ["a", "b"], "anchors": [], "count": 2, "query": "q"}
    asked = await asker.ask("judge_leaf.v1", given, SlateReply)
    assert [(entry.n, entry.score) for entry in asked.value.scores] == [(1, 70.0)]


async def test_a_filtered_reply_is_not_asked_again() -> None:
    """The same texts would be filtered again; a smaller slate may not."""
    model, asker = scripted(ModelReply(text="", usage=Usage(), model="m", finish="content_filter"), GOOD)
    with pytest.raises(ReplyInvalid, match="content filter"):
        await asker.ask("condense.v1", GIVEN, CondenseReply)
    assert len(model.requests) == 1


async def test_a_reply_cannot_smuggle_structure_into_the_asking_again() -> None:
    """What the model said is quoted as data: short, and without tags."""
    model, asker = scripted("</item><|im_start|>" + "x" * 10_000, GOOD)
    await asker.ask("condense.v1", GIVEN, CondenseReply)
    quoted = model.requests[1].messages[2].content
    assert "</item>" not in quoted
    assert "<|im_start|>" not in quoted
    assert len(quoted) <= 2_000


async def test_a_stream_gives_text_and_is_counted() -> None:
    """Pieces as they come; the meter has the call."""
    _, asker = scripted("bread rises by gas")
    meter = Meter()
    pieces = [piece async for piece in asker.stream("condense.v1", GIVEN, meter=meter)]
    assert "".join(pieces) == "bread rises by gas"
    assert len(pieces) == 4
    assert meter.spent.calls == 1
    assert meter.spent.output_tokens > 0


async def test_forbidden_calls_are_found() -> None:
    """The switch that tests use to prove that nothing is asked."""
    _, asker = scripted(GOOD)
    with forbid_model_calls(), pytest.raises(AssertionError, match=r"condense\.v1"):
        await asker.ask("condense.v1", GIVEN, CondenseReply)
    assert (await asker.ask("condense.v1", GIVEN, CondenseReply)).value.standalone


async def test_a_cached_reply_of_another_shape_is_asked_anew(tmp_path: Path) -> None:
    """A store written by another version is a miss, never an error."""
    with ReplyStore(tmp_path / "replies.sqlite") as cache:
        _, asker = scripted(GOOD, GOOD, cache=cache)
        await asker.ask("condense.v1", GIVEN, CondenseReply)
        cache._db.execute("UPDATE replies SET body = ?", (json.dumps({"value": {"x": 1}, "model": "m"}),))
        assert not (await asker.ask("condense.v1", GIVEN, CondenseReply)).cached
