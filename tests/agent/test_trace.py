"""Trace files."""

from __future__ import annotations

from pathlib import Path

import pytest

from branchwise.agent.search.trace import Recorder, first, read_trace, write_trace
from branchwise.stores.errors import InputError
from branchwise.stores.records import Event


def test_events_are_numbered_and_passed_on() -> None:
    """A recorder counts from 0 and tells each listener at once."""
    heard: list[Event] = []
    recorder = Recorder(heard.append)
    recorder("question", {"text": "?"})
    recorder("stopped", {})
    assert [(event.seq, event.kind) for event in heard] == [(0, "question"), (1, "stopped")]
    assert recorder.events == heard


def test_files_round_trip(tmp_path: Path) -> None:
    """What is written is read back, in any script."""
    events = [Event(seq=0, kind="question", payload={"text": "warum? 为什么 \u2028 \ud7ff"})]
    write_trace(events, tmp_path / "t.jsonl")
    assert read_trace(tmp_path / "t.jsonl") == events


@pytest.mark.parametrize("line", ["{", "[]", '{"seq": 1}', "null"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    """A file that is no trace is refused with file and line."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"seq": 0, "kind": "question", "payload": {}}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.jsonl:2"):
        read_trace(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is named."""
    with pytest.raises(InputError, match="nowhere"):
        read_trace(tmp_path / "nowhere.jsonl")


def test_a_cut_trace_is_told() -> None:
    """A trace without its beginning cannot be replayed, and says so."""
    with pytest.raises(InputError, match="cut short"):
        first([], "question")
