"""prompts.vllm_chat over a real `vllm.LLM`, in this process, on the CPU."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from branchwise.prompts import vllm_chat
from branchwise.prompts.ask import PromptTooLong
from branchwise.prompts.model import ChatModel, Message, Request
from branchwise.prompts.vllm_chat import VllmChat
from branchwise.stores.errors import InputError, ModelRefused, ModelUnavailable

pytestmark = pytest.mark.vllm
SCHEMA = {
    "type": "object",
    "properties": {"relevant": {"type": "boolean"}, "kind": {"enum": ["inner", "leaf"]}},
    "required": ["relevant", "kind"],
    "additionalProperties": False,
}


def ask(text: str, **settings: Any) -> Request:
    """A request of one user message."""
    return Request(messages=(Message(role="user", content=text),), name="test.v1", **settings)


async def test_a_reply_has_text_usage_and_finish(model: VllmChat) -> None:
    """A plain reply is cut at max_tokens, says so, and counts its tokens."""
    reply = await model.complete(ask("Which branch holds the answer?", max_tokens=12))
    assert isinstance(model, ChatModel)
    assert reply.finish == "length"
    assert reply.usage.calls == 1
    assert reply.usage.output_tokens == 12
    assert reply.usage.input_tokens > 10
    assert reply.usage.seconds > 0
    assert model.context_window == 8192


async def test_a_schema_is_followed_by_random_weights(model: VllmChat) -> None:
    """Structured output is enforced by the engine: even nonsense is valid JSON of the right shape."""
    reply = await model.complete(ask("Judge.", schema=SCHEMA, max_tokens=60))
    assert reply.finish == "stop"
    assert set(json.loads(reply.text)) == {"relevant", "kind"}


async def test_logprobs_name_the_alternatives(model: VllmChat) -> None:
    """Each generated token comes with its finite alternatives, its own among them when decoding is greedy."""
    reply = await model.complete(ask("Judge.", max_tokens=5, top_logprobs=4))
    assert len(reply.tokens) == 5
    assert "".join(each.token for each in reply.tokens) == reply.text
    for each in reply.tokens:
        assert 1 <= len(each.alternatives) <= 5
        assert max(each.alternatives.values()) <= 0.0


async def test_calls_made_together_travel_together(model: VllmChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 calls at once cost the engine few batches, each call gets its own reply, and the loop stays free."""
    sizes: list[int] = []
    generate, loop = vllm_chat.generate, asyncio.get_running_loop()

    def count(engine: Any, requests: list[Request]) -> Any:
        sizes.append(len(requests))
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)  # a loop that waits for us never answers
        return generate(engine, requests)

    monkeypatch.setattr(vllm_chat, "generate", count)
    alone = [(await model.complete(ask(f"number {n}", max_tokens=8))).text for n in range(4)]
    sizes.clear()
    replies = await asyncio.gather(*(model.complete(ask(f"number {n}", max_tokens=8)) for n in range(64)))
    assert sum(sizes) == 64
    assert len(sizes) <= 4
    assert [reply.text for reply in replies[:4]] == alone


async def test_a_repeated_prefix_is_served_from_cache(model: VllmChat) -> None:
    """The tokens that the engine had already are reported apart."""
    prompt = "The same long beginning. " * 60
    await model.complete(ask(prompt + "one", max_tokens=2))
    again = await model.complete(ask(prompt + "two", max_tokens=2))
    assert 0 < again.usage.cached_tokens < again.usage.input_tokens


async def test_a_request_that_cannot_be_served_fails_alone(model: VllmChat) -> None:
    """Too long a prompt is refused; the calls that shared its batch are answered."""
    wanted = [ask("short", max_tokens=4), ask("word " * 19_000, max_tokens=4), ask("also short", max_tokens=4)]
    first, refused, last = await asyncio.gather(*map(model.complete, wanted), return_exceptions=True)
    assert isinstance(refused, PromptTooLong)
    assert str(model.context_window) in str(refused)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)


async def test_a_schema_that_cannot_be_followed_is_refused(model: VllmChat) -> None:
    """What the grammar engine cannot express is the caller's to mend, and is not tried again."""
    impossible = {"type": "string", "pattern": "(?<=x)y"}
    with pytest.raises(ModelRefused):
        await model.complete(ask("Judge.", schema=impossible, max_tokens=5))


async def test_a_cancelled_call_is_not_waited_for(model: VllmChat) -> None:
    """Cancelling a waiting call frees its caller and leaves the engine in order."""
    task = asyncio.create_task(model.complete(ask("never mind", max_tokens=400)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await model.complete(ask("next", max_tokens=3))).usage.output_tokens == 3


async def test_a_stream_is_the_same_text(model: VllmChat) -> None:
    """Streaming gives the text of `complete`, in one piece."""
    request = ask("Which branch?", max_tokens=6)
    pieces = [piece async for piece in model.stream(request)]
    assert "".join(pieces) == (await model.complete(request)).text


def test_a_folder_without_a_model_is_the_callers_mistake(tmp_path: Path) -> None:
    """A wrong folder is an InputError that names it, before vLLM is even imported."""
    with pytest.raises(InputError, match=r"no config\.json"):
        VllmChat(tmp_path)


async def test_a_closed_model_says_so(model: VllmChat, tiny_model: Path) -> None:
    """The same model opened twice is loaded once; closing one of the two leaves the other at work."""
    other = VllmChat(tiny_model)
    assert other._engine is model._engine
    await other.aclose()
    await other.aclose()
    with pytest.raises(ModelUnavailable, match="closed"):
        await other.complete(ask("hello"))
    assert (await model.complete(ask("hello", max_tokens=2))).usage.output_tokens == 2
