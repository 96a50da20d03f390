"""Quotes are found where they stand, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.citations import cite, locate_quote, page_of, verify
from branchwise.stores.records import Citation, Document, Passage

TEXT = (
    "The bridge was opened in 1894 by the Prince of Wales. It spans the river between two towers.\n\n"
    "“Nobody,” he said, “has crossed it on foot — ever.” The toll was not abolished before 1932.  A second bridge,\n"
    "downstream, was opened in 1932 by the Mayor of London."
)
DOCUMENT = Document(doc_id="d", text="Preface.\n" + TEXT, page_starts=(0, 60))
PASSAGE = Passage(passage_id="d#1", doc_id="d", text=TEXT, start=9, end=9 + len(TEXT), title="Bridges")


def quoted(quote: str) -> str | None:
    """What the document really says where `quote` was located."""
    span = locate_quote(quote, PASSAGE)
    return None if span is None else DOCUMENT.text[slice(*span)]


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("It spans the river", "It spans the river"),
        ("it SPANS the\n river", "It spans the river"),
        ('"Nobody," he said, "has crossed it on foot - ever."', "Nobody,” he said, “has crossed it on foot — ever."),
        ("A second bridge, downstream", "A second bridge,\ndownstream"),
        (
            "The bridge was opened in 1894 … by the Prince of Wales",
            "The bridge was opened in 1894 by the Prince of Wales",
        ),
        ("The bridge was opened ... between two towers", TEXT[: TEXT.index("towers") + 6]),
        ("It spans the river between the two towers", "It spans the river between two towers"),
    ],
)
def test_a_quote_is_found_and_given_back_as_the_document_has_it(quote: str, found: str) -> None:
    """Case, white space, typography, an ellipsis and a slip of a word do not hide a quote."""
    assert quoted(quote) == found


@pytest.mark.parametrize(
    "quote",
    [
        "",
        "   ",
        '""',
        "...",
        "a bridge",
        "The tower was painted green by volunteers",
        "The bridge was opened in 1895 by the Prince of Wales",
        "The toll was abolished before 1932",
        "towers two between river the spans It",
        "by the Mayor of London … The bridge was opened",
    ],
)
def test_what_the_document_does_not_say_is_found_nowhere(quote: str) -> None:
    """Another figure, a lost negation, another order or plain invention is no quote."""
    assert quoted(quote) is None


def test_a_quote_that_nearly_fits_two_places_is_found_in_neither() -> None:
    """Where the better of two near matches is not clear, none is taken."""
    text = "Red cats sleep on warm roofs today. Red cats sleep on cold roofs today."
    passage = Passage(passage_id="p", doc_id="p", text=text, start=0, end=len(text))
    assert locate_quote("Red cats sleep on the roofs today", passage) is None
    assert locate_quote("Red cats sleep on cold roofs", passage) == (36, 64)


def test_only_a_true_citation_verifies() -> None:
    """Another document, span, text or page is found out."""
    span = locate_quote("It spans the river", PASSAGE)
    assert span is not None
    true = cite(1, PASSAGE, span)
    assert verify(true, DOCUMENT)
    facts = {name: getattr(true, name) for name in ("number", "passage_id", "doc_id", "start", "end", "quote", "title")}
    for change in (
        {"doc_id": "e"},
        {"start": true.start + 1},
        {"end": 10_000},
        {"start": -5},
        {"quote": "It spans the lake"},
        {"end": true.start, "quote": ""},
        {"page": 1},
    ):
        assert not verify(Citation(**{**facts, **change}), DOCUMENT), change
    assert page_of(DOCUMENT, true.start) == 2
    assert verify(Citation(**{**facts, "page": 2}), DOCUMENT)


@given(text=st.text(min_size=1), data=st.data())
def test_any_stretch_of_any_text_is_found_and_verifies(text: str, data: st.DataObject) -> None:
    """Whatever the script, an exact quote is located, and what is located is the document's own text."""
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    document = Document(doc_id="d", text=text)
    passage = Passage(passage_id="d", doc_id="d", text=text, start=0, end=len(text))
    span = locate_quote(text[start:end], passage)
    if text[start:end].strip().strip('"“”«»„'):
        assert span is not None
        assert verify(cite(1, passage, span), document)


@given(text=st.text(), quote=st.text())
def test_any_quote_against_any_text_is_true_or_nowhere(text: str, quote: str) -> None:
    """No input breaks the search, and no located span lies outside the passage."""
    passage = Passage(passage_id="d", doc_id="d", text=text, start=7, end=7 + len(text))
    span = locate_quote(quote, passage)
    assert span is None or 7 <= span[0] < span[1] <= 7 + len(text)


def test_naughty_strings_are_located_in_themselves(shared: Path) -> None:
    """Strings that break parsers do not break the search for a quote."""
    for text in json.loads((shared / "attacks" / "naughty_strings.json").read_text(encoding="utf-8")):
        passage = Passage(passage_id="n", doc_id="n", text=f"Before. {text} After.", start=0, end=len(text) + 16)
        span = locate_quote(text, passage)
        assert span is not None or not text.strip().strip('"“”«»„')
