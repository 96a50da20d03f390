"""Reads the JSON out of what a model wrote, and says whether it had to be repaired.

Tolerated: thinking aloud, code fences, prose around the JSON, a cut-off end, missing quotes and commas, NaN. Never
tolerated, because it would invent a value: a number that was cut in the middle, two different answers in one reply, a
key with two values. Knows nothing of reply types. Tested in tests/prompts/test_parse.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 262_144  # a long honest reply has 20,000; repairing more takes seconds of the event loop
MAX_BRACKETS = 20_000
MAX_DEPTH = 64  # our replies have five levels

_THINK = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THINK_START = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:\n[ \t]*)?```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The value of a reply; `repaired` where it was not plain JSON, `cut` where its end was missing."""

    value: Any
    repaired: bool = False
    cut: bool = False


def read_json(text: str) -> Parsed:
    """The JSON object or array in `text`; ValueError with one plain sentence where there is none to trust."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"The reply is {len(text):,} characters long.")
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise ValueError("The reply consists of brackets.")
    text = text.strip()
    try:
        value, clean = _load(text)
        return Parsed(value, repaired=not clean)
    except ValueError:
        pass
    text = _without_thoughts(text)
    answers = _complete_answers(text)
    if len({json.dumps(answer, sort_keys=True) for answer in answers}) > 1:
        raise ValueError("The reply holds two different answers.")
    if answers:
        return Parsed(answers[-1], repaired=True)
    return _repair(text)


def _without_thoughts(text: str) -> str:
    text = _THINK.sub("", text)
    if ends := list(_THINK_END.finditer(text)):  # some servers keep the opening tag for themselves
        text = text[ends[-1].end() :]
    if start := _THINK_START.search(text):  # cut while it was still thinking
        text = text[: start.start()]
    return text.strip()


def _complete_answers(text: str) -> list[Any]:
    """Every complete JSON object or array at top level, in fences if there are any, else anywhere in the prose."""
    found = []
    for block in _FENCE.findall(text) or [text]:
        at = 0
        while (at := _next_bracket(block, at)) >= 0:
            try:
                value, end = _DECODER.raw_decode(block, at)
                found.append(value)
            except (ValueError, RecursionError):
                end = at + 1
                if not found and block[at] == "{":
                    break  # a broken object: its inner pieces are not the answer
            at = end
    objects = [value for value in found if isinstance(value, dict)]
    return objects or [value for value in found if value and isinstance(value[0], dict | list)]


def _next_bracket(text: str, start: int) -> int:
    places = [place for place in (text.find("{", start), text.find("[", start)) if place >= 0]
    return min(places, default=-1)


def _repair(text: str) -> Parsed:
    from json_repair import repair_json

    start = _next_bracket(text, 0)
    if start < 0:
        raise ValueError("The reply holds no JSON." if text else "The reply is empty.")
    body, cut = _cut_back(text[start:])
    try:
        value = repair_json(body, return_objects=True, skip_json_loads=True)
    except (ValueError, RecursionError, IndexError, TypeError) as problem:
        raise ValueError("The JSON in the reply cannot be read.") from problem
    if not isinstance(value, dict | list) or not value:
        raise ValueError("The JSON in the reply cannot be read.")
    return Parsed(value, repaired=True, cut=cut)


def _cut_back(text: str) -> tuple[str, bool]:
    """`text` up to the end of its last complete element, closed; True where anything was missing at its end.

    A number or a string at a cut-off end may be half of what the model meant (8 of 85), so it is dropped.
    """
    open_brackets: list[str] = []
    keep, keep_open = 0, ""
    in_string = escaped = False
    for place, char in enumerate(text):
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "{[":
            open_brackets.append("}" if char == "{" else "]")
            if len(open_brackets) > MAX_DEPTH:
                raise ValueError("The JSON in the reply is nested too deeply.")
            keep, keep_open = place + 1, "".join(reversed(open_brackets))
        elif char in "}]":
            if not open_brackets:
                break
            open_brackets.pop()
            keep, keep_open = place + 1, "".join(reversed(open_brackets))
            if not open_brackets:
                return text[:keep], False
        elif char == ",":
            keep, keep_open = place, "".join(reversed(open_brackets))
    return text[:keep] + keep_open, True


class _Reader:
    """Notes whether strict JSON was left: NaN and infinities become None, a key with two values has none."""

    def __init__(self) -> None:
        self.clean = True

    def constant(self, _name: str) -> None:
        self.clean = False

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in pairs:
            if key in value and value[key] != item:
                self.clean, item = False, None
            value[key] = item
        return value


def _load(text: str) -> tuple[Any, bool]:
    reader = _Reader()
    try:
        value = json.loads(text, parse_constant=reader.constant, object_pairs_hook=reader.pairs)
    except RecursionError as problem:
        raise ValueError("The JSON in the reply is nested too deeply.") from problem
    return value, reader.clean


_DECODER = json.JSONDecoder(parse_constant=lambda _name: None, object_pairs_hook=_Reader().pairs)
