"""OpenAIChat against a real server on the loopback interface."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from branchwise.prompts.ask import Asker, PromptTooLong
from branchwise.prompts.expected import expected_scores
from branchwise.prompts.limits import Limits
from branchwise.prompts.model import ChatModel, Message, Request
from branchwise.prompts.openai_chat import Dialect, OpenAIChat, open_model
from branchwise.prompts.replies import SlateReply, settle
from branchwise.stores.errors import ModelRefused, ModelUnavailable
from tests.loopback.server import Call, Fault, LoopbackServer, Reply, run_server

SLATE = {
    "relevance": "It answers the query.",
    "reasons": True,
    "candidates": ["Bread rises because yeast makes gas.", "The moon pulls the tides."],
    "anchors": ["Salt slows yeast."],
    "count": 3,
    "query": "Why does bread rise with yeast?",
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A fresh loopback server."""
    with run_server() as running:
        yield running


async def judge(model: ChatModel, **more: Any) -> dict[int, float | None]:
    """The scores of the slate."""
    asked = await Asker(model, limits=Limits(attempts=2, first_wait=0.01)).ask(
        "judge_leaf.v1", SLATE, SlateReply, **more
    )
    return settle(asked.value, 3)[0]


async def test_a_slate_is_judged_through_a_server(server: LoopbackServer) -> None:
    """The competent stand-in behind the server ranks the passage that shares the query's words first."""
    asker = Asker(OpenAIChat("stand-in", server.base_url))
    asked = await asker.ask("judge_leaf.v1", SLATE, SlateReply)
    scores, complaint = settle(asked.value, 3)
    assert complaint is None
    assert scores[1] is not None
    assert scores[2] == 0
    assert scores[1] > (scores[3] or 0)
    assert asked.usage.calls == 1
    assert asked.usage.input_tokens > 100
    assert asked.usage.cost == 0.0
    await asker.aclose()


@pytest.mark.parametrize(
    ("structures", "expected"),
    [(("json_schema", "json_object"), "json_schema"), (("json_object",), "json_object"), ((), "text")],
)
async def test_the_form_of_replies_is_found_out_once(
    server: LoopbackServer, structures: tuple[str, ...], expected: str
) -> None:
    """A server that refuses schemas costs two refusals at most, and never again."""
    server.structures = structures
    model = OpenAIChat("stand-in", server.base_url)
    for _ in range(3):
        assert (await judge(model))[2] == 0
    assert model.dialect.structure == expected
    assert len(server.calls) == 3 + ["json_schema", "json_object", "text"].index(expected)
    await model.aclose()


def refuses(field: str, message: str) -> Any:
    """A server that does not know a field of the request."""

    async def refuse(reply: Reply, said: str) -> None:
        await reply.error(400, message)

    def choose(call: Call) -> Fault | None:
        return refuse if field in call.body else None

    return choose


@pytest.mark.parametrize(
    ("field", "message", "dialect"),
    [
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            Dialect(limit_field="max_completion_tokens"),
        ),
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0 with this model.",
            Dialect(temperature=False),
        ),
        ("logprobs", "logprobs are not supported", Dialect(logprobs=False)),
    ],
)
async def test_a_field_that_is_not_known_is_left_out(
    server: LoopbackServer, field: str, message: str, dialect: Dialect
) -> None:
    """What newer or smaller servers refuse is replaced, once."""
    server.fault_for = refuses(field, message)
    model = OpenAIChat("stand-in", server.base_url)
    for _ in range(2):
        assert (await judge(model, top_logprobs=5))[2] == 0
    assert model.dialect == dialect
    assert len(server.calls) == 3
    await model.aclose()


async def test_a_request_that_no_dialect_mends_leaves_the_dialect_alone(server: LoopbackServer) -> None:
    """A 400 for another reason is a refusal, and the next call begins as before."""
    server.fault_for = refuses("messages", "content policy")
    model = OpenAIChat("stand-in", server.base_url)
    with pytest.raises(ModelRefused, match="content policy"):
        await judge(model)
    assert model.dialect == Dialect()
    await model.aclose()


async def test_a_prompt_that_the_server_finds_too_long_teaches_the_window(server: LoopbackServer) -> None:
    """The window in the error message is believed, and the next prompt is measured against it."""
    server.context_window = 600
    model = OpenAIChat("stand-in", server.base_url)
    with pytest.raises(PromptTooLong):
        await judge(model)
    assert model.context_window == 600
    calls = len(server.calls)
    with pytest.raises(PromptTooLong):
        await judge(model)
    assert len(server.calls) == calls
    await model.aclose()


async def test_log_probabilities_give_expected_scores(server: LoopbackServer) -> None:
    """The server's alternatives (a quarter on ten less) move each score by two and a half."""
    model = OpenAIChat("stand-in", server.base_url)
    asked = await Asker(model).ask("judge_leaf.v1", SLATE, SlateReply, top_logprobs=5)
    written = {entry.n: entry.score or 0 for entry in asked.value.scores}
    assert expected_scores(asked.tokens)[1] == pytest.approx(written[1] - 2.5, abs=0.01)
    await model.aclose()


async def test_cached_tokens_are_counted_apart(server: LoopbackServer) -> None:
    """The second question on the same candidates finds most of its prompt in the server's cache."""
    model = OpenAIChat("stand-in", server.base_url)
    asker = Asker(model)
    await asker.ask("judge_leaf.v1", SLATE, SlateReply)
    asked = await asker.ask("judge_leaf.v1", {**SLATE, "query": "What pulls the tides?"}, SlateReply)
    assert 0.7 * asked.usage.input_tokens < asked.usage.cached_tokens <= asked.usage.input_tokens
    await model.aclose()


async def test_a_stream_comes_piece_by_piece(server: LoopbackServer) -> None:
    """Many pieces, the text of the whole reply; leaving early closes the connection."""
    model = OpenAIChat("stand-in", server.base_url)
    request = Request(messages=(Message(role="system", content=""), Message(role="user", content="")), name="x.v1")
    assert [piece async for piece in model.stream(request)] == ["ok"]
    asker = Asker(model)
    given = {"passages": ["Bread rises by gas."], "history": [], "query": "Why does bread rise?"}
    pieces = [piece async for piece in asker.stream("read.v1", given)]
    assert len(pieces) > 5
    assert '"found": true' in "".join(pieces)
    await model.aclose()


@pytest.mark.parametrize("fault", ["status_500", "reset", "html_with_200", "hang", "status_401"])
async def test_a_stream_fails_as_a_call_does(server: LoopbackServer, fault: str) -> None:
    """The same errors, also before the first piece, and no endless wait."""
    from tests.loopback.faults import always

    server.fault_for = always(fault)
    model = OpenAIChat("stand-in", server.base_url)
    asker = Asker(model, limits=Limits(timeout=0.3 if fault == "hang" else 10))
    given = {"history": [], "query": "Why?"}
    if fault == "html_with_200":  # no event arrives at all: an empty reply, which its reader finds wanting
        assert [piece async for piece in asker.stream("condense.v1", given)] == []
        return
    with pytest.raises(ModelRefused if fault == "status_401" else ModelUnavailable):
        _ = [piece async for piece in asker.stream("condense.v1", given)]
    await model.aclose()


def test_one_model_serves_threads_and_event_loops(server: LoopbackServer) -> None:
    """Scripts, threads and a loop after a loop share one OpenAIChat: a client is never used on another's loop."""
    model = OpenAIChat("stand-in", server.base_url)
    results: list[float | None] = []

    async def both() -> None:
        found = await asyncio.gather(*(judge(model) for _ in range(4)))
        results.extend(scores[2] for scores in found)
        await model.aclose()

    threads = [threading.Thread(target=lambda: asyncio.run(both())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asyncio.run(both())
    assert results == [0.0] * 16


def test_clients_of_ended_loops_are_let_go(server: LoopbackServer) -> None:
    """A program that runs a new loop for every question keeps the clients of one."""
    model = OpenAIChat("stand-in", server.base_url)
    for _ in range(4):
        asyncio.run(judge(model))
    assert len(model._connections._pools) == 1


async def test_the_key_is_sent_and_never_shown(server: LoopbackServer) -> None:
    """It is in the request's header, and in no error even when the server repeats it."""
    key = "sk-verysecret-123456"

    async def tell(reply: Reply, said: str) -> None:
        await reply.error(401, f"Incorrect API key provided: {key}")

    server.fault_for = lambda call: tell
    model = OpenAIChat("stand-in", server.base_url, key=key)
    with pytest.raises(ModelRefused) as caught:
        await judge(model)
    assert server.calls[0].headers["authorization"] == f"Bearer {key}"
    assert key not in str(caught.value)
    assert key not in repr(caught.value)
    assert key not in repr(vars(model))
    await model.aclose()


async def test_a_redirect_is_not_followed(server: LoopbackServer) -> None:
    """The key goes nowhere but to the server that was named."""
    with run_server() as other:

        async def send_away(reply: Reply, said: str) -> None:
            await reply.send(307, "", location=f"{other.base_url}/chat/completions")

        server.fault_for = lambda call: send_away
        model = OpenAIChat("stand-in", server.base_url, key="sk-verysecret-123456")
        with pytest.raises(ModelRefused):
            await judge(model)
        assert not other.calls
        await model.aclose()


async def test_a_loopback_server_is_reached_past_a_proxy(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY of a company network does not swallow requests to this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model = open_model("stand-in", server.base_url)
    assert (await judge(model))[2] == 0
    await model.aclose()


async def test_the_sdk_does_not_retry_by_itself(server: LoopbackServer) -> None:
    """Two attempts of ours are two requests."""
    from tests.loopback.faults import always

    server.fault_for = always("status_500")
    model = OpenAIChat("stand-in", server.base_url)
    with pytest.raises(ModelUnavailable):
        await judge(model)
    assert len(server.calls) == 2
    await model.aclose()


async def test_extra_settings_reach_the_server(server: LoopbackServer) -> None:
    """What a user adds to the request's body is sent as it is."""
    model = OpenAIChat("stand-in", server.base_url, extra={"reasoning_effort": "low"})
    await judge(model)
    assert server.calls[0].body["reasoning_effort"] == "low"
    assert "max_retries" not in server.calls[0].body
    await model.aclose()
