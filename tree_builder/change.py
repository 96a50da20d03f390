"""What an update makes of a corpus: documents and passages afterwards, on disk, and which leaves go or come.

Nothing is held but ids and digests, so a corpus need not fit into memory here either. Knows no tree. Tested with
tree_builder.update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from branchwise.stores.database import DatabaseWriter
from branchwise.stores.records import Document, Passage
from branchwise.tree_builder.chunk import chunk
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import merge_into, passage_text
from branchwise.tree_builder.outline import leaf_id
from branchwise.tree_builder.stored import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The corpus afterwards, read from the database it was written to.

    `gone` are the documents that are no more (as they were, where they are replaced), `came` the ids of those that are
    new in whole or in part; `goes` are leaves of before, `comes` rows of `passages`. A passage with another text goes
    and comes.
    """

    passages: Sequence[Passage]
    texts: Sequence[str]
    gone: Sequence[Document]
    came: Sequence[str]
    goes: Sequence[str]
    comes: Sequence[int]


def write_change(
    old: Stored, database: DatabaseWriter, config: BuildConfig, *, gone: set[str], came: Sequence[Document] = ()
) -> Change:
    """Write the corpus without the documents `gone` and with those that `came` into `database`.

    One that replaces another takes its place; the others stand at the end. Passages that say what others say join their
    leaves.
    """
    new = {document.doc_id: document for document in came}
    removed = gone | {document.doc_id for document in came if old.document(document.doc_id)}
    database.add_documents(_documents(old, removed, new))
    database.add_passages(_passages(old, removed, config, new))
    merge_into(database, config)
    passages = database.passages()
    before = {passage.passage_id: _digest(passage) for passage in old.passages}
    after = {passage.passage_id: _digest(passage) for passage in passages}
    return Change(
        passages=passages,
        texts=database.texts(),
        gone=[document for doc_id in sorted(removed) if (document := old.document(doc_id))],
        came=list(new),
        goes=[leaf_id(known) for known, text in before.items() if after.get(known) != text],
        comes=[row for row, (passage_id, text) in enumerate(after.items()) if before.get(passage_id) != text],
    )


def _documents(old: Stored, removed: set[str], new: Mapping[str, Document]) -> Iterator[Document]:
    replaced = set()
    for document in old.documents:
        if document.doc_id not in removed:
            yield document
        elif document.doc_id in new:
            replaced.add(document.doc_id)
            yield new[document.doc_id]
    yield from (document for doc_id, document in new.items() if doc_id not in replaced)


def _passages(old: Stored, removed: set[str], config: BuildConfig, new: Mapping[str, Document]) -> Iterator[Passage]:
    for passage in old.passages:
        if (kept := _survivor(passage, removed, old)) is not None:
            yield kept
    for document in new.values():
        yield from chunk(document, max_chars=config.max_chars, min_chars=config.min_chars)


def _survivor(passage: Passage, removed: set[str], old: Stored) -> Passage | None:
    """The passage without places in documents that are `removed`; None where no place is left."""
    places = tuple(origin for origin in passage.duplicates if origin.doc_id not in removed)
    if passage.doc_id not in removed:
        return passage if len(places) == len(passage.duplicates) else replace(passage, duplicates=places)
    if not places:
        return None
    first, *others = places
    document = old.document(first.doc_id)
    if document is None:
        raise KeyError(first.doc_id)  # an index that was published is sound
    return Passage(
        passage_id=first.passage_id,
        doc_id=first.doc_id,
        text=document.text[first.start : first.end],
        start=first.start,
        end=first.end,
        page=first.page,
        title=document.title,
        metadata=document.metadata,
        duplicates=tuple(others),
    )


def _digest(passage: Passage) -> bytes:
    return blake2b(passage_text(passage).encode("utf-8", "surrogatepass"), digest_size=16).digest()
