"""OpenAI's protocol, spoken by the openai client over a real socket, and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from branchwise.agent.surfaces.server import open_embedded

QUESTION = "How are the names in a nested function looked up?"
SERVE = """
import sys
from pathlib import Path
from branchwise.agent.surfaces.server import serve
serve({"topics": Path(sys.argv[1])}, port=0, on_ready=lambda url: print(url, flush=True))
"""


@pytest.fixture(scope="module")
def url(index_path: Path) -> Iterator[str]:
    """A real server in a process of its own, on a free port of the loopback interface."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(index_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    assert process.wait(timeout=30) in (0, -15)


def test_the_openai_client_gets_a_cited_answer(url: str, index_path: Path) -> None:
    """Text, annotations at their marks, usage, and the same passages as the engine's own."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["topics"]
    completion = client.chat.completions.create(model="topics", messages=[{"role": "user", "content": QUESTION}])
    message = completion.choices[0].message
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 0  # no model was used
    assert message.content
    assert message.annotations
    for annotation in message.annotations:
        place = annotation.url_citation
        assert message.content[place.start_index : place.end_index].startswith("[")
        assert place.url.startswith(url)
    told = completion.model_extra
    assert told is not None
    engine = open_embedded(index_path)
    answer = asyncio.run(engine.ask(QUESTION))
    engine.close()
    assert message.content == answer.text
    assert [hit["passage_id"] for hit in told["branchwise"]["search"]["hits"]] == [
        hit.passage.passage_id for hit in answer.search.hits
    ]
    client.close()


def test_what_is_excluded_is_hidden_wherever_it_is_said(url: str) -> None:
    """Beside the messages or under `branchwise`: the passage is gone; an option that does not exist is refused."""
    asked = {"model": "topics", "messages": [{"role": "user", "content": QUESTION}]}
    with httpx2.Client(base_url=url) as client:
        first = client.post("/v1/chat/completions", json=asked).json()["branchwise"]["search"]["hits"][0]["passage_id"]
        for hiding in ({"excluded_ids": [first]}, {"branchwise": {"excluded_ids": [first]}}):
            told = client.post("/v1/chat/completions", json=asked | hiding).json()["branchwise"]
            assert first not in {hit["passage_id"] for hit in told["search"]["hits"]}
        both = {"excluded_ids": [first], "branchwise": {"excluded_ids": ["another"]}}
        assert client.post("/v1/chat/completions", json=asked | both).status_code == 400
        refused = client.post("/v1/chat/completions", json=asked | {"branchwise": {"exclude": [first]}})
        assert refused.status_code == 400
        assert "branchwise.exclude" in refused.json()["error"]["message"]


def test_the_openai_client_streams(url: str) -> None:
    """Chunks add up to the whole answer; the last ones carry annotations and, where asked for, usage."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model="topics", messages=messages)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(  # type: ignore[call-overload]
            model="topics", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    finished = next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    assert finished.choices[0].delta.annotations
    assert chunks[-1].usage.total_tokens == 0
    client.close()


def test_a_conversation_has_a_history(url: str) -> None:
    """Earlier turns are sent along; system messages and text parts are taken."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    completion = client.chat.completions.create(
        model="topics",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What does the lambda expression make?"},
            {"role": "assistant", "content": "An anonymous function."},
            {"role": "user", "content": [{"type": "text", "text": "Can it hold statements?"}]},
        ],
    )
    hits = (completion.model_extra or {})["branchwise"]["search"]["hits"]
    assert any("lambda" in hit["text"].lower() for hit in hits)
    client.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nothing", "messages": [{"role": "user", "content": "x"}]}, 404),
        ({"model": "topics", "messages": []}, 400),
        ({"model": "topics", "messages": [{"role": "assistant", "content": "x"}]}, 400),
        ({"model": "topics", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400),
        ({"model": "topics", "n": 3, "messages": [{"role": "user", "content": "x"}]}, 400),
        ({"model": "topics", "messages": [{"role": "user", "content": "x"}], "branchwise": {"k": 0}}, 400),
    ],
)
async def test_mistakes_are_told_in_openais_shape(client: httpx2.AsyncClient, body: object, status: int) -> None:
    """The error object that OpenAI's clients understand."""
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_a_stream_ends_with_done(client: httpx2.AsyncClient) -> None:
    """The end mark of the protocol is the last line of data."""
    body = {"model": "topics", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    text = (await client.post("/v1/chat/completions", json=body)).text
    lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    assert lines[-1] == "[DONE]"
    assert json.loads(lines[0])["object"] == "chat.completion.chunk"


def test_a_client_that_disconnects_cancels_its_search(url: str) -> None:
    """After a client has gone, nothing runs and nothing waits; the next one is served."""
    body = {"question": QUESTION, "budget": {"max_calls": 500}}
    for _ in range(5):
        with httpx2.Client(timeout=0.03) as impatient, contextlib.suppress(httpx2.TimeoutException):
            impatient.post(f"{url}/search", json=body)
    with httpx2.Client(timeout=30) as patient:
        assert patient.post(f"{url}/search", json={"question": QUESTION}).status_code == 200
        for _ in range(100):
            gauges = patient.get(f"{url}/metrics").text
            if "branchwise_running 0\n" in gauges and "branchwise_waiting 0\n" in gauges:
                return
            time.sleep(0.1)
    pytest.fail(gauges)
