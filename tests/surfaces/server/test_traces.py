"""What operators see of a question: spans and log lines, and no word of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from branchwise.agent.surfaces.mcp import make_server
from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.shelf import Shelf
from tests.surfaces.server.conftest import served

TOKEN = "a-token-of-thirty-two-characters"
ASKED = {"question": "zyzzyva lambda", "filters": {"quokka": "quokka"}, "excluded_ids": ["wombat"]}
CHAT = {"model": "topics", "messages": [{"role": "user", "content": "zyzzyva lambda"}]}
PRIVATE = ("zyzzyva", "quokka", "wombat", "lambda", TOKEN)


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Where all spans of this process go: the application's choice, made once."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    return memory


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """No spans yet."""
    exporter.clear()
    yield exporter
    exporter.clear()


async def test_every_question_is_a_span_without_its_content(
    client: httpx2.AsyncClient, spans: InMemorySpanExporter
) -> None:
    """REST, stream and OpenAI's protocol each leave one span of their kind; no library adds its own."""
    await client.post("/search", json=ASKED)
    await client.get("/document", params={"doc_id": "quokka", "filters": '{"wombat": 1}'})
    await client.post("/ask", json=ASKED)
    await client.post("/search", json=ASKED | {"stream": True})
    await client.post("/v1/chat/completions", json=CHAT)
    await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    found = spans.get_finished_spans()
    kinds = ["search", "ask", "search", "ask", "ask"]
    assert [span.name for span in found] == [f"branchwise.{kind}" for kind in kinds]
    assert all(span.end_time is not None and span.end_time > (span.start_time or 0) for span in found)
    text = "".join(span.to_json() for span in found)
    assert not any(word in text for word in PRIVATE)
    assert not any(span.attributes for span in found)


async def test_a_failed_question_is_a_span_with_the_kind_of_error_alone(
    client: httpx2.AsyncClient, spans: InMemorySpanExporter
) -> None:
    """Status and the name of the error; no message, no traceback, no text."""
    assert (await client.post("/search", json={"question": "zyzzyva", "index": "quokka"})).status_code == 404
    assert (await client.post("/ask", json={"question": " \n "})).status_code == 400
    found = spans.get_finished_spans()
    assert [span.status.description for span in found] == ["IndexMissing", "InputError"]
    assert not any(span.events or span.attributes for span in found)
    assert not any(word in span.to_json() for span in found for word in PRIVATE)


async def test_tools_are_traced_without_what_they_are_given(index_path: Path, spans: InMemorySpanExporter) -> None:
    """The MCP SDK's own spans name the tool; what it is asked, finds or fails on is in none of them."""
    shelf = Shelf({"topics": index_path}, open_embedded)
    await shelf.open()
    async with Client(make_server(shelf)) as client:
        assert not (await client.call_tool("search", {"query": "zyzzyva lambda"})).is_error
        assert (await client.call_tool("fetch", {"id": "quokka"})).is_error
        assert (await client.call_tool("search", {"query": "wombat", "k": "zyzzyva"})).is_error
    shelf.close()
    found = spans.get_finished_spans()
    assert any("search" in span.name for span in found)
    assert not any(word in span.to_json() for span in found for word in PRIVATE)


async def test_nothing_at_all_is_logged_of_a_question(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """No logger of any library says a word of it at its usual level, and ours not even at its lowest."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, logger="branchwise")
    await client.post("/ask", json=ASKED)
    await client.get("/document", params={"doc_id": "quokka"})
    await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    said = [record.getMessage() for record in caplog.records if record.name != "httpx2"]  # the client of this test
    assert any('"route": "/ask"' in line for line in said)
    assert not any(word in line for line in said for word in PRIVATE)


def test_the_servers_log_is_json(index_path: Path, tmp_path: Path) -> None:
    """`branchwise serve --log`: a line a request, with its method, route, status and time, and nothing else."""
    given = {"BRANCHWISE_INDEX": str(index_path), "BRANCHWISE_TOKEN": TOKEN}
    with served(given, "serve", "--log", cwd=tmp_path) as url:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        httpx2.post(f"{url}/search", json=ASKED, headers=bearer, timeout=60)
        httpx2.post(f"{url}/search", json=ASKED, headers={"authorization": "Bearer quokka"})
        httpx2.get(f"{url}/document?doc_id=wombat", headers=bearer)
        httpx2.get(f"{url}/quokka", headers=bearer)
    text = (tmp_path / "log").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/search", 200),
        ("POST", "-", 401),
        ("GET", "/document", 404),
        ("GET", "-", 404),
    ]
    assert all(set(line) == {"method", "route", "status", "ms"} for line in lines)
    assert not any(word in text for word in PRIVATE)
