"""From sources to passages: documents read, cut and freed of duplicates, with everything that could not be used.

The order of the documents decides the order of leaves. Knows no vectors and no tree. Tested in
tests/tree_builder/test_build.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from branchwise.stores.errors import InputError
from branchwise.stores.records import Document, Passage
from branchwise.tree_builder.chunk import chunk
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.duplicates import merge_duplicates
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.sources import Skipped, read_sources

Sources = Sequence[Path | str] | Iterable[Document]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, their passages (duplicates merged), and what was left out."""

    documents: tuple[Document, ...]
    passages: tuple[Passage, ...]
    skipped: tuple[Skipped, ...] = ()


def read_corpus(sources: Sources, config: BuildConfig, events: EventStream) -> Corpus:
    """Read every document, cut it and merge duplicates. Of documents with one id the later one is left out.

    `sources` are paths, or documents themselves. Raises InputError where paths hold nothing that can be used.
    """
    skipped: list[Skipped] = []

    def skip(what: Skipped) -> None:
        skipped.append(what)
        events.emit("skipped", where=what.where, why=what.why)

    documents: dict[str, Document] = {}
    passages: list[Passage] = []
    taken: set[str] = set()
    for document in _documents(sources, skip):
        if document.doc_id in documents:
            where = document.source or document.doc_id
            skip(Skipped(where=where, why=f"the id {document.doc_id!r} is taken by an earlier document"))
            continue
        cut = chunk(document, max_chars=config.max_chars, min_chars=config.min_chars)
        if clash := next((passage.passage_id for passage in cut if passage.passage_id in taken), None):
            where = document.source or document.doc_id
            skip(Skipped(where=where, why=f"the id {clash!r} of a passage of it is taken by another document's"))
            continue
        taken.update(passage.passage_id for passage in cut)
        documents[document.doc_id] = document
        passages.extend(cut)
        events.emit("source", done=len(documents), total=None, doc_id=document.doc_id)
    merged = merge(passages, config)
    events.emit(
        "chunked",
        documents=len(documents),
        passages=len(merged),
        duplicates=len(passages) - len(merged),
        done=len(passages),
        total=len(passages),
    )
    return Corpus(tuple(documents.values()), tuple(merged), tuple(skipped))


def merge(passages: Sequence[Passage], config: BuildConfig) -> list[Passage]:
    """The passages with duplicates merged as `config` says."""
    if not config.duplicate_similarity:
        return list(passages)
    return merge_duplicates(passages, threshold=config.duplicate_similarity)


def passage_text(passage: Passage) -> str:
    """What is embedded and indexed of a passage: its title, then its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def group_of(passage: Passage) -> str:
    """What the passage is a part of: its document, or the work that metadata "group" says the document is a part of."""
    return str(passage.metadata.get("group", passage.doc_id))


def corpus_hash(documents: Iterable[Document]) -> str:
    """sha256 of all that a build reads of its documents, in order."""
    digest = hashlib.sha256()
    for document in documents:
        facts = [document.doc_id, document.title, document.text, dict(document.metadata), list(document.page_starts)]
        digest.update(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _documents(sources: Sources, skip: object) -> Iterable[Document]:
    given = list(sources) if not isinstance(sources, str | Path) else [Path(sources)]
    if all(isinstance(source, Document) for source in given):
        return [source for source in given if isinstance(source, Document)]
    if any(isinstance(source, Document) for source in given):
        raise InputError("Sources are paths or documents, not both.")
    return read_sources([Path(str(source)) for source in given], on_skip=skip)  # type: ignore[arg-type]
