"""A server's life with a slow model behind it: busy, left by its clients, and told to stop."""

from __future__ import annotations

import asyncio
import json
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import pytest

from branchwise.agent.engine import Engine
from branchwise.agent.surfaces.mcp import run as run_mcp
from branchwise.agent.surfaces.server import serve
from branchwise.agent.surfaces.server.app import Limits, create_app
from branchwise.agent.surfaces.server.security import access_for
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.errors import InputError
from branchwise.stores.index import Index
from branchwise.stores.records import Judgement, Question, Slate

HERE = Path(__file__)
QUESTION = "How are the names in a nested function looked up?"
SERVE = runpy.run_path(str(HERE.parents[2] / "browser" / "conftest.py"))["SERVE"]
running = runpy.run_path(str(HERE.with_name("conftest.py")))["running"]


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """A loopback model that takes 0.3 seconds for a reply, and counts them."""
    loopback = runpy.run_path(str(HERE.parents[2] / "loopback" / "server.py"), run_name="loopback")
    with loopback["run_server"](latency=0.3) as found:
        yield found


@pytest.fixture
def server(model: Any, index_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real server in a process of its own that asks the slow model."""
    command = [sys.executable, "-c", SERVE, model.base_url, "", "0.2", f"topics={index_path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), process
    process.kill()
    process.wait()


class WaitingJudge:
    """A judge that says nothing until it is let go."""

    name = "waiting"
    max_slate = 20

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """Half relevant, once let go."""
        await self.let_go.wait()
        return Judgement(slate=slate, scores=dict.fromkeys(slate.node_ids, 0.5), judge=self.name)


@pytest.fixture
async def busy(index_path: Path) -> AsyncIterator[tuple[httpx2.AsyncClient, WaitingJudge]]:
    """A server that serves one question at a time, lets one wait, and has a judge that does not answer."""
    judge = WaitingJudge()
    app = create_app(
        Shelf({"topics": index_path}, lambda path: Engine(Index.open(path), judge=judge)),
        access=access_for("127.0.0.1", token=None),
        limits=Limits(max_running=1, max_waiting=1, grace_seconds=0.1),
    )
    async with running(app) as client:
        yield client, judge


async def test_a_busy_server_says_when_to_come_back(busy: tuple[httpx2.AsyncClient, WaitingJudge]) -> None:
    """One runs, one waits, the third is told 429 and how long to wait, by every door; the first two are answered."""
    client, judge = busy
    asked = {"question": QUESTION, "budget": {"max_calls": 1}}
    served = [asyncio.create_task(client.post("/search", json=asked)) for _ in range(2)]
    for _ in range(200):
        gauges = (await client.get("/metrics")).text
        if "branchwise_running 1" in gauges and "branchwise_waiting 1" in gauges:
            break
        await asyncio.sleep(0.01)
    chat = {"model": "topics", "messages": [{"role": "user", "content": QUESTION}]}
    for path, body in (
        ("/search", asked),
        ("/ask", asked | {"stream": True}),
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", chat | {"stream": True}),
    ):
        refused = await client.post(path, json=body)
        assert refused.status_code == 429, path
        assert int(refused.headers["retry-after"]) >= 1
    judge.let_go.set()
    assert [answer.status_code for answer in await asyncio.gather(*served)] == [200, 200]


def test_a_stream_that_is_left_stops_asking_the_model(server: tuple[str, subprocess.Popen[str]], model: Any) -> None:
    """The client goes after the first slate; after the grace no further call is made, and nothing runs."""
    url, _ = server
    body = {"question": QUESTION, "stream": True, "budget": {"max_calls": 200}}
    with httpx2.Client(timeout=60) as client:
        with client.stream("POST", f"{url}/ask", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:") and json.loads(line.removeprefix("data:"))["kind"] == "slate":
                    break
        for _ in range(200):
            gauges = client.get(f"{url}/metrics").text
            if "branchwise_running 0" in gauges:
                break
            time.sleep(0.1)
        assert "branchwise_runs 0" in gauges
        asked = len(model.calls)
        time.sleep(1)
        assert len(model.calls) == asked
        assert 'branchwise_requests_total{route="ask",outcome="cancelled"} 1' in client.get(f"{url}/metrics").text


def test_a_client_that_hangs_up_stops_asking_the_model(server: tuple[str, subprocess.Popen[str]], model: Any) -> None:
    """No stream, only an answer that nobody waits for any more: the search is cancelled, and counted as such."""
    url, _ = server
    before = len(model.calls)
    impatient = HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = {"question": QUESTION, "budget": {"max_calls": 200}}
    impatient.request("POST", "/search", json.dumps(body), {"content-type": "application/json"})
    while len(model.calls) == before:
        time.sleep(0.01)
    impatient.close()
    with httpx2.Client(timeout=60) as client:
        for _ in range(200):
            told = client.get(f"{url}/metrics").text
            if "branchwise_running 0" in told:
                break
            time.sleep(0.05)
    assert 'branchwise_requests_total{route="search",outcome="cancelled"} 1' in told
    asked = len(model.calls)
    time.sleep(1)
    assert len(model.calls) == asked


def test_stop_answers_from_what_was_found(server: tuple[str, subprocess.Popen[str]]) -> None:
    """After a stop the stream ends with a partial answer, not with an error."""
    url, _ = server
    kinds: list[str] = []
    with httpx2.Client(timeout=60) as client:
        body = {"question": "What makes a generator finish?", "stream": True}
        with client.stream("POST", f"{url}/ask", json=body) as answer:
            for line in answer.iter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line.removeprefix("data:"))
                if event["kind"] == "slate" and "slate" not in kinds:
                    client.post(f"{url}/runs/{answer.headers['x-run-id']}/stop")
                kinds.append(event["kind"])
    assert kinds[-1] == "result"
    assert event["payload"]["search"]["partial"] is True
    assert event["payload"]["search"]["hits"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to ask a process to end")
def test_a_server_that_is_told_to_stop_finishes_what_it_does(server: tuple[str, subprocess.Popen[str]]) -> None:
    """SIGTERM during a question: its answer still comes whole, then the process ends."""
    url, process = server
    answers: list[httpx2.Response] = []

    def ask() -> None:
        body = {"question": "What does a decorator return?", "budget": {"max_calls": 4}}
        answers.append(httpx2.post(f"{url}/ask", json=body, timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    with httpx2.Client(timeout=60) as client:
        while asking.is_alive() and "branchwise_running 1" not in client.get(f"{url}/metrics").text:
            time.sleep(0.02)
    assert asking.is_alive()
    process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert [answer.status_code for answer in answers] == [200]
    assert answers[0].json()["text"]
    process.wait(timeout=30)


@pytest.mark.parametrize(("start", "missing"), [(serve, "fastapi"), (run_mcp, "mcp.server.mcpserver")])
def test_a_missing_extra_is_named(start: Any, missing: str, index_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error gives the command that installs it."""
    for name in [name for name in sys.modules if name.startswith("branchwise.agent.surfaces.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"pip install 'branchwise\["):
        start({"topics": index_path})


def test_a_taken_port_is_named(index_path: Path) -> None:
    """Two servers on one port: the second says so."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="cannot listen"):
        serve({"topics": index_path}, port=taken.getsockname()[1])
