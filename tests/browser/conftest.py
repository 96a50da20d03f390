"""A real server over a real index, with a slow stand-in model behind it, and a real Chromium in front of it."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import branchwise
from branchwise.stores.records import Document

TESTS = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("BRANCHWISE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "a-token-of-thirty-two-characters"
SERVE = """
import sys
from pathlib import Path
from branchwise.agent.engine import Engine
from branchwise.agent.facade import open_asker
from branchwise.agent.surfaces.server import open_embedded, serve
from branchwise.agent.surfaces.server.app import Limits
from branchwise.stores.index import Index
from branchwise.prompts.ask import Asker
from branchwise.prompts.openai_chat import open_model

def open_with_model(path):
    return Engine(Index.open(path), asker=Asker(open_model("stand-in", sys.argv[1], key="none")))

names = dict(entry.split("=", 1) for entry in sys.argv[4:])
serve(
    {name: Path(path) for name, path in names.items()},
    port=0,
    token=sys.argv[2] or None,
    limits=Limits(grace_seconds=float(sys.argv[3])),
    open_engine=open_with_model if sys.argv[1] else open_embedded,
    on_ready=lambda url: print(url, flush=True),
)
"""

Serve = Callable[..., str]


@pytest.fixture(scope="session")
def topics_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of Python's own language topics."""
    topics = runpy.run_path(str(TESTS / "surfaces" / "server" / "conftest.py"))["topics"]()
    return build_index(tmp_path_factory.mktemp("indexes") / "topics", topics, title="Python topics")


def build_index(path: Path, documents: list[Document], **config: Any) -> Path:
    """Build an index without a model, and return its path."""
    branchwise.build(documents, index=path, **config).close()
    return path


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Start servers in processes of their own: `serve({"name": path}, model_url="", token="")` gives the address."""
    started: list[subprocess.Popen[str]] = []

    def start(indexes: dict[str, Path], *, model_url: str = "", token: str = "") -> str:
        named = [f"{name}={path}" for name, path in indexes.items()]
        command = [sys.executable, "-c", SERVE, model_url, token, "5", *named]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def embedded(serve: Serve, topics_path: Path) -> str:
    """The address of a server over the topics, with no model."""
    return serve({"topics": topics_path, "again": topics_path})


@pytest.fixture(scope="session")
def slow_model() -> Iterator[str]:
    """The base URL of a loopback model that takes half a second for every reply."""
    loopback = runpy.run_path(str(TESTS / "loopback" / "server.py"), run_name="loopback")
    with loopback["run_server"](latency=0.5) as running:
        yield running.base_url


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; run `make test-browser`")
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium; BRANCHWISE_CHROMIUM names another)")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a fresh profile, 1280 wide; a test fails if anything on it fails, or asks another host for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    found = context.new_page()
    found.set_default_timeout(60_000)
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(f"error: {error}"))
    found.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    found.on("request", lambda request: problems.append(f"request: {request.url}") if foreign(request.url) else None)
    found.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
    yield found
    context.close()
    assert not problems


def foreign(url: str) -> bool:
    """True for a request that leaves this machine."""
    return not url.startswith(("http://127.0.0.1:", "data:", "about:", "blob:"))
