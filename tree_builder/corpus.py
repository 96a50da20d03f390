"""From sources to passages: documents read, cut and freed of duplicates, with everything that could not be used.

What is read goes to disk at once, into the file that an index is published with. The order of the documents decides the
order of leaves. Knows no vectors and no tree. Tested in tests/tree_builder/test_corpus.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from branchwise.stores.database import DatabaseWriter
from branchwise.stores.errors import InputError
from branchwise.stores.records import Document, Passage
from branchwise.stores.rows import titled
from branchwise.tree_builder.chunk import chunk
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.duplicates import find_duplicates
from branchwise.tree_builder.events import EventStream
from branchwise.tree_builder.sources import Skipped, read_sources

Sources = Sequence[Path | str] | Iterable[Document]
SHOWN_ONE_BY_ONE = 1_000
"""Documents that are announced each by itself; of later ones every thousandth."""
_EITHER = "Sources are paths or documents, not both."


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, their passages (duplicates merged) with the texts that stand for these, and what was left out.

    The sequences are read from disk whenever they are asked for: a corpus need not fit into memory.
    """

    documents: Sequence[Document]
    passages: Sequence[Passage]
    texts: Sequence[str]
    hash: str
    skipped: tuple[Skipped, ...] = ()


def read_corpus(sources: Sources, config: BuildConfig, events: EventStream, database: DatabaseWriter) -> Corpus:
    """Read every document into `database`, cut it and merge duplicates. Of equal ids the later document is left out.

    `sources` are paths, or documents themselves (an iterator of them is read as it goes). Raises InputError where paths
    hold nothing that can be used.
    """
    skipped: list[Skipped] = []

    def skip(what: Skipped) -> None:
        skipped.append(what)
        events.emit("skipped", where=what.where, why=what.why)

    documents = cut_passages = 0
    for document in _documents(sources, skip):
        cut = chunk(document, max_chars=config.max_chars, min_chars=config.min_chars)
        if clash := database.taken(document, cut):
            of_whom = "by an earlier document" if clash == document.doc_id else "by a passage of an earlier document"
            skip(Skipped(where=document.source or document.doc_id, why=f"the id {clash!r} is taken {of_whom}"))
            continue
        documents += database.add_documents([document])
        cut_passages += database.add_passages(cut)
        if documents < SHOWN_ONE_BY_ONE or documents % SHOWN_ONE_BY_ONE == 0:
            events.emit("source", done=documents, total=None, doc_id=document.doc_id)
    merge_into(database, config)
    passages = database.passages()
    events.emit(
        "chunked",
        documents=documents,
        passages=len(passages),
        duplicates=cut_passages - len(passages),
        done=cut_passages,
        total=cut_passages,
    )
    return Corpus(database.documents(), passages, database.texts(), database.corpus_hash(), tuple(skipped))


@contextmanager
def corpus_aside(sources: Sources, config: BuildConfig, events: EventStream) -> Iterator[Corpus]:
    """The corpus in a place of its own, for as long as the block lasts; raises what `read_corpus` does."""
    with TemporaryDirectory(prefix="branchwise-") as folder, DatabaseWriter(Path(folder)) as database:
        yield read_corpus(sources, config, events, database)


def merge_into(database: DatabaseWriter, config: BuildConfig) -> None:
    """Merge the duplicates among the passages of `database` as `config` says."""
    if config.duplicate_similarity:
        database.merge(find_duplicates(database.passages(), threshold=config.duplicate_similarity).tolist())


def passage_text(passage: Passage) -> str:
    """What is embedded and indexed of a passage."""
    return titled(passage.title, passage.text)


def group_of(passage: Passage) -> str:
    """What the passage is a part of: its document, or the work that metadata "group" says the document is a part of."""
    return str(passage.metadata.get("group", passage.doc_id))


def _documents(sources: Sources, skip: Callable[[Skipped], None]) -> Iterator[Document]:
    """The documents given, or those that the paths given hold; the first item tells which."""
    given: Iterator[Path | str | Document] = iter([sources] if isinstance(sources, str | Path) else sources)
    first = next(given, None)
    if first is None:
        return
    if isinstance(first, Document):
        yield first
        for source in given:
            if not isinstance(source, Document):
                raise InputError(_EITHER)
            yield source
        return
    paths = [first, *given]
    if any(isinstance(source, Document) for source in paths):
        raise InputError(_EITHER)
    yield from read_sources([Path(str(source)) for source in paths], on_skip=skip)
