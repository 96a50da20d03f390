"""The command line with a language model behind a real loopback server: prices, questions, limits, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback.server import LoopbackServer, run_server
from tests.surfaces.terminal.conftest import ENTRY, Ran, branchwise, environment

Call = Callable[..., Ran]

QUESTION = "Why does a lake freeze from above?"
SECRET = "sk-do-not-print-me-0123456789"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A model server on this machine."""
    with run_server() as running:
        yield running


def model(server: LoopbackServer) -> list[str]:
    """The flags that name it."""
    return ["--model", "stand-in", "--base-url", server.base_url]


def test_a_dry_run_asks_nobody(call: Call, server: LoopbackServer, corpus: Path, tmp_path: Path) -> None:
    """--dry-run prints expected figures and bounds, writes nothing, and the server hears nothing."""
    target = tmp_path / "index"
    ran = call("build", corpus, "-i", target, "--dry-run", "--json", *model(server))
    found = ran.json()
    assert ran.code == 0
    assert 0 < found["calls"]["expected"] <= found["calls"]["most"]
    assert found["passages"] == 13
    assert not server.calls
    assert not target.exists()


def test_a_dry_run_needs_no_key(call: Call, corpus: Path, tmp_path: Path) -> None:
    """The price of a build with OpenAI can be reckoned before there is a key; an unknown price is not zero."""
    ran = call("build", corpus, "-i", tmp_path / "index", "--dry-run", "--model", "no-such-model")
    assert ran.code == 0, ran.err
    assert "price" in ran.out


def test_a_paid_build_asks_first(call: Call, server: LoopbackServer, corpus: Path, tmp_path: Path) -> None:
    """Without --yes, a limit or anybody to ask, a build with a model ends with 2 before the first call."""
    target = tmp_path / "index"
    ran = call("build", corpus, "-i", target, *model(server))
    assert ran.code == 2
    assert "--yes" in ran.err
    assert "at most" in ran.err, "the price is told before the question"
    assert not server.calls
    assert not target.exists()


def test_a_limit_ends_a_build_cleanly(call: Call, server: LoopbackServer, corpus: Path, tmp_path: Path) -> None:
    """--max-calls is kept to the call; the index is whole, marked partial, and the rest can be bought later."""
    target = tmp_path / "index"
    flags = ["build", corpus, "-i", target, "--max-children", "4", "--json", *model(server)]
    first = call(*flags, "--max-calls", "2").json()
    assert first["partial"]
    assert first["usage"]["calls"] <= 2
    assert len(server.calls) == first["usage"]["calls"]
    assert call("tree", "check", "-i", target).code == 0
    rest = call(*flags, "--yes").json()
    assert not rest["partial"]
    assert set(rest["written_by"]) == {"stand-in"}


def test_a_place_is_searched_for_within_the_limit(
    call: Call, server: LoopbackServer, corpus: Path, tmp_path: Path
) -> None:
    """add --place search asks before it spends, tells the calls, and keeps to --max-calls."""
    target, more = tmp_path / "index", tmp_path / "geysers.txt"
    more.write_text("A geyser is a spring whose water boils in a narrow pipe and throws itself out.", "utf-8")
    assert call("build", corpus, "-i", target, "--max-children", "4").code == 0
    flags = ["add", more, "-i", target, "--place", "search", "--json", *model(server)]
    asked = call(*flags)
    assert asked.code == 2
    assert "place of every new document" in asked.err
    assert not server.calls
    added = call(*flags, "--max-calls", "6").json()
    judged = sum('"scores"' in str(sent) for sent in server.calls)
    assert 0 < judged <= 3, "half of the limit"
    assert judged <= added["usage"]["calls"] == len(server.calls) <= 6


def test_a_limit_in_money_needs_a_price(call: Call, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--max-cost with a model whose price nobody told is refused, before anything is asked."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    ran = call("search", QUESTION, "-i", library, "-m", "nobody-knows", "--max-cost", "1")
    assert ran.code == 2
    assert "BRANCHWISE_PRICES" in ran.err


def test_search_and_ask_name_the_model(call: Call, server: LoopbackServer, library: Path) -> None:
    """The first line names the model that judged; calls and tokens are counted; a price of this machine is 0."""
    assert call("search", QUESTION, "-i", library, *model(server)).out.startswith("Judge: stand-in at http://127.0.0.1")
    answer = call("ask", QUESTION, "-i", library, "--json", *model(server)).json()
    assert answer["judge"] == "stand-in"
    assert answer["reader"] == "stand-in"
    assert answer["usage"]["calls"] > 0
    assert answer["usage"]["input_tokens"] > 0
    assert answer["usage"]["cost"] == 0


def test_a_server_that_is_not_there(call: Call, library: Path) -> None:
    """A model that cannot be reached is never "nothing found": it ends with 4 and says where it looked."""
    ran = call("search", QUESTION, "-i", library, "-m", "x", "--base-url", "http://127.0.0.1:9/v1", "--json")
    assert ran.code == 4
    assert "127.0.0.1:9" in ran.json()["error"]["message"]


@pytest.mark.slow
def test_the_doctor_probes_the_server(server: LoopbackServer, library: Path, tmp_path: Path) -> None:
    """With a model the doctor finds out what its server can do; a server that is not there is a fault, exit 4."""
    env = {"BRANCHWISE_PROFILES": str(tmp_path)}
    well = branchwise("doctor", "--json", *model(server), **env)
    assert well.code == 0, well.err
    assert {probe["name"] for probe in well.json()["model"]} >= {"server", "reply", "schema", "window", "speed"}
    gone = branchwise("doctor", "--json", "-m", "x", "--base-url", "http://127.0.0.1:9/v1", **env)
    assert gone.code == 4


def test_a_key_is_never_written_down(
    call: Call, server: LoopbackServer, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key reaches the server and nothing else: not output, index, cache, trace nor error."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    target, trace = tmp_path / "index", tmp_path / "trace.jsonl"
    said = [
        call("build", corpus, "-i", target, "--yes", *model(server)),
        call("ask", QUESTION, "-i", target, "--trace", trace, *model(server)),
        call("ask", QUESTION, "-i", tmp_path / "none", "--debug", *model(server)),
    ]
    assert [ran.code for ran in said] == [0, 0, 3]
    assert SECRET in str(server.calls[0].headers)
    assert all(SECRET not in ran.out + ran.err for ran in said)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_an_interrupted_build_continues(corpus: Path, tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and says how to continue; the same command then buys only what is missing."""
    target = tmp_path / "index"
    with run_server(latency=0.5) as server:
        flags = ["build", str(corpus), "-i", str(target), "--max-children", "4", "--yes", *model(server)]
        with subprocess.Popen(
            [sys.executable, "-c", ENTRY, *flags],
            stderr=subprocess.PIPE,
            env=environment(),
            # A shell that runs the tests in the background has them ignore Ctrl-C, and their children too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as build:
            deadline = time.monotonic() + 60
            while not any(call.reply for call in server.calls):
                assert time.monotonic() < deadline, "no call was answered within a minute"
                time.sleep(0.05)
            build.send_signal(signal.SIGINT)
            _, err = build.communicate(timeout=60)
        assert build.returncode == 130
        assert "Run the same command again" in err.decode()
        assert "Traceback" not in err.decode()
        assert not (target / "manifest.json").exists()
        again = branchwise(*flags, "--json")
        assert again.code == 0, again.err
        prompts = [str(call.body["messages"]) for call in server.calls]
        assert len(prompts) - len(set(prompts)) <= 8, "at most the calls in flight are bought twice"
        assert again.json()["usage"]["calls"] < len(set(prompts))
