"""The embedded reader quotes, cites and admits that there is nothing to quote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from branchwise.agent.citations import verify
from branchwise.agent.read_extractive import SENTENCES, ExtractiveReader, support
from branchwise.agent.reader import NOT_FOUND
from branchwise.stores.embedding import Embedder, FloatMatrix, make_embedder
from branchwise.stores.errors import ModelUnavailable
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.records import Document, Hit, Passage, Question

DOCUMENTS = (
    Document(
        doc_id="ada",
        title="Ada Lovelace",
        text="Ada Lovelace was an English mathematician. She was born in London in 1815. "
        "She wrote the first published program, for the Analytical Engine of Charles Babbage.",
    ),
    Document(
        doc_id="babbage",
        title="Charles Babbage",
        text="Charles Babbage designed the Analytical Engine.\n\nHe was born in London in 1791. He hated street music.",
    ),
    Document(
        doc_id="tea",
        title="Tea",
        text="Tea is an infusion of leaves. Green tea is not oxidised. Black tea is fully oxidised before it is dried.",
    ),
    Document(
        doc_id="glacier",
        title="Glacier",
        text="A glacier is a body of dense ice. Its own weight moves it. Meltwater lubricates the bed of the ice.",
    ),
)


@dataclass
class Shelf:
    """Documents of one passage each, with real statistics over them: what a reader asks of an index."""

    documents: Sequence[Document]
    embedder: Embedder
    lexical: LexicalIndex

    @classmethod
    def of(cls, documents: Sequence[Document]) -> Shelf:
        """A shelf of these documents."""
        texts = [f"{document.title}\n{document.text}" for document in documents]
        return cls(documents, make_embedder("embedded", texts=texts), LexicalIndex.build(texts))

    def document(self, doc_id: str) -> Document:
        """One document."""
        return next(document for document in self.documents if document.doc_id == doc_id)

    def passage(self, passage_id: str) -> Passage:
        """The whole document as a passage."""
        document = self.document(passage_id)
        return Passage(
            passage_id=passage_id,
            doc_id=passage_id,
            text=document.text,
            start=0,
            end=len(document.text),
            title=document.title,
        )

    def hits(self, *passage_ids: str) -> list[Hit]:
        """Hits in this order."""
        return [
            Hit(passage=self.passage(name), score=1 / rank, rank=rank, node_id=f"p:{name}")
            for rank, name in enumerate(passage_ids, 1)
        ]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """Four small documents."""
    return Shelf.of(DOCUMENTS)


async def test_the_sentence_that_answers_comes_first_with_its_exact_span(shelf: Shelf) -> None:
    """The best sentence is quoted from the document, cited [1], and labelled as extractive."""
    reading = await ExtractiveReader().read(
        Question(text="Who wrote the first published program?"), shelf.hits("babbage", "ada", "tea"), shelf
    )
    first = reading.citations[0]
    assert reading.found
    assert first.doc_id == "ada"
    assert first.quote.startswith("She wrote the first published program")
    assert reading.text.startswith(f"{first.quote} [1]")
    assert all(verify(citation, shelf.document(citation.doc_id)) for citation in reading.citations)
    assert [citation.number for citation in reading.citations] == list(range(1, len(reading.citations) + 1))
    assert len(reading.citations) <= SENTENCES
    assert reading.written_by == "extractive"
    assert reading.usage.calls == 0


async def test_a_question_about_something_else_finds_nothing(shelf: Shelf) -> None:
    """No passage about it: found is False, no citation, and the text says so."""
    reading = await ExtractiveReader().read(
        Question(text="Which antibiotics treat bacterial pneumonia in children?"), shelf.hits("ada", "tea"), shelf
    )
    assert (reading.found, reading.text, reading.citations) == (False, NOT_FOUND, ())


@pytest.mark.parametrize("text", ["", "?", "what is it", "🦆", "x" * 100_000])
async def test_a_question_without_content_finds_nothing(shelf: Shelf, text: str) -> None:
    """An empty, a grammatical and an endless question end the same way: nothing supports an answer."""
    assert not (await ExtractiveReader().read(Question(text=text), shelf.hits("ada", "tea"), shelf)).found


async def test_no_hits_are_no_answer(shelf: Shelf) -> None:
    """Without passages there is nothing to quote, even for a reader that always answers."""
    assert not (await ExtractiveReader(support=0).read(Question(text="tea"), [], shelf)).found


async def test_standing_in_for_another_reader_it_always_quotes(shelf: Shelf) -> None:
    """With support 0 the closest sentences are given: a failed model is never "nothing found"."""
    reading = await ExtractiveReader(support=0).read(
        Question(text="Which antibiotics treat pneumonia?"), shelf.hits("tea"), shelf
    )
    assert reading.found
    assert reading.citations


async def test_the_same_sentence_is_not_given_twice(shelf: Shelf) -> None:
    """What repeats a chosen sentence adds nothing and is left out."""
    twice = Document(doc_id="copy", title="Ada Lovelace", text=DOCUMENTS[0].text)
    both = Shelf.of([*DOCUMENTS, twice])
    reading = await ExtractiveReader().read(
        Question(text="Who wrote the first published program?"), both.hits("ada", "copy"), both
    )
    quotes = [citation.quote for citation in reading.citations]
    assert len(quotes) == len(set(quotes))


async def test_tokens_joined_are_the_text(shelf: Shelf) -> None:
    """What is streamed is what is returned."""
    pieces: list[str] = []
    reading = await ExtractiveReader().read(
        Question(text="How is black tea made?"), shelf.hits("tea"), shelf, on_token=pieces.append
    )
    assert "".join(pieces) == reading.text


async def test_a_passage_that_no_longer_matches_its_document_is_not_cited(shelf: Shelf) -> None:
    """A quote that the stored text does not bear out is left out, and a note says so."""
    false = Passage(
        passage_id="tea", doc_id="tea", text="Tea cures everything, says tea.", start=0, end=31, title="Tea"
    )
    hits = [Hit(passage=false, score=1.0, rank=1, node_id="p:tea"), *shelf.hits("glacier")]
    reading = await ExtractiveReader(support=0).read(Question(text="What does tea cure?"), hits, shelf)
    assert all(verify(citation, shelf.document(citation.doc_id)) for citation in reading.citations)
    assert all("cures" not in citation.quote for citation in reading.citations)
    assert any("stored text differs" in note for note in reading.notes)


class _Down:
    """An embedder whose server is gone."""

    name = "down"
    dimension = 3
    fingerprint = "down"

    def embed_texts(self, texts: Sequence[str], *, progress: object = None) -> FloatMatrix:
        raise ModelUnavailable("http://127.0.0.1:9 does not answer")

    def embed_query(self, text: str) -> FloatMatrix:
        raise ModelUnavailable("http://127.0.0.1:9 does not answer")

    def save(self, folder: object) -> None:
        raise AssertionError("reading saves nothing")


async def test_without_its_embedder_it_reads_by_words_and_says_so(shelf: Shelf) -> None:
    """A failed embedder is a note, not an empty answer."""
    down = Shelf(shelf.documents, _Down(), shelf.lexical)
    reading = await ExtractiveReader().read(Question(text="Is green tea oxidised?"), down.hits("tea"), down)
    assert reading.found
    assert "does not answer" in reading.notes[0]


def test_support_is_a_share(shelf: Shelf) -> None:
    """Support grows with what is covered, from 0 without hits to 1 for the passage's own words."""
    hits = shelf.hits("tea")
    own = support("Black tea is fully oxidised before it is dried", hits, shelf)
    part = support("Black tea is fully regulated", hits, shelf)
    assert support("Black tea", [], shelf) == 0.0 <= support("glacier meltwater", hits, shelf) < part < own == 1.0
