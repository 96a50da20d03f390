"""Reply types: lenient in form, strict in meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from branchwise.prompts.replies import (
    CondenseReply,
    FingerprintReply,
    ReadReply,
    RewriteReply,
    SlateReply,
    SummaryReply,
    TopicsReply,
    read_item,
    read_number,
    settle,
    slate_schema,
    strict_schema,
)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (85, 85.0),
        (85.5, 85.5),
        ("85", 85.0),
        (" 85 % ", 85.0),
        ("85/100", 85.0),
        ("8.5e1", 85.0),
        (-3, -3.0),
        (True, None),
        (None, None),
        ("high", None),
        ("", None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        ("1e999", None),
        ("8 or 9", None),
        ("٨٥", None),
        ([85], None),
        ({"score": 85}, None),
    ],
)
def test_a_number_is_read_or_is_none(value: Any, number: float | None) -> None:
    """Nothing is guessed: what is not one finite number is None."""
    assert read_number(value) == number


@pytest.mark.parametrize(
    ("value", "item"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        ("[3]", 3),
        ("item 3", 3),
        ("#3", 3),
        ("3.", 3),
        (0, 0),
        (-1, 0),
        (2.5, 0),
        ("p:3", 0),
        (None, 0),
        ("", 0),
        (True, 0),
        ("3 and 4", 0),
        ("doc_3", 0),
        (1e300, 0),
    ],
)
def test_an_item_number_is_read_or_is_no_item(value: Any, item: int) -> None:
    """0 is what no item is called."""
    assert read_item(value) == item


@pytest.mark.parametrize(
    "data",
    [
        {"scores": {"1": 70, "2": 5}, "why": [{"n": 1, "text": "yes"}]},
        {"scores": {"1": 70, "2": 5}, "why": {"1": "yes"}},
        {"scores": [{"n": 1, "score": 70, "why": "yes"}, {"n": 2, "score": 5}]},
        {"scores": [{"number": "1", "score": "70", "why": "yes"}, {"item": "[2]", "score": 5.0}]},
        [{"n": 1, "score": 70, "why": "yes"}, {"n": 2, "score": 5}],
        {"1": {"score": 70, "why": "yes"}, "2": {"score": 5}},
    ],
)
def test_one_slate_in_many_shapes(data: Any) -> None:
    """The same scores and reasons, however a model writes them down."""
    reply = SlateReply.model_validate(data)
    assert settle(reply, 2) == ({1: 0.7, 2: 0.05}, None)
    assert [entry.why for entry in reply.scores] == ["yes", ""]


@pytest.mark.parametrize(
    ("scores", "expected", "complains"),
    [
        ({"1": 70}, {1: 0.7, 2: None}, False),
        ({"1": 70, "2": 5, "3": 100, "x": 100}, {1: 0.7, 2: 0.05}, False),
        ([["1", 70], ["1", 70], ["2", 5]], {1: 0.7, 2: 0.05}, False),
        ([["1", 70], ["1", 20], ["2", 5]], {1: None, 2: 0.05}, True),
        ({"1": 0.7, "2": 0.05}, {1: 0.7, 2: 0.05}, False),
        ({"1": 0, "2": 0}, {1: 0.0, 2: 0.0}, False),
        ({"1": 1, "2": 0}, {1: None, 2: None}, True),
        ({"1": 70, "2": 0.5}, {1: 0.7, 2: None}, True),
        ({"1": 70.5, "2": 0.5}, {1: 0.705, 2: 0.005}, False),
        ({"1": 104, "2": -2}, {1: 1.0, 2: 0.0}, True),
        ({"1": 150, "2": 70}, {1: None, 2: 0.7}, True),
        ({"1": None, "2": "high"}, {1: None, 2: None}, True),
        ({}, {1: None, 2: None}, True),
    ],
)
def test_doubtful_scores_are_none_and_complained_of(scores: Any, expected: dict[int, float], complains: bool) -> None:
    """Missing, invented, doubled, on another scale, out of range, no number: each has one meaning."""
    settled, complaint = settle(SlateReply.model_validate({"scores": scores}), 2)
    assert settled == pytest.approx(expected)
    assert (complaint is not None) == complains


WORDS = st.sampled_from(["scores", "why", "n", "score", "1", "2", "x"])
VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
ANY_JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(ANY_JSON)
def test_any_json_is_a_slate_in_range_or_invalid(data: Any) -> None:
    """Whatever arrives, no score leaves [0, 1] and no item is invented."""
    try:
        reply = SlateReply.model_validate(data)
    except ValidationError:
        return
    scores, _ = settle(reply, 3)
    assert list(scores) == [1, 2, 3]
    assert all(score is None or 0 <= score <= 1 for score in scores.values())


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (FingerprintReply, {"passages": [{"number": "1", "levels": ["a", "b", "c", "d", None]}]}),
        (SummaryReply, {"parts": [{"number": 1, "text": " a\n b "}], "theme": "t", "title": None}),
        (TopicsReply, {"topics": [{"name": "a", "members": ["1", "[2]", "x"], "keywords": "one"}]}),
        (RewriteReply, {"standalone": "q", "keywords": None, "extra": 1}),
        (ReadReply, {"found": "true", "sentences": [{"text": "a", "citations": {"n": "1", "quote": "b  c"}}]}),
        (CondenseReply, {"standalone": "q"}),
    ],
)
def test_small_slips_of_form_are_forgiven(kind: type[BaseModel], data: Any) -> None:
    """A number as a string, null for a list, one object for a list of one, white space."""
    value = kind.model_validate(data)
    assert json.loads(value.model_dump_json())
    if isinstance(value, ReadReply):
        assert value.sentences[0].citations[0].quote == "b  c"  # a quote is kept letter by letter
    if isinstance(value, TopicsReply):
        assert value.topics[0].members == [1, 2, 0]


@pytest.mark.parametrize("kind", [FingerprintReply, SummaryReply, TopicsReply, RewriteReply, ReadReply, CondenseReply])
def test_schemas_are_in_the_subset_that_servers_enforce(kind: type[BaseModel]) -> None:
    """Every object requires all its properties and allows no others; no references, defaults or unions."""

    def check(schema: Any) -> None:
        assert set(schema) <= {"type", "properties", "required", "additionalProperties", "items"}
        if schema["type"] == "object":
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
            for inner in schema["properties"].values():
                check(inner)
        if schema["type"] == "array":
            check(schema["items"])

    check(strict_schema(kind))
    check(slate_schema(3, reasons=True))


def test_a_slates_schema_names_every_item() -> None:
    """A server that enforces it can leave no candidate out, double none and invent none."""
    schema = slate_schema(3, reasons=False)
    assert schema["properties"]["scores"]["required"] == ["1", "2", "3"]
    assert "why" not in schema["properties"]
