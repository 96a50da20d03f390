"""Node texts without a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.stores.records import Document, Part, Passage
from branchwise.tree_builder.summarise import (
    LEVEL_WORDS,
    LONGEST_PART,
    LONGEST_TEXT,
    LONGEST_TITLE,
    ChildText,
    ExtractiveSummariser,
    compose,
    shorten,
)
from branchwise.tree_builder.terms import TermTable


@pytest.fixture
def corpus(make_documents: Callable[..., list[Document]]) -> tuple[ExtractiveSummariser, list[Passage]]:
    """A summariser of 24 passages on six topics, with one vector a topic word."""
    documents = make_documents(24)
    passages = [
        Passage(passage_id=d.doc_id, doc_id=d.doc_id, text=d.text, title=d.title, start=0, end=len(d.text))
        for d in documents
    ]
    table = TermTable.count([f"{passage.title}\n{passage.text}" for passage in passages])

    def embed(texts: list[str]) -> np.ndarray:
        topics = ["volcano", "bread", "chess", "sailing", "bees", "glass"]
        rows = np.array([[topic in text for topic in topics] for text in texts], dtype=np.float32) + 0.01
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return ExtractiveSummariser(table, embed), passages  # type: ignore[arg-type]


def children_of(passages: list[Passage], rows: list[int]) -> list[ChildText]:
    """Leaves as children."""
    return [
        ChildText(
            node_id=f"p:{passages[row].passage_id}",
            title=passages[row].title,
            text=passages[row].text,
            rows=np.array([row], dtype=np.int32),
        )
        for row in rows
    ]


async def test_a_text_names_what_its_siblings_lack(corpus: tuple[ExtractiveSummariser, list[Passage]]) -> None:
    """A cluster on bread among others is titled by words of bread; every child has a bounded line."""
    summariser, passages = corpus
    bread = [row for row in range(24) if row % 6 == 1]
    summary = await summariser.summarise(children_of(passages, bread), np.arange(24, dtype=np.int32))
    assert "bread" in summary.title
    assert len(summary.title) <= LONGEST_TITLE
    assert len(summary.text) <= LONGEST_TEXT
    assert [part.child_id for part in summary.parts] == [f"p:doc-{row}" for row in bread]
    assert all(0 < len(part.text) <= LONGEST_PART for part in summary.parts)
    assert not {"lava", "pawn", "hive"} & set(summary.text.split())


async def test_levels_go_from_general_to_specific(corpus: tuple[ExtractiveSummariser, list[Passage]]) -> None:
    """Five levels a passage, within their numbers of words; broad ones are shared, the last ones are not."""
    summariser, passages = corpus
    levels = await summariser.levels(passages)
    for level in levels:
        assert all(len(text.split()) <= most for text, (_, most) in zip(level, LEVEL_WORDS, strict=True))
    distinct = [len({level[place] for level in levels}) for place in range(5)]
    assert distinct[0] < distinct[4]
    assert distinct == sorted(distinct)


async def test_topics_hold_every_string_once(corpus: tuple[ExtractiveSummariser, list[Passage]]) -> None:
    """Strings on one thing share a topic, and none is forgotten or doubled."""
    summariser, _ = corpus
    strings = [f"{topic} {word}" for topic in ("bread", "chess", "bees") for word in ["one", "two", "three", "four"]]
    topics = await summariser.topics(strings, [1] * 12, fewest=3, most=4)
    assert sorted(member for topic in topics for member in topic.members) == list(range(12))
    assert sorted({tuple(sorted({strings[m].split()[0] for m in topic.members})) for topic in topics}) == [
        ("bees",), ("bread",), ("chess",),
    ]  # fmt: skip


@given(text=st.text(max_size=400), length=st.integers(8, 100))
def test_shortened_text_is_short_and_on_one_line(text: str, length: int) -> None:
    """Never longer than asked, never more than a line, unchanged where it fits."""
    short = shorten(text, length)
    assert len(short) <= length
    assert "\n" not in short
    if len(" ".join(text.split())) <= length:
        assert short == " ".join(text.split())


def test_a_composed_text_gives_every_part_its_share() -> None:
    """Twenty long parts are cut alike, and none is dropped."""
    parts = [Part(child_id=f"p:{n}", text=f"part {n} " + "word " * 60) for n in range(20)]
    text = compose(["theme"], parts)
    assert len(text) <= LONGEST_TEXT
    assert all(f"- part {n} " in text for n in range(20))
