"""What a question may see of an index: its filters and its excluded ids decide, for a search and for who looks around.

A branch whose every leaf is hidden is not there; one of which something is hidden has the titles and lines that are
left of it, since its own may speak of the rest. A text that stands in several places is shown under the name of one
that may be seen; the id of its node is a handle, and stays. A document keeps its length, and spaces stand where a
passage is hidden. Nobody can tell what is hidden from what does not exist. Tested in
tests/surfaces/server/test_sight.py and tests/agent/test_judge_model.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from branchwise.stores.errors import IndexMissing
from branchwise.stores.index import Index, satisfies
from branchwise.stores.records import Document, Metadata, Origin, Passage, Question

MOST_LINES = 24
"""Lines at most where a summary is put together from parts, each of about 30 words."""
MOST_TITLES = 3
"""Titles at most that name a branch of which something is hidden."""


class Sight:
    """An index as `question` may see it. Every method raises IndexMissing for an id that is unknown or hidden."""

    def __init__(self, index: Index, question: Question) -> None:
        self.index = index
        self.question = question
        self._allowed = index.allowed_rows(question.filters, question.excluded_ids)
        self._whole = index.whole_rows(question.filters, question.excluded_ids)

    @property
    def root_id(self) -> str | None:
        """The root, if anything below it may be seen."""
        root = self.index.tree.root_id
        return root if root is not None and self.leaves(root) else None

    def leaves(self, node_id: str) -> int:
        """How many leaves below a node (itself, if it is one) may be seen."""
        rows = self.index.tree.leaf_rows(node_id)
        return len(rows) if self._allowed is None else int(self._allowed[rows].sum())

    def children(self, node_id: str) -> list[str]:
        """The children of which something may be seen."""
        self.check(node_id)
        return [child for child in self.index.tree.children(node_id) if self.leaves(child)]

    def check(self, node_id: str) -> None:
        """Nothing, for a node of which something may be seen."""
        if node_id not in self.index.tree or not self.leaves(node_id):
            raise IndexMissing(f"there is no node {node_id!r} in this index")

    def title(self, node_id: str) -> str:
        """The title; of a branch that is partly hidden, those of the first nodes below it that are not."""
        if self._is_whole(node_id):
            return self.index.tree.node(node_id).title
        leaf = self._leaf(node_id)
        return leaf.title if leaf else "; ".join(self._titles(node_id)[:MOST_TITLES])

    def text(self, node_id: str) -> str:
        """A leaf's passage or a branch's summary; of a branch that is partly hidden, the lines on what is left."""
        if self._is_whole(node_id):
            return self.index.texts([node_id])[node_id]
        leaf = self._leaf(node_id)
        return leaf.text if leaf else "\n".join(self._lines(node_id)[:MOST_LINES])

    def texts(self, node_ids: Sequence[str]) -> dict[str, str]:
        """Title and text of each node."""
        self.index.texts([node_id for node_id in node_ids if self._is_whole(node_id)])  # read at once, then kept
        return {
            node_id: join(self.title(node_id), self.text(node_id))
            if self._is_whole(node_id) or self.index.tree.is_leaf(node_id)
            else self.text(node_id)
            for node_id in node_ids
        }

    def passage_id(self, node_id: str) -> str | None:
        """The passage of a leaf, under the name that may be seen; None for a branch."""
        leaf = None if self._is_whole(node_id) else self._leaf(node_id)
        return leaf.passage_id if leaf else self.index.tree.node(node_id).passage_id

    def passage(self, passage_id: str) -> Passage:
        """A passage by its id."""
        found = self.index.passages([passage_id]).get(passage_id)
        seen = self.named(found) if found else None
        if seen is None or seen.passage_id != passage_id:
            raise IndexMissing(f"there is no passage {passage_id!r} in this index")
        return seen

    def named(self, passage: Passage) -> Passage | None:
        """The passage under a name that may be seen: where its first place is hidden, that of a duplicate; or None."""
        if self._allowed is None:
            return passage
        index = self.index
        seen = [o for o in passage.duplicates if self._may_see(o, index.document(o.doc_id).metadata)]
        if self._may_see(passage, passage.metadata or index.document(passage.doc_id).metadata):
            return replace(passage, duplicates=tuple(seen))
        return _standing_at(index, seen[0], passage, tuple(seen[1:])) if seen else None

    def document(self, doc_id: str) -> tuple[Document, list[tuple[int, int]]]:
        """The document, and where something in it is hidden."""
        missing = IndexMissing(f"there is no document {doc_id!r} in this index")
        try:
            document = self.index.document(doc_id)
        except IndexMissing:
            raise missing from None
        if self._allowed is None:
            return document, []
        hidden: list[tuple[int, int]] = []
        seen = 0
        for passage in self.index.passages_of(doc_id):
            places: tuple[Passage | Origin, ...] = (passage, *passage.duplicates)
            for place in (place for place in places if place.doc_id == doc_id):
                own = passage.metadata if place is passage else {}
                if self._may_see(place, own or document.metadata):
                    seen += 1
                else:
                    hidden.append((place.start, place.end))
        if not seen:
            raise missing
        text = document.text
        for start, end in hidden:
            text = text[:start] + " " * (end - start) + text[end:]
        return replace(document, text=text), sorted(hidden)

    def _is_whole(self, node_id: str) -> bool:
        """True where nothing below a node is hidden: its title and its text can be shown as they were written."""
        return self._whole is None or bool(self._whole[self.index.tree.leaf_rows(node_id)].all())

    def _may_see(self, place: Passage | Origin, metadata: Metadata) -> bool:
        hidden = self.question.excluded_ids
        if place.passage_id in hidden or place.doc_id in hidden:
            return False
        return satisfies(metadata, self.question.filters)

    def _leaf(self, node_id: str) -> Passage | None:
        passage_id = self.index.tree.node(node_id).passage_id
        if passage_id is None:
            return None
        self.check(node_id)
        return self.named(self.index.passage(passage_id))

    def _titles(self, node_id: str) -> list[str]:
        """Titles of the highest nodes below this one of which nothing is hidden, and of the leaves that may be seen."""
        titles: list[str] = []
        for child in self.children(node_id):
            if len(titles) >= MOST_TITLES:
                break
            one = self._is_whole(child) or self.index.tree.is_leaf(child)
            titles.extend([self.title(child)] if one else self._titles(child))
        return titles

    def _lines(self, node_id: str) -> list[str]:
        """A line on each child of which nothing is hidden, and the lines of those of which something is left."""
        said = {part.child_id: part.text for part in self.index.node(node_id).parts}
        lines: list[str] = []
        for child in self.children(node_id):
            if self._is_whole(child):
                lines.append(f"- {said.get(child) or self.title(child)}")
            elif self.index.tree.is_leaf(child):
                lines.append(f"- {self.title(child)}")
            elif len(lines) < MOST_LINES:
                lines.extend(self._lines(child))
        return lines


def join(title: str, text: str) -> str:
    """Title, then text, without saying the title twice."""
    return text if not title or text.startswith(title) else f"{title}\n{text}" if text else title


def _standing_at(index: Index, origin: Origin, passage: Passage, others: tuple[Origin, ...]) -> Passage:
    document = index.document(origin.doc_id)
    return replace(
        passage,
        passage_id=origin.passage_id,
        doc_id=origin.doc_id,
        text=document.text[origin.start : origin.end],
        start=origin.start,
        end=origin.end,
        title=document.title,
        page=origin.page,
        metadata=document.metadata,
        duplicates=others,
    )
