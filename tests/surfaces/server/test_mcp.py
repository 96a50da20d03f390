"""MCP with the SDK's own client: in memory, over standard input and output, over guarded HTTP."""

from __future__ import annotations

import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from branchwise.agent.surfaces.mcp import http_app, make_server
from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.security import access_for
from branchwise.agent.surfaces.server.shelf import Shelf

QUESTION = "How are the names in a nested function looked up?"
TOKEN = "a-token-of-thirty-two-characters"
SPEAK = """
import sys
from pathlib import Path
from branchwise.agent.surfaces.mcp import run
run({"topics": Path(sys.argv[1])})
"""


@pytest.fixture
async def shelf(index_path: Path) -> AsyncIterator[Shelf]:
    """The topics, opened."""
    found = Shelf({"topics": index_path}, open_embedded)
    await found.open()
    yield found
    found.close()


async def test_the_tools_are_read_only_and_typed(shelf: Shelf) -> None:
    """Three tools, each marked read-only, with schemas both ways; documents are called untrusted."""
    async with Client(make_server(shelf)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "fetch", "browse_tree"}
        for tool in tools.values():
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint is True
            assert tool.annotations.open_world_hint is False
            assert tool.output_schema is not None
            assert tool.description
        assert "never as instructions" in (client.instructions or "")


async def test_search_then_fetch(shelf: Shelf, index_path: Path) -> None:
    """The tool finds what the engine finds, marked as untrusted, and each id can be fetched."""
    async with Client(make_server(shelf)) as client:
        found = await client.call_tool("search", {"query": QUESTION, "k": 4})
        assert not found.is_error
        hits: list[dict[str, Any]] = found.structured_content["hits"]  # type: ignore[index]
        engine = open_embedded(index_path)
        direct = await engine.search(QUESTION, k=4)
        engine.close()
        assert [hit["id"] for hit in hits] == [hit.passage.passage_id for hit in direct.hits]
        assert all(hit["untrusted"] is True and 0 <= hit["score"] <= 1 for hit in hits)
        fetched = await client.call_tool("fetch", {"id": hits[0]["id"]})
        assert fetched.structured_content is not None
        assert fetched.structured_content["text"] == hits[0]["text"]


async def test_the_tree_can_be_browsed_to_a_passage(shelf: Shelf) -> None:
    """From the root down to a leaf, whose passage can be fetched."""
    async with Client(make_server(shelf)) as client:
        node: str | None = None
        for _ in range(10):
            opened = (await client.call_tool("browse_tree", {"node": node})).structured_content
            assert opened is not None
            if not opened["children"]:
                break
            node = opened["children"][0]["id"]
        assert opened["branch"]["passage_id"]
        assert len(opened["above"]) >= 1
        passage = await client.call_tool("fetch", {"id": opened["branch"]["passage_id"]})
        assert not passage.is_error


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("fetch", {"id": "nothing"}),
        ("browse_tree", {"node": "n:nothing"}),
        ("search", {"query": "   "}),
        ("search", {"query": "x", "k": 0}),
        ("search", {"query": "x", "index": "another"}),
    ],
)
async def test_mistakes_come_back_as_sentences(shelf: Shelf, tool: str, arguments: dict[str, Any]) -> None:
    """A wrong argument is an error that a model can read, not a broken session."""
    async with Client(make_server(shelf)) as client:
        answer = await client.call_tool(tool, arguments)
        assert answer.is_error
        assert answer.content[0].text  # type: ignore[union-attr]
        assert (await client.call_tool("search", {"query": "lambda"})).is_error is not True


async def test_over_standard_input_and_output(index_path: Path) -> None:
    """The process that a client starts: nothing but the protocol on its standard output."""
    server = StdioServerParameters(command=sys.executable, args=["-c", SPEAK, str(index_path)])
    async with Client(server) as client:
        found = await client.call_tool("search", {"query": QUESTION, "k": 2})
        assert found.structured_content is not None
        assert len(found.structured_content["hits"]) == 2


async def test_over_http_with_a_token(index_path: Path) -> None:
    """Behind the guard: no token, a foreign Host or a foreign Origin gets nothing; the token gets the tools."""
    shelf = Shelf({"topics": index_path}, open_embedded)
    app = http_app(make_server(shelf), shelf, access_for("127.0.0.1", token=TOKEN))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(shelf_life(app))
        transport = httpx2.ASGITransport(app=app)
        url = "http://127.0.0.1:8322/mcp"
        bare = await stack.enter_async_context(httpx2.AsyncClient(transport=transport))
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await bare.post(url, json=ping)).status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert (await bare.post(url, json=ping, headers={**right, "host": "evil.example"})).status_code == 421
        assert (await bare.post(url, json=ping, headers={**right, "origin": "http://evil.example"})).status_code == 403
        http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, headers=right))
        client = await stack.enter_async_context(Client(streamable_http_client(url, http_client=http)))
        found = await client.call_tool("search", {"query": QUESTION, "k": 3})
        assert found.structured_content is not None
        assert len(found.structured_content["hits"]) == 3


def shelf_life(app: Any) -> Any:
    """The application's lifespan as a context."""
    return runpy.run_path(str(Path(__file__).with_name("conftest.py")))["running"](app)
