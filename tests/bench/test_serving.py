"""The server under load, measured small."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import branchwise
from branchwise.agent.bench.serving import Client, main, quantile, resident_mb
from branchwise.stores.records import Document

BIRDS = ("lark", "wren", "robin", "finch", "crane", "heron")


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[str]:
    """A server that gives these answers, one a request, each busy one with a second to wait, and then hangs up."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if not left:
                self.close_connection = True
                return
            status, body = left.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_who_is_told_to_wait_comes_back() -> None:
    """A busy answer is no loss; an error and a closed connection are."""
    with answering((429, b"{}"), (429, b"{}"), (200, b"{}"), (500, b"{}")) as url:
        client = Client(url)
        assert client.search("lark") is not None
        assert (client.told_to_wait, client.lost) == (2, 0)
        assert client.search("wren") is None
        assert client.lost == 1
        assert client.first_event("robin") is None
        assert client.lost == 2


@pytest.mark.parametrize(("share", "value"), [(0.5, 10), (0.95, 19), (1.0, 20), (0.01, 1)])
def test_quantiles_are_values_that_were_seen(share: float, value: int) -> None:
    """Of 1 to 20, and nothing of nothing."""
    assert quantile(range(20, 0, -1), share) == value
    assert math.isnan(quantile([], share))


def test_a_process_that_is_gone_has_no_known_memory() -> None:
    """None is unknown, never 0."""
    assert resident_mb(2**30) is None


def test_a_real_server_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every question is answered at each number of clients, and the memory is read along the way."""
    documents = [Document(doc_id=bird, text=f"The {bird} sings at dawn and sleeps at dusk.") for bird in BIRDS]
    branchwise.build(documents, index=tmp_path / "birds").close()
    index = ["--index", str(tmp_path / "birds")]
    main([*index, "--clients", "1", "3", "--rounds", "6", "--searches", "20", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [load["clients"] for load in told["loads"]] == [1, 3]
    for load in told["loads"]:
        assert load["searches"] == 12
        assert load["lost"] == 0
        assert 0 < load["search_p50"] <= load["search_p95"]
        assert 0 < load["first_event_p50"] <= load["first_event_p95"]
    assert list(told["memory"]["resident_mb"]) == [str(done) for done in range(0, 21, 2)]
    assert told["memory"]["lost"] == 0
    main([*index, "--clients", "2", "--rounds", "2", "--searches", "0"])
    assert "0 of 4 lost" in capsys.readouterr().out
