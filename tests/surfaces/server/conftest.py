"""A small index of real text, Python's own language topics, and a client of the server over it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.app import Limits, create_app
from branchwise.agent.surfaces.server.security import Access, access_for
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig

HOST = "http://127.0.0.1"
ENTRY = [sys.executable, "-c", "from branchwise.agent.surfaces.cli import main; main()"]
QUESTION = "How are the names in a nested function looked up?"


def topics() -> list[Document]:
    """The language topics that come with Python, a document each."""
    from pydoc_data.topics import topics as texts

    return [
        Document(doc_id=name, text=text, title=name, metadata={"letter": name[0]})
        for name, text in sorted(texts.items())
        if len(text) < 12_000
    ]


def build_index(path: Path, documents: list[Document], **config: Any) -> Path:
    """Build an index without a model, and return its path."""
    asyncio.run(build(documents, path, BuildConfig(title="Python topics", **config)))
    return path


@pytest.fixture(scope="session")
def index_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the topics; never written to."""
    return build_index(tmp_path_factory.mktemp("indexes") / "topics", topics())


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application whose lifespan is running, without a socket in between."""
    started, ended = asyncio.Event(), asyncio.Event()
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    failed: list[str] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"].endswith("failed"):
            failed.append(message["message"])
        (started if "startup" in message["type"] else ended).set()

    life = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, send))
    await inbox.put({"type": "lifespan.startup"})
    await started.wait()
    assert not failed, failed
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=HOST, timeout=60) as client:
        yield client
    await inbox.put({"type": "lifespan.shutdown"})
    await ended.wait()
    await life


def environment(given: dict[str, str]) -> dict[str, str]:
    """This process's environment with nothing that Branchwise listens to but what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRANCHWISE_", "OPENAI_"))}
    return kept | given


@contextmanager
def served(given: dict[str, str], *options: str, cwd: Path) -> Iterator[str]:
    """The address of `branchwise serve` in a process of its own on a free port, with `given` in its environment.

    What it writes to standard error is in the file "log" in its folder.
    """
    command = [*ENTRY, *(options or ["serve"]), "--port", "0", "--json"]
    with (cwd / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, env=environment(given), cwd=cwd, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        told = ""
        while not told or told.count("{") != told.count("}"):
            line = process.stdout.readline()
            assert line, "the server ended"
            told += line
        yield json.loads(told)["url"]
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
async def client(index_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server on loopback that offers the topics as "topics" and again as "other"."""
    access: Access = access_for("127.0.0.1", token=None)
    app = create_app(
        Shelf({"topics": index_path, "other": index_path}, open_embedded),
        access=access,
        limits=Limits(grace_seconds=0.2),
    )
    async with running(app) as found:
        yield found
