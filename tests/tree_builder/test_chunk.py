"""Passages are exact spans that hold the whole document, headings are respected, and no size or script breaks that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.stores.errors import InputError
from branchwise.stores.records import Document, Passage
from branchwise.tree_builder.chunk import chunk
from branchwise.tree_builder.headings import find_headings


def assert_exact(document: Document, passages: Sequence[Passage], max_chars: int) -> None:
    """Spans are exact, in order, disjoint, within the limit, trimmed, and leave out nothing but spaces."""
    end = 0
    for position, passage in enumerate(passages):
        assert document.text[passage.start : passage.end] == passage.text
        assert passage.text == passage.text.strip() != ""
        assert len(passage.text) <= max_chars
        assert document.text[end : passage.start].strip() == ""
        assert passage.position == position
        end = passage.end
    assert document.text[end:].strip() == ""
    assert len({passage.passage_id for passage in passages}) == len(passages)


PIECES = (
    *(
        "word ",
        "wörter. ",
        "长句子没有空格。",
        "ภาษาไทย",
        "\n",
        "\n\n",
        "# Head\n\n",
        "## Sub\n",
        "Title\n=====\n",
        "---\n",
    ),
    *("```\n", "\r\n", "\f", "\u0301", "👩\u200d💻", "x" * 70, " " * 30, "Part\n-----\n", "\u2028", "...\n", "1. "),
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=40), max_size=80).map("".join)


@settings(deadline=None)
@given(text=texts, max_chars=st.integers(1, 300), share=st.floats(0, 0.5))
def test_passages_are_exact_and_cover_everything(text: str, max_chars: int, share: float) -> None:
    """Any text at any size gives exact, disjoint spans that hold every character but spaces."""
    document = Document(doc_id="d", text=text, title="Head")
    assert_exact(document, chunk(document, max_chars=max_chars, min_chars=int(max_chars * share)), max_chars)


def test_naughty_strings_survive(shared: Path) -> None:
    """Strings that break other parsers are cut exactly, each alone and all as one document."""
    strings = json.loads((shared / "attacks" / "naughty_strings.json").read_text(encoding="utf-8"))
    for text in [*strings, "\n\n".join(strings), "".join(strings)]:
        document = Document(doc_id="d", text=text)
        for max_chars in (7, 80, 2000):
            assert_exact(document, chunk(document, max_chars=max_chars, min_chars=3), max_chars)


def test_a_document_that_fits_is_one_passage_with_its_own_id() -> None:
    """A short document keeps its id, and its passage leaves out only the spaces around it."""
    document = Document(doc_id="d7", text="\n One.\n\n Two. \n", title="T", metadata={"year": 1999})
    assert chunk(document, max_chars=100, min_chars=10) == [
        Passage(passage_id="d7", doc_id="d7", text="One.\n\n Two.", start=2, end=13, title="T", metadata={"year": 1999})
    ]


def test_none_as_limit_keeps_documents_whole() -> None:
    """Without a limit a long document is still one passage."""
    document = Document(doc_id="d", text="# A\n\n" + "word " * 10_000)
    assert [p.passage_id for p in chunk(document, max_chars=None)] == ["d"]


@pytest.mark.parametrize("text", ["", " \n\t\f\u2028 "])
def test_nothing_but_spaces_gives_no_passage(text: str) -> None:
    """An empty document has no passages."""
    assert chunk(Document(doc_id="d", text=text)) == []


@pytest.mark.parametrize(("max_chars", "min_chars"), [(0, 0), (100, 51), (100, -1)])
def test_sizes_that_contradict_each_other_are_refused(max_chars: int, min_chars: int) -> None:
    """Sizes that cannot hold are the caller's fault, whatever the document."""
    with pytest.raises(InputError):
        chunk(Document(doc_id="d", text=""), max_chars=max_chars, min_chars=min_chars)


SENTENCE = "Some words that fill a section of this document. "
GUIDE = f"""# Guide

{SENTENCE * 2}

## Install

{SENTENCE * 4}

```bash
# not a heading

# nor this
```

### On Windows

{SENTENCE * 4}

## Use

{SENTENCE * 5}
"""


def test_sections_stay_whole_and_give_titles() -> None:
    """A section that fits is one passage, named after the headings above it; the document's title is not repeated."""
    passages = chunk(Document(doc_id="g", text=GUIDE, title="Guide"), max_chars=400, min_chars=60)
    assert [p.title for p in passages] == ["Guide", "Guide > Install", "Guide > Install > On Windows", "Guide > Use"]
    assert [p.text.splitlines()[0] for p in passages] == ["# Guide", "## Install", "### On Windows", "## Use"]


def test_small_subsections_stay_with_their_section() -> None:
    """A subtree of sections that fits as a whole is not taken apart."""
    passages = chunk(Document(doc_id="g", text=GUIDE, title="Guide"), max_chars=600, min_chars=60)
    assert [p.title for p in passages] == ["Guide", "Guide > Install", "Guide > Use"]


def test_a_heading_without_text_goes_with_what_follows() -> None:
    """A heading never becomes a passage of its own, even before a section that must be cut."""
    text = "# A\n\n## B\n\n" + SENTENCE * 40
    passages = chunk(Document(doc_id="d", text=text), max_chars=500, min_chars=50)
    assert passages[0].text.startswith("# A\n\n## B\n\nSome words")
    assert [p.title for p in passages[:2]] == ["A", "A > B"]


def test_pieces_are_balanced_and_end_with_sentences() -> None:
    """A long paragraph is cut between sentences into pieces of about equal size, without a tiny tail."""
    passages = chunk(Document(doc_id="d", text=SENTENCE * 43), max_chars=1000, min_chars=100)
    sizes = [len(p.text) for p in passages]
    assert len(sizes) == 3
    assert min(sizes) > 0.8 * max(sizes)
    assert all(p.text.endswith(".") for p in passages)


@settings(deadline=None)
@given(st.integers(1001, 9000), st.sampled_from(["x", "字", "ab ", "One two. ", "L\n", "P. Q.\n\n"]))
def test_no_piece_is_tiny(length: int, unit: str) -> None:
    """However long the text and whatever its breaks, no piece is under a quarter of the limit."""
    document = Document(doc_id="d", text=(unit * length)[:length])
    passages = chunk(document, max_chars=1000, min_chars=100)
    assert min(len(p.text) for p in passages) >= 250


def test_scripts_without_spaces_are_cut_at_sentences() -> None:
    """Chinese and Japanese need no spaces: a cut falls behind the full stop."""
    text = "这是一个句子，它没有空格。" * 100
    assert all(p.text.endswith("。") for p in chunk(Document(doc_id="d", text=text), max_chars=300, min_chars=30))


def test_a_hard_cut_keeps_accents_with_their_letter() -> None:
    """Where nothing else is left, a cut still does not tear a combining mark from its base."""
    text = "e\u0301" * 500
    assert all(p.text.startswith("e") for p in chunk(Document(doc_id="d", text=text), max_chars=99, min_chars=9))


def test_pages_are_those_of_the_first_character() -> None:
    """A passage stands on the page where it begins, counted from 1."""
    pages = [SENTENCE * 10 for _ in range(3)]
    starts = (0, len(pages[0]), len(pages[0]) + len(pages[1]))
    document = Document(doc_id="d", text="".join(pages), page_starts=starts)
    for passage in chunk(document, max_chars=200, min_chars=20):
        assert passage.page == sum(start <= passage.start for start in starts)
    assert chunk(Document(doc_id="d", text="x"))[0].page is None


def test_headings_of_restructuredtext_and_setext() -> None:
    """Underlines, with and without overline, are headings; their levels follow the order of the styles."""
    text = "=====\nTitle\n=====\n\nx\n\nPart\n----\n\ny\n\nSub\n~~~~\nz\n\nOther\n-----\n"
    assert [(h.level, h.title) for h in find_headings(text)] == [(1, "Title"), (2, "Part"), (3, "Sub"), (2, "Other")]


@pytest.mark.parametrize(
    "text",
    [
        "a | b\n--- | ---\n1 | 2",
        "para\n\n-----\n\npara",
        "    code\n    # comment\n\n    # another",
        ">>> f()\n...\n...",
        "some text\n# a comment\nmore text",
        "#hashtag first\n\n#!/bin/sh",
        "```\n\n# in code\n```\n",
        "Long title over a short rule\n~~~\n",
        "# " + "x" * 300,
        "x" * 300 + "\n====\n",
    ],
)
def test_what_only_looks_like_a_heading_is_none(text: str) -> None:
    """Tables, rules, comments and code are no headings."""
    assert list(find_headings(text)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("x", 50_000_000),
        ("Word and word. ", 50_000_000),
        ("a\n\n", 50_000_000),
        ("#  ", 50_000_000),
        ("``` \n# a\n", 5_000_000),
        ("# H\n\n", 5_000_000),
        ("Line\n====\n\n", 5_000_000),
    ],
)
def test_one_giant_document_of_anything_ends(unit: str, size: int) -> None:
    """Fifty megabytes of prose, or a million headings, are cut in linear time: a quadratic step would not come back."""
    document = Document(doc_id="d", text=unit * (size // len(unit)))
    passages = chunk(document)
    assert sum(len(p.text) for p in passages) > 0.5 * len(document.text)
