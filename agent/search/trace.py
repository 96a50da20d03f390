"""What a search did, step by step: recorded as events, kept as JSON lines, replayed without a model.

A trace holds the question, how it was searched, and every reply. A replay runs the same walk over the same index with
the recorded replies: the same events and the same hits, byte for byte, or an error that names the first step that
differs. Tested in tests/agent/test_trace.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from branchwise.stores.errors import InputError
from branchwise.stores.records import Event, Judgement, Question, Slate, Usage

OnEvent = Callable[[Event], None]


class Recorder:
    """Numbers events from 0 and passes each on as it happens."""

    def __init__(self, on_event: OnEvent | None = None) -> None:
        self._on_event = on_event
        self.events: list[Event] = []

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Record one step; `payload` must be plain JSON."""
        event = Event(seq=len(self.events), kind=kind, payload=payload)
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)


def write_trace(events: Iterable[Event], path: Path) -> None:
    """Write events as JSON lines."""
    path.write_text("".join(f"{to_line(event)}\n" for event in events), encoding="utf-8")


def to_line(event: Event) -> str:
    """An event as one line of JSON, keys in the order in which they were told."""
    return json.dumps({"seq": event.seq, "kind": event.kind, "payload": event.payload}, ensure_ascii=False)


def read_trace(path: Path) -> list[Event]:
    """The events of a trace file. Raises InputError with file and line."""
    try:
        # Not splitlines: a text may hold line separators that JSON leaves as they are.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The trace {path} cannot be read: {error}") from error
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            events.append(Event(seq=row["seq"], kind=row["kind"], payload=row["payload"]))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}:{number} is not a step of a search.",
                hint="Traces are written by: branchwise search --trace FILE",
            ) from error
    return events


class ReplayJudge:
    """Answers each slate with the reply that a trace holds for it: no model, no index, no cost."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.name = first(events, "question")["judge"]
        self.max_slate = first(events, "question")["max_slate"]
        asked = {event.payload["slate"]: event.payload for event in events if event.kind == "slate"}
        heard = {event.payload["slate"]: event.payload for event in events if event.kind == "judged"}
        self._replies = {_key(asked[number]): reply for number, reply in heard.items()}

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """The recorded reply. Raises InputError where the trace has none for this very slate."""
        key = (slate.parent, slate.candidate_ids, slate.anchor_ids, slate.repeat)
        if (reply := self._replies.get(key)) is None:
            raise InputError(
                f"The trace holds no reply for the slate of {slate.parent or 'finalists'}: it was recorded over "
                "another index, or by another version.",
                hint="Search again with --trace to record a new one.",
            )
        return Judgement(
            slate=slate,
            scores=reply["scores"],
            reasons=reply["reasons"],
            usage=Usage(**reply["usage"]),
            judge=reply["judge"],
            weak=reply["weak"],
        )


def first(events: Sequence[Event], kind: str) -> Mapping[str, Any]:
    """Payload of the first event of a kind. Raises InputError where there is none."""
    for event in events:
        if event.kind == kind:
            return event.payload
    raise InputError(f"The trace holds no step of kind {kind!r}: it is cut short.")


def _key(payload: Mapping[str, Any]) -> tuple[Any, ...]:
    return payload["parent"], tuple(payload["candidates"]), tuple(payload["anchors"]), payload["repeat"]
