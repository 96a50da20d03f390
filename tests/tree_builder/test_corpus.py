"""What a corpus is made of where ids clash."""

from __future__ import annotations

from branchwise.stores.records import Document
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import read_corpus
from branchwise.tree_builder.events import EventStream


def test_a_passage_id_taken_by_another_document_is_listed_not_fatal() -> None:
    """A long document's passages are "a#0", "a#1", ...; a document called "a#0" beside it is named and left out."""
    long = Document(doc_id="a", text="\n\n".join(f"Paragraph {n} says {n * 17} things. " * 12 for n in range(30)))
    corpus = read_corpus([long, Document(doc_id="a#0", text="Other."), long], BuildConfig(), EventStream(None))
    assert [document.doc_id for document in corpus.documents] == ["a"]
    assert ["a#0" in skipped.why or "'a'" in skipped.why for skipped in corpus.skipped] == [True, True]
    ids = [passage.passage_id for passage in corpus.passages]
    assert len(ids) == len(set(ids)) > 1
