"""prompts.openai_chat against a real vLLM server on the loopback interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from branchwise.prompts.ask import Asker, PromptTooLong
from branchwise.prompts.model import Message, Request
from branchwise.prompts.openai_chat import OpenAIChat
from branchwise.stores.errors import ModelRefused

pytestmark = pytest.mark.vllm


class Verdict(BaseModel):
    """A reply that random weights can give: it holds no free text."""

    relevant: bool
    certain: bool


@pytest.fixture
async def model(server: str) -> AsyncIterator[OpenAIChat]:
    """A client of the server, closed after each test."""
    chat = OpenAIChat("tiny", server, key="none", context_window=8192)
    yield chat
    await chat.aclose()


def ask(text: str, **settings: Any) -> Request:
    """A request of one user message."""
    return Request(messages=(Message(role="user", content=text),), name="test.v1", **settings)


async def test_chat(model: OpenAIChat) -> None:
    """A reply comes with its text, its end and its tokens."""
    reply = await model.complete(ask("Which branch?", max_tokens=9))
    assert reply.model == "tiny"
    assert reply.finish == "length"
    assert reply.usage.output_tokens == 9
    assert reply.usage.input_tokens > 5


async def test_streaming(model: OpenAIChat) -> None:
    """A stream arrives in pieces which make up the same text as the reply in one."""
    request = ask("Which branch holds it?", max_tokens=24)
    pieces = [piece async for piece in model.stream(request)]
    assert len(pieces) > 1
    assert "".join(pieces) == (await model.complete(request)).text


async def test_json_schema(model: OpenAIChat) -> None:
    """A schema is enforced by the server: even random weights reply in the right shape."""
    reply = await model.complete(ask("Judge.", schema=Verdict.model_json_schema(), max_tokens=60))
    Verdict.model_validate_json(reply.text)


async def test_a_typed_reply_through_the_asker(model: OpenAIChat) -> None:
    """The whole way that every role takes: template, call, validation, usage."""
    asked = await Asker(model).ask(
        "condense.v1",
        {"history": ["What is a leaf?", "A passage."], "query": "And a branch?"},
        Verdict,
        max_tokens=60,
    )
    assert isinstance(asked.value, Verdict)
    assert asked.usage.calls == 1
    assert asked.usage.cost == 0.0


async def test_logprobs(model: OpenAIChat) -> None:
    """Alternatives are reported for each generated token."""
    reply = await model.complete(ask("Judge.", max_tokens=4, top_logprobs=3))
    assert len(reply.tokens) == 4
    assert all(1 <= len(token.alternatives) <= 3 for token in reply.tokens)
    assert all(value <= 0 for token in reply.tokens for value in token.alternatives.values())


async def test_cached_tokens(model: OpenAIChat) -> None:
    """A repeated prefix shows as cached tokens, apart from the input tokens."""
    prompt = "A long beginning that many slates share. " * 50
    await model.complete(ask(prompt + "First?", max_tokens=2))
    usage = (await model.complete(ask(prompt + "Second?", max_tokens=2))).usage
    assert 0 < usage.cached_tokens < usage.input_tokens


async def test_64_in_parallel(model: OpenAIChat) -> None:
    """64 requests at once are all answered, each with a reply that fits its own schema."""

    async def one(number: int) -> int:
        schema = {
            "type": "object",
            "properties": {"number": {"const": number}},
            "required": ["number"],
            "additionalProperties": False,
        }
        reply = await model.complete(ask(f"Say {number}.", schema=schema, max_tokens=40))
        return int(json.loads(reply.text)["number"])

    assert await asyncio.gather(*map(one, range(64))) == list(range(64))


async def test_too_long_a_prompt(model: OpenAIChat) -> None:
    """The server's own words for "too long" are understood, so that a caller can make the slate smaller."""
    with pytest.raises(PromptTooLong):
        await model.complete(ask("word " * 19_000, max_tokens=5))


async def test_a_model_that_is_not_served(server: str) -> None:
    """Another model's name is refused for good."""
    other = OpenAIChat("huge", server, key="none")
    with pytest.raises(ModelRefused, match="huge"):
        await other.complete(ask("Hello", max_tokens=5))
    await other.aclose()
