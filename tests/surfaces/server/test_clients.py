"""One server, one question, and every client there is: a chat client of other people's, openai, MCP, the retrievers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from branchwise.agent.surfaces.server import open_embedded
from tests.surfaces.server.conftest import ENTRY, QUESTION, environment, served

TOKEN = "a-token-of-thirty-two-characters"
BEARER = {"authorization": f"Bearer {TOKEN}"}
MODEL = """
- model_id: documents
  model_name: topics
  api_base: {url}/v1
  api_key_name: branchwise
"""
HITS = """
import json, sys, llm
response = llm.get_model("documents").prompt(sys.argv[1], stream=False)
response.text()
print(json.dumps([hit["passage_id"] for hit in response.json()["branchwise"]["search"]["hits"]]))
"""


@pytest.fixture(scope="module")
def url(index_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`branchwise serve` in a process of its own, with a token."""
    given = {"BRANCHWISE_INDEX": str(index_path), "BRANCHWISE_TOKEN": TOKEN}
    with served(given, cwd=tmp_path_factory.mktemp("server")) as found:
        yield found


def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process with nothing on its standard input."""
    return subprocess.run(command, env=env, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)


class Llm:
    """The chat client `llm`, with a folder of its own for settings, keys and logs."""

    def __init__(self, home: Path, url: str, key: str = TOKEN) -> None:
        pytest.importorskip("llm")
        home.mkdir()
        (home / "extra-openai-models.yaml").write_text(MODEL.format(url=url), encoding="utf-8")
        (home / "keys.json").write_text(json.dumps({"branchwise": key}), encoding="utf-8")
        self.env = environment({"LLM_USER_PATH": str(home), "PYTHONIOENCODING": "utf-8"})

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of it."""
        return run([sys.executable, *arguments], self.env)

    def ask(self, *arguments: str) -> str:
        """What it prints for a question."""
        done = self.run("-m", "llm", "-m", "documents", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def test_a_chat_client_talks_with_the_documents(url: str, index_path: Path, tmp_path: Path) -> None:
    """Streamed and whole, the answer is the engine's own; a follow-up is understood; a wrong key is told."""
    engine = open_embedded(index_path)
    answer = asyncio.run(engine.ask(QUESTION))
    engine.close()
    llm = Llm(tmp_path / "llm", url)
    assert answer.found
    assert llm.ask("--no-stream", QUESTION) == answer.text
    assert llm.ask(QUESTION) == answer.text
    follow_up = llm.ask("--continue", "And in a class?")
    assert "class" in follow_up.lower()
    assert follow_up != llm.ask("And in a class?")
    stranger = Llm(tmp_path / "stranger", url, key="another-token-of-many-characters")
    refused = stranger.run("-m", "llm", "-m", "documents", QUESTION)
    assert refused.returncode != 0
    assert "token" in refused.stderr
    assert TOKEN not in refused.stderr


async def test_every_way_in_finds_the_same_passages(url: str, index_path: Path, tmp_path: Path) -> None:
    """REST, its events, openai, `llm`, MCP, LlamaIndex, LangChain and the command line: one engine, one order."""
    from mcp import StdioServerParameters
    from mcp.client import Client

    from branchwise.agent.surfaces.llama_index import BranchwiseRetriever

    def ids(hits: list[dict[str, Any]], key: str = "passage_id") -> list[str]:
        return [hit[key] for hit in hits]

    asked: dict[str, Any] = {"question": QUESTION, "k": 10}
    async with httpx2.AsyncClient(base_url=url, headers=BEARER, timeout=60) as rest:
        wanted = ids((await rest.post("/search", json=asked)).json()["hits"])
        told = (await rest.post("/search", json=asked | {"stream": True})).text
    assert len(wanted) == 10
    last = [line for line in told.splitlines() if line.startswith("data:")][-1]
    assert ids(json.loads(last.removeprefix("data:"))["payload"]["hits"]) == wanted

    messages: Any = [{"role": "user", "content": QUESTION}]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0) as client:
        whole = await client.chat.completions.create(model="topics", messages=messages)
        stream = await client.chat.completions.create(model="topics", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
    assert ids((whole.model_extra or {})["branchwise"]["search"]["hits"]) == wanted
    assert ids((chunks[-1].model_extra or {})["branchwise"]["search"]["hits"]) == wanted

    given = {"BRANCHWISE_INDEX": str(index_path)}
    speaks = StdioServerParameters(command=ENTRY[0], args=[*ENTRY[1:], "mcp"], env=environment(given))
    async with Client(speaks) as mcp:
        found = await mcp.call_tool("search", {"query": QUESTION, "k": 10})
        assert found.structured_content is not None
        assert ids(found.structured_content["hits"], "id") == wanted

    nodes = await BranchwiseRetriever.from_index(index_path, k=10).aretrieve(QUESTION)
    assert [node.node.node_id for node in nodes] == wanted

    said = run([*ENTRY, "search", QUESTION, "-k", "10", "--json"], environment(given))
    assert ids(json.loads(said.stdout)["hits"]) == wanted

    pytest.importorskip("langchain_core")
    from branchwise.agent.surfaces.langchain import BranchwiseRetriever as LangChainRetriever

    documents = await LangChainRetriever.from_index(index_path, k=10).ainvoke(QUESTION)
    assert [document.id for document in documents] == wanted
    assert json.loads(Llm(tmp_path / "llm", url).run("-c", HITS, QUESTION).stdout) == wanted
