"""What a corpus is made of: what is read, from where, and what happens where ids clash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from branchwise.stores.errors import InputError
from branchwise.stores.records import Document
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import corpus_aside, passage_text
from branchwise.tree_builder.duplicates import merge_duplicates
from branchwise.tree_builder.events import EventStream


def test_a_passage_id_taken_by_another_document_is_listed_not_fatal() -> None:
    """A long document's passages are "a#0", "a#1", ...; a document called "a#0" beside it is named and left out."""
    long = Document(doc_id="a", text="\n\n".join(f"Paragraph {n} says {n * 17} things. " * 12 for n in range(30)))
    with corpus_aside([long, Document(doc_id="a#0", text="Other."), long], BuildConfig(), EventStream()) as corpus:
        assert [document.doc_id for document in corpus.documents] == ["a"]
        assert ["a#0" in skipped.why or "'a'" in skipped.why for skipped in corpus.skipped] == [True, True]
        ids = [passage.passage_id for passage in corpus.passages]
        assert len(ids) == len(set(ids)) > 1


def test_documents_are_taken_one_by_one_from_an_iterator() -> None:
    """A generator of documents is never held as a list: while one is read, those before it are on disk already."""
    seen: list[int] = []

    def stream() -> Iterator[Document]:
        for number in range(50):
            seen.append(number)
            yield Document(doc_id=str(number), text=f"Text number {number} about nothing else.")

    waiting: list[int] = []
    events = EventStream(lambda event: waiting.append(len(seen) - 1) if event.kind == "source" else None)
    with corpus_aside(stream(), BuildConfig(), events) as corpus:
        assert waiting == list(range(50))
        assert [document.doc_id for document in corpus.documents] == [str(number) for number in range(50)]


def test_the_corpus_on_disk_is_what_merging_in_memory_gives() -> None:
    """Exact copies, near copies and copies of near copies: the same passages with the same origins either way."""
    body = " ".join(f"word{n}" for n in range(120)) + "."
    texts = [body, "Else entirely.", f"Header\n\n{body}", body.upper(), f"header\n\n{body}", "else  entirely"]
    documents = [Document(doc_id=f"d{n}", text=text) for n, text in enumerate(texts)]
    with corpus_aside(documents, BuildConfig(duplicate_similarity=0), EventStream()) as apart:
        merged = merge_duplicates(list(apart.passages))
    with corpus_aside(documents, BuildConfig(), EventStream()) as corpus:
        assert list(corpus.passages) == merged
        assert len(merged) == 2
        assert list(corpus.texts) == [passage_text(passage) for passage in merged]


def test_paths_and_documents_are_not_mixed(tmp_path: Path) -> None:
    """Either order of a document and a path is refused before anything is made of it."""
    path, document = tmp_path / "a.txt", Document(doc_id="a", text="A text.")
    path.write_text("Another text.", encoding="utf-8")
    for sources in ([path, document], [document, path]):
        with (
            pytest.raises(InputError, match="not both"),
            corpus_aside(sources, BuildConfig(), EventStream()),  # type: ignore[arg-type]
        ):
            pass
