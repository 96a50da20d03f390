"""The doctor finds what is wrong with a machine, and tells it without telling secrets."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from branchwise.agent.surfaces import doctor
from branchwise.agent.surfaces.doctor import Check, examine
from branchwise.agent.surfaces.settings import Settings


def found(settings: Settings) -> dict[str, Check]:
    """The checks by name."""
    return {check.name: check for check in examine(settings)}


class Heartbeat(http.server.BaseHTTPRequestHandler):
    """Answers as a Chroma server does."""

    def do_GET(self) -> None:
        """The heartbeat."""
        body = b'{"nanosecond heartbeat": 1}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def chroma() -> Iterator[int]:
    """The port of something that looks like a Chroma server, on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Heartbeat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_healthy_machine() -> None:
    """Nothing set: all is well, and no model is wanted."""
    checks = found(Settings())
    assert all(check.status in ("ok", "warning") for check in checks.values())
    assert "needs no key" in checks["model"].detail
    assert "chromadb" in checks["packages"].detail


def test_an_exposed_chroma_server_is_a_warning(chroma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers where others could reach it is named, with what to do; one on loopback is not."""
    settings = Settings(chroma_url=f"http://127.0.0.1:{chroma}")
    monkeypatch.setattr(doctor, "_own_addresses", list)
    assert found(settings)["chroma"].status == "ok"
    monkeypatch.setattr(doctor, "_own_addresses", lambda: ["127.0.0.1"])  # stands for the address of a network card
    exposed = found(settings)["chroma"]
    assert exposed.status == "warning"
    assert "127.0.0.1" in exposed.hint
    assert found(Settings(chroma_url="http://chroma.example:8000"))["chroma"].status == "warning"


def test_a_missing_index_is_a_fault(tmp_path: Path) -> None:
    """The fault carries the exit code of its kind."""
    check = found(Settings(index=tmp_path / "none"))["index"]
    assert check.status == "fault"
    assert check.exit_code == 3


def test_a_key_is_mentioned_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is a key is said; what it is, never."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123")
    checks = found(Settings(model="m", base_url="http://127.0.0.1:9/v1"))
    assert "a key is set" in checks["model"].detail
    assert "sk-very" not in str(checks)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a superuser may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """No leave to write is a fault, found before a build begins."""
    tmp_path.chmod(0o500)
    assert found(Settings(index=tmp_path / "x"))["disk"].status == "fault"
