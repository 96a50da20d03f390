"""Embeddings from a server, against a real one on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from branchwise.stores.embed_endpoint import EndpointEmbedder
from branchwise.stores.embedding import Embedder, load_embedder, make_embedder
from branchwise.stores.errors import ModelRefused, ModelUnavailable

KEY = "sk-very-secret"


@dataclass
class Server:
    """Answers with vectors of letter counts; `faults` are answered first, one a request: (status, headers, body)."""

    url: str = ""
    shift: int = 0
    faults: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    requests: list[list[str]] = field(default_factory=list)

    def vector(self, text: str) -> list[float]:
        """Counts of eight letters, moved round by `shift`."""
        counts = [float(text.lower().count(letter)) + 0.1 for letter in "abcdefgh"]
        return counts[self.shift :] + counts[: self.shift]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on 127.0.0.1 that lives as long as the test."""
    state = Server()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.requests.append(body["input"])
            status, headers, content = 200, {}, ""
            if state.faults:
                status, headers, content = state.faults.pop(0)
            else:
                rows = [
                    {"index": i, "object": "embedding", "embedding": state.vector(text)}
                    for i, text in enumerate(body["input"])
                ]
                content = json.dumps(
                    {
                        "object": "list",
                        "model": "m",
                        "data": rows[::-1],
                        "usage": {"prompt_tokens": 1, "total_tokens": 1},
                    }
                )
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def test_vectors_are_unit_ordered_and_batched(server: Server) -> None:
    """130 texts in three requests besides the probe; the server's order does not matter; an empty text is not sent."""
    texts = [f"{'ab' * (i % 7)} cab {i}" for i in range(129)] + [" "]
    embedder = make_embedder("openai:m", base_url=server.url)
    seen: list[int] = []
    matrix = embedder.embed_texts(texts, progress=seen.append)
    assert matrix.shape == (130, 8) == (130, embedder.dimension)
    assert [len(request) for request in server.requests] == [1, 64, 64, 1]
    assert sum(seen) == 130
    assert not matrix[129].any()
    expected = np.array([server.vector(text) for text in texts[:129]])
    np.testing.assert_allclose(matrix[:129], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_stored_without_key_and_found_again(server: Server, tmp_path: Path) -> None:
    """Model and address are stored; the key is not, nor are a user and password in the address."""
    embedder = EndpointEmbedder("m", base_url=server.url.replace("http://", "http://me:pass@"), api_key=KEY)
    embedder.save(tmp_path)
    stored = (tmp_path / "embedder.json").read_text(encoding="utf-8")
    assert KEY not in stored
    assert "pass" not in stored
    assert load_embedder(tmp_path).fingerprint == embedder.fingerprint
    assert isinstance(embedder, Embedder)


def test_another_model_behind_the_same_name_is_noticed(server: Server) -> None:
    """The probe's direction is part of the fingerprint; small noise is not."""
    first = EndpointEmbedder("m", base_url=server.url).fingerprint
    assert EndpointEmbedder("m", base_url=server.url).fingerprint == first
    server.shift = 3
    assert EndpointEmbedder("m", base_url=server.url).fingerprint != first


def test_what_may_pass_is_tried_again(server: Server) -> None:
    """429 with Retry-After and 503: asked again until it works."""
    server.faults = [(429, {"retry-after": "0"}, "{}"), (503, {"retry-after": "0"}, "{}")]
    assert EndpointEmbedder("m", base_url=server.url).dimension == 8
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_will_not_pass_is_not_tried_again(server: Server, status: int) -> None:
    """One request, ModelRefused, and the key is not in the message though the server repeats it."""
    server.faults = [(status, {}, json.dumps({"error": {"message": f"wrong key {KEY}"}}))]
    with pytest.raises(ModelRefused) as caught:
        _ = EndpointEmbedder("m", base_url=server.url).dimension
    assert str(status) in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


def test_exhausted_quota_is_not_tried_again(server: Server) -> None:
    """429 that says insufficient_quota will not pass."""
    server.faults = [(429, {}, json.dumps({"error": {"message": "pay", "code": "insufficient_quota"}}))]
    with pytest.raises(ModelRefused):
        _ = EndpointEmbedder("m", base_url=server.url).dimension
    assert len(server.requests) == 1


def test_a_server_that_stays_down_is_unavailable(server: Server) -> None:
    """Five attempts, then ModelUnavailable; never an empty vector."""
    server.faults = [(500, {"retry-after": "0"}, "{}")] * 9
    with pytest.raises(ModelUnavailable):
        _ = EndpointEmbedder("m", base_url=server.url).dimension
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "body",
    [
        "no json at all",
        "{}",
        json.dumps({"object": "list", "data": [], "model": "m"}),
        json.dumps({"object": "list", "data": [{"index": 0, "embedding": []}] * 2, "model": "m"}),
        json.dumps({"object": "list", "data": [{"index": 0, "embedding": ["x"]}], "model": "m"}),
        json.dumps({"object": "list", "data": [{"index": 0, "embedding": [float("nan")]}], "model": "m"}),
    ],
)
def test_an_answer_that_is_none_is_refused(server: Server, body: str) -> None:
    """Not JSON, no data, too many rows, words or NaN for numbers: ModelRefused."""
    server.faults = [(200, {}, body)]
    with pytest.raises(ModelRefused):
        _ = EndpointEmbedder("m", base_url=server.url).dimension
