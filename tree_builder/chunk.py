"""Cut a document into passages: exact spans that together hold every character of it except the spaces between.

A section with everything below it stays whole where it fits; a longer one is cut into pieces of about equal size at
the best place near each ideal cut: between paragraphs, lines, sentences, clauses, words, and only then anywhere.
Works on text alone, knows no file formats and no languages. Time is linear in the text.
Tested in tests/tree_builder/test_chunk.py.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from branchwise.stores.errors import InputError
from branchwise.stores.records import Document, Passage
from branchwise.tree_builder.headings import find_headings

MAX_CHARS = 2000
"""About 500 tokens of English: what a judge reads of a passage in one slate, and one thought of most prose."""
MIN_CHARS = 400
"""Below this a section is a heading or a remark, and joins its neighbour."""

_PLACES = (
    re.compile(r"\n[ \t\r]*\n\s*|\f\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"""(?:[.!?…؟।។](?:["'”’»)\]]*\s+)|[。！？｡](?:["'”’」』）]*\s*))"""),
    re.compile(r"[,;:]\s+|[，、；：]\s*"),
    re.compile(r"\s+"),
)
"""Where a text may be cut, the best kind first; a cut falls at the end of the match."""


@dataclass(frozen=True, slots=True)
class _Section:
    """A stretch under one heading (or before the first, level 0), with the titles of the headings above it."""

    start: int
    end: int
    level: int
    path: tuple[str, ...]


def chunk(document: Document, *, max_chars: int | None = MAX_CHARS, min_chars: int = MIN_CHARS) -> list[Passage]:
    """The passages of `document` in reading order, none longer than `max_chars`, few shorter than `min_chars`.

    A document that fits, or any document when `max_chars` is None, is one passage with the document's own id; the
    passages of a longer one are called "<doc_id>#0", "<doc_id>#1", ... A passage's title is the document's title and
    the headings that hold for all of it, joined by " > ". A document of spaces alone has no passages.
    Raises InputError when the sizes do not fit each other.
    """
    if max_chars is not None and not (0 <= min_chars <= max_chars // 2 and max_chars > 0):
        raise InputError(
            f"passages of {min_chars} to {max_chars} characters: the least may be at most half of the most"
        )
    text = document.text
    start, end = _trim(text, 0, len(text))
    if start == end:
        return []
    if max_chars is None or end - start <= max_chars:
        return [_passage(document, document.doc_id, start, end, 0, ())]
    sections = _sections(text)
    spans = [
        piece for unit in _units(text, sections, max_chars, min_chars) for piece in _pieces(text, *unit, max_chars)
    ]
    starts = [section.start for section in sections]
    passages = []
    for position, (start, end) in enumerate(spans):
        inside = sections[bisect_right(starts, start) - 1 : bisect_right(starts, end - 1)]
        path = _common_path([section.path for section in inside])
        passages.append(_passage(document, f"{document.doc_id}#{position}", start, end, position, path))
    return passages


def _passage(
    document: Document, passage_id: str, start: int, end: int, position: int, path: tuple[str, ...]
) -> Passage:
    title, heading = document.title.casefold(), path[0].casefold() if path else ""
    if title.startswith(heading) or title.endswith(heading):
        path = path[1:]  # the document's title says it already
    return Passage(
        passage_id=passage_id,
        doc_id=document.doc_id,
        text=document.text[start:end],
        start=start,
        end=end,
        title=" > ".join(filter(None, (document.title, *path))),
        page=max(1, bisect_right(document.page_starts, start)) if document.page_starts else None,
        position=position,
        metadata=document.metadata,
    )


def _sections(text: str) -> list[_Section]:
    """The text cut before every heading; together they cover it."""
    headings = list(find_headings(text))
    ends = [heading.start for heading in headings] + [len(text)]
    sections = [_Section(0, ends[0], 0, ())] if ends[0] > 0 else []
    above: list[tuple[int, str]] = []
    for heading, end in zip(headings, ends[1:], strict=True):
        while above and above[-1][0] >= heading.level:
            above.pop()
        above.append((heading.level, heading.title))
        sections.append(_Section(heading.start, end, heading.level, tuple(title for _, title in above)))
    return sections


def _units(text: str, sections: list[_Section], max_chars: int, min_chars: int) -> Iterator[tuple[int, int]]:
    """Spans to be passages, or to be cut further: whole subtrees of sections that fit, else sections one by one.

    A span shorter than `min_chars` joins the next one, even one that must be cut anyway (so that a heading goes with
    its text), or else the one before, if the two fit.
    """
    pending: tuple[int, int] | None = None
    for start, end in _subtrees(text, sections, max_chars):
        if pending is None:
            pending = (start, end)
            continue
        joined = end - pending[0] <= max_chars
        if pending[1] - pending[0] < min_chars:
            joined = joined or end - start > max_chars
        elif end - start >= min_chars:
            joined = False
        if joined:
            pending = (pending[0], end)
        else:
            yield pending
            pending = (start, end)
    if pending is not None:
        yield pending


def _subtrees(text: str, sections: list[_Section], max_chars: int) -> Iterator[tuple[int, int]]:
    """For each section in turn: it and all below it if that fits, otherwise its own text alone. Empty ones are left."""
    last = _last_below(sections)
    position = 0
    while position < len(sections):
        start, whole_end = _trim(text, sections[position].start, sections[last[position]].end)
        if whole_end - start <= max_chars:
            end, position = whole_end, last[position] + 1
        else:
            end = _trim(text, start, sections[position].end)[1]
            position += 1
        if start < end:
            yield start, end


def _last_below(sections: list[_Section]) -> list[int]:
    """For each section the position of the last one in its subtree (itself, if nothing is below)."""
    last = list(range(len(sections)))
    open_sections: list[int] = []
    for position, section in enumerate([*sections, _Section(0, 0, 0, ())]):
        while open_sections and sections[open_sections[-1]].level >= section.level:
            last[open_sections.pop()] = position - 1
        open_sections.append(position)
    return last


def _pieces(text: str, start: int, end: int, max_chars: int) -> Iterator[tuple[int, int]]:
    """`text[start:end]` in pieces of at most `max_chars`, about equal in size, none beginning or ending in a space."""
    while end - start > max_chars:
        pieces = -(-(end - start) // max_chars)
        ideal = start + (end - start) // pieces
        slack = min(max_chars - (ideal - start), (ideal - start) // 3)
        cut = _best_cut(text, ideal, (ideal - start) // 3, slack)
        yield _trim(text, start, cut)
        start = _trim(text, cut, end)[0]
    if start < end:
        yield start, end


def _best_cut(text: str, ideal: int, before: int, after: int) -> int:
    """The place nearest to `ideal`, of the best kind there is from `before` characters before it to `after` behind."""
    low, high = ideal - before, ideal + after
    for place in _PLACES:
        cuts = [match.end() for match in place.finditer(text, low, high + 1) if match.end() <= high]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - ideal))
    cut = ideal
    while cut > low and _belongs_to_the_one_before(text, cut):
        cut -= 1
    return cut


def _belongs_to_the_one_before(text: str, position: int) -> bool:
    """True for accents, joiners and the like: a cut before them would tear a visible character apart."""
    return (
        unicodedata.category(text[position]) in ("Mn", "Mc", "Me", "Cf")
        or text[position - 1] == "\u200d"
        or text[position - 1 : position + 1] == "\r\n"
    )


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the spaces at its two ends; start == end when nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _common_path(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    common = paths[0]
    for path in paths[1:]:
        shared = 0
        while shared < min(len(common), len(path)) and common[shared] == path[shared]:
            shared += 1
        common = common[:shared]
    return common
