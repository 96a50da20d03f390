"""The reply parser: tolerant of form, never inventing a value."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.prompts.parse import read_json

ANSWER = {"scores": {"1": 85, "2": 10}}
JSON = json.dumps(ANSWER)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{JSON}\n```",
        f"```\n{JSON}\n```\nI hope this helps!",
        f"<think>Item 1 looks good, {{maybe}} 85?</think>{JSON}",
        f'<think>{{"scores": {{"1": 3}}}}</think>\n{JSON}',
        f"so the answer is clear</think>{JSON}",
        f"Here are the scores:\n{JSON}\nItem [1] is best.",
        "{'scores': {'1': 85, '2': 10}}",
        '{"scores": {"1": 85, "2": 10,},}',
        '{scores: {"1": 85, "2": 10}}',
        '{"scores": {"1": 85, "2": 10}',
        '{"scores": {"1": 85, "2": 10}, "why": {"1": "it sh',
        f"\ufeff{JSON}",
    ],
)
def test_common_wrappings_are_read_and_marked(text: str) -> None:
    """Fences, thoughts, prose, loose quotes, a missing bracket: the same value, marked as repaired."""
    parsed = read_json(text)
    assert parsed.value == ANSWER or parsed.value == ANSWER | {"why": {}}
    assert parsed.repaired


def test_plain_json_is_not_marked() -> None:
    """A clean reply counts as clean."""
    assert read_json(JSON) == read_json(f"  {JSON}\n")
    assert not read_json(JSON).repaired


@given(st.integers(min_value=1, max_value=60))
@settings(deadline=None)
def test_a_number_cut_in_the_middle_is_dropped(size: int) -> None:
    """Of a reply cut anywhere, every score that is left was complete: 8 of 85 is never a score."""
    scores = {str(n): 10 + n for n in range(1, 12)}
    whole = json.dumps({"scores": scores})
    try:
        parsed = read_json(whole[: min(size, len(whole) - 1)])
    except ValueError:
        return
    left = parsed.value.get("scores", {}) or {}
    assert all(scores.get(n) == score for n, score in left.items()), left


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "I cannot judge this.",
        "[" * 100_000,
        "{" * 100_000,
        '{"a":' * 15_000,
        "x" * 1_000_000,
        f'{{"scores": {{"1": 1}}}} or rather {JSON}',
        "<think>" + JSON,
    ],
)
def test_what_cannot_be_trusted_is_refused_with_a_sentence(text: str) -> None:
    """Nothing, prose, brackets, a megabyte, two answers, an unfinished thought."""
    with pytest.raises(ValueError, match=r"[Rr]eply") as caught:
        read_json(text)
    assert len(str(caught.value)) < 200


def test_a_key_with_two_values_has_none() -> None:
    """{"1": 80, "1": 20} says nothing of item 1."""
    parsed = read_json('{"scores": {"1": 80, "1": 20, "2": 5}}')
    assert parsed.value == {"scores": {"1": None, "2": 5}}
    assert parsed.repaired


def test_nan_and_infinity_are_no_numbers() -> None:
    """JSON has no NaN; a model that writes one gave no score."""
    parsed = read_json('{"scores": {"1": NaN, "2": Infinity, "3": -Infinity, "4": 7}}')
    assert parsed.value == {"scores": {"1": None, "2": None, "3": None, "4": 7}}
    assert parsed.repaired


def suite(shared: Path, kind: str) -> list[Path]:
    """The files of the JSON test suite of one kind: y_ valid, n_ invalid, i_ either."""
    return sorted((shared / "attacks" / "json_parsing").glob(f"{kind}_*.json"))


def test_valid_json_of_the_suite_parses(shared: Path) -> None:
    """Every y_ file is read as it is, and not called repaired unless a key occurs twice."""
    files = suite(shared, "y")
    assert len(files) > 90
    for path in files:
        text = path.read_text(encoding="utf-8")
        parsed = read_json(text)
        assert not parsed.repaired or "duplicated" in path.name, path.name
        if not parsed.repaired:
            assert parsed.value == json.loads(text), path.name


@pytest.mark.parametrize("kind", ["n", "i"])
def test_invalid_json_of_the_suite_is_never_taken_for_valid(shared: Path, kind: str) -> None:
    """Every n_ file is refused or marked as repaired; none of either kind crashes or takes long."""
    files = suite(shared, kind)
    assert len(files) > 30
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        try:
            parsed = read_json(text)
        except ValueError:
            continue
        assert kind == "i" or parsed.repaired, path.name


def test_naughty_strings_come_through_unchanged(shared: Path) -> None:
    """As a text inside JSON each string is returned as it was; as a reply of its own it is refused or repaired."""
    for string in json.loads((shared / "attacks" / "naughty_strings.json").read_text(encoding="utf-8")):
        assert read_json(json.dumps({"text": string})).value == {"text": string}
        try:
            parsed = read_json(string)
        except ValueError:
            continue
        assert parsed.repaired or not isinstance(parsed.value, dict), string


@given(st.text(max_size=300))
@settings(deadline=None)
def test_no_text_crashes_the_parser(text: str) -> None:
    """Any text is a value or a ValueError."""
    with contextlib.suppress(ValueError):
        read_json(text)
