"""What a reader is: a question and the passages found for it in, an answer whose every citation is checked out.

Readers: read_extractive.ExtractiveReader (embedded, the passages' own sentences), read_model.ModelReader (a language
model, checked by code). Neither searches. Tested in tests/agent/test_reader.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from branchwise.agent.citations import verify
from branchwise.stores.records import Citation, Document, Hit, Passage, Question, Usage

if TYPE_CHECKING:
    from branchwise.prompts.budget import Meter
    from branchwise.stores.embedding import Embedder
    from branchwise.stores.lexical import LexicalIndex

NOT_FOUND = "Not found in these documents."
"""The whole text of an answer that nothing supports (`found` is False)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader made of the hits.

    `text` refers to citations as [number]; `conflicts` are pairs of citation numbers that contradict each other.
    `written_by` is "extractive" or the model's name; `notes` says what went wrong on the way, one line each.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    found: bool = True
    usage: Usage = field(default_factory=Usage)
    conflicts: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    written_by: str = "extractive"


class Library(Protocol):
    """What a reader asks of an index (stores.index.Index is one)."""

    @property
    def embedder(self) -> Embedder:
        """Turns texts into unit rows."""
        ...

    @property
    def lexical(self) -> LexicalIndex:
        """BM25 with the corpus' statistics."""
        ...

    def document(self, doc_id: str) -> Document:
        """The document as stored; raises IndexMissing."""
        ...

    def passage(self, passage_id: str) -> Passage:
        """The passage as stored; raises IndexMissing."""
        ...


class Reader(Protocol):
    """Writes an answer from passages."""

    name: str

    async def read(
        self,
        question: Question,
        hits: Sequence[Hit],
        library: Library,
        *,
        meter: Meter | None = None,
        on_token: Callable[[str], None] | None = None,
    ) -> Reading:
        """The answer; `on_token` receives its text piece by piece, and the pieces joined are the answer's text.

        No hits, or none that supports an answer: `found` is False. A model that fails, or that `meter` leaves no room
        for, is stood in for by quotes and a note; it is never an answer that was not found.
        """
        ...


def not_found(notes: Sequence[str] = (), *, usage: Usage | None = None, written_by: str = "extractive") -> Reading:
    """The reading of hits that support no answer."""
    return Reading(text=NOT_FOUND, found=False, notes=tuple(notes), usage=usage or Usage(), written_by=written_by)


def verified(citations: Sequence[Citation], library: Library) -> tuple[Citation, ...]:
    """Those citations that the stored documents bear out, in order."""
    documents = {doc_id: library.document(doc_id) for doc_id in {citation.doc_id for citation in citations}}
    return tuple(citation for citation in citations if verify(citation, documents[citation.doc_id]))
