"""Ranked leaves as hits, under the name that the question may see."""

from __future__ import annotations

from pathlib import Path

import branchwise
from branchwise import Document, Question

TEXT = (
    "A kite flies because the wind presses on its slanted sail and is thrown downwards by it, all the time. "
    "The line holds it against the wind; without the line it would drift along, and nothing would press on it any more."
)


def test_a_duplicate_stands_in_for_what_is_excluded(tmp_path: Path) -> None:
    """Of two copies that share a leaf, the excluded one is not named: the hit is the other, in its own document."""
    documents = [
        Document(doc_id="first", title="First", text=TEXT),
        Document(doc_id="second", title="Second", text=TEXT.upper()),
        Document(doc_id="other", title="Other", text="Bread rises because yeast makes gas."),
    ]
    with branchwise.build(documents, index=tmp_path / "index") as opened:
        assert len(opened.tree.leaf_ids) == 2
        plain = opened.search("why does a kite fly?").hits[0].passage
        assert plain.doc_id == "first"
        assert [origin.doc_id for origin in plain.duplicates] == ["second"]
        asked = Question(text="why does a kite fly?", excluded_ids=frozenset({"first"}))
        seen = opened.search(asked).hits[0].passage
        assert (seen.doc_id, seen.title, seen.duplicates) == ("second", "Second", ())
        assert opened.index.document("second").text[seen.start : seen.end] == seen.text
        both = Question(text="why does a kite fly?", excluded_ids=frozenset({"first", "second"}))
        assert all(hit.passage.doc_id == "other" for hit in opened.search(both).hits)


def test_every_hit_says_why(tmp_path: Path) -> None:
    """A judged hit has its own, calibrated and path score on the last step, and the signals it was fused from."""
    documents = [Document(doc_id=f"d{i}", text=f"Passage {i} about kites number {i * 7} in wind.") for i in range(30)]
    with branchwise.build(documents, index=tmp_path / "index") as opened:
        hit = opened.search("kites in the wind").hits[0]
        assert hit.judged
        last = hit.steps[-1]
        assert None not in (last.local, last.calibrated, last.path)
        assert set(hit.signals) == {"bm25", "dense", "tree"}


def test_a_duplicate_stands_in_for_what_a_filter_hides(tmp_path: Path) -> None:
    """Of two copies that share a leaf, the one that the filter lets through is named, and its title ends the path."""
    documents = [
        Document(doc_id="first", title="First", text=TEXT, metadata={"shelf": "a"}),
        Document(doc_id="second", title="Second", text=TEXT.upper(), metadata={"shelf": "b"}),
        Document(doc_id="other", title="Other", text="Bread rises because yeast makes gas.", metadata={"shelf": "b"}),
    ]
    with branchwise.build(documents, index=tmp_path / "index") as opened:
        hit = opened.search(Question(text="why does a kite fly?", filters={"shelf": "b"})).hits[0]
        assert (hit.passage.doc_id, hit.steps[-1].title) == ("second", "Second")
        assert hit.passage.metadata["shelf"] == "b"
