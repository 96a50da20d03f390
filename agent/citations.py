"""Citations that hold: every quote is found in the stored text by code, whatever a model claims to have read.

A quote is looked for exactly, then regardless of case, white space and typography, then nearly, and only where one
place fits and its figures agree. What is cited is always the document's own text at that place, never the model's
wording. Knows nothing of models or prompts. Tested in tests/agent/test_citations.py.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher

from branchwise.agent.words import NEGATIONS
from branchwise.stores.records import Citation, Document, Passage

Span = tuple[int, int]
"""Half-open, in characters."""

MIN_SIMILARITY = 0.8
"""Share of words, in order, that a near match has in common with the quote (difflib's ratio)."""
MIN_LEAD = 0.1
"""By how much the best place must beat every other one, else the quote is ambiguous and found nowhere."""
MIN_WORDS = 4
"""A shorter quote must stand in the text as it is: too little is left to tell a near match from chance."""

_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.{3}|…)\s*\]|\.{3,}|…)\s*")
_WORD = re.compile(r"\w+")
_SAME = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
    }
)


def cite(number: int, passage: Passage, span: Span) -> Citation:
    """A citation of `span`, given in characters of the document and lying within the passage."""
    start, end = span
    return Citation(
        number=number,
        passage_id=passage.passage_id,
        doc_id=passage.doc_id,
        start=start,
        end=end,
        quote=passage.text[start - passage.start : end - passage.start],
        title=passage.title,
        page=passage.page,
    )


def page_of(document: Document, start: int) -> int | None:
    """The page, from 1, on which the character `start` stands; None where the document has no pages."""
    return sum(1 for first in document.page_starts if first <= start) or None


def verify(citation: Citation, document: Document) -> bool:
    """Whether the citation is true: this document, this span, this very text, the page if there are pages."""
    return (
        citation.doc_id == document.doc_id
        and 0 <= citation.start < citation.end <= len(document.text)
        and document.text[citation.start : citation.end] == citation.quote
        and (not document.page_starts or citation.page in (None, page_of(document, citation.start)))
    )


def locate_quote(quote: str, passage: Passage) -> Span | None:
    """Where `quote` stands in the document, as a span of the document, or None where code cannot find it.

    Tried in turn: the exact text; the same letters regardless of case, white space, quotation marks and dashes; the
    parts around an ellipsis, in order; the one stretch of words that nearly equals it (`MIN_SIMILARITY`, `MIN_LEAD`)
    and holds the same figures and negations.
    """
    quote = quote.strip().strip('"“”«»„')
    found = _exact(quote, passage.text) or _folded(quote, passage.text)
    if found is None and _ELLIPSIS.search(quote):
        found = _elided(quote, passage.text)
    if found is None:
        found = _near(quote, passage.text)
    if found is None:
        return None
    return passage.start + found[0], passage.start + found[1]


def _exact(quote: str, text: str) -> Span | None:
    at = text.find(quote) if quote.strip() else -1
    return None if at < 0 else (at, at + len(quote))


def _folded(quote: str, text: str) -> Span | None:
    """The quote regardless of case, white space and typography; the span is mapped back to the text as it is."""
    wanted, _ = _fold(quote)
    have, origin = _fold(text)
    at = have.find(wanted) if wanted else -1
    return None if at < 0 else (origin[at], origin[at + len(wanted) - 1] + 1)


def _fold(text: str) -> tuple[str, list[int]]:
    """`text` folded, and for each folded character the position it came from."""
    folded: list[str] = []
    origin: list[int] = []
    for position, character in enumerate(text):
        if character.isspace():
            if folded and folded[-1] != " ":
                folded.append(" ")
                origin.append(position)
            continue
        for piece in character.translate(_SAME).casefold():
            folded.append(piece)
            origin.append(position)
    while folded and folded[-1] == " ":
        folded.pop()
        origin.pop()
    return "".join(folded), origin


def _elided(quote: str, text: str) -> Span | None:
    """First to last part of a quote with an ellipsis, where all parts stand in this order and not far apart."""
    parts = [part for part in _ELLIPSIS.split(quote) if part.strip()]
    start, end = -1, 0
    for part in parts:
        found = _folded(part, text[end:])
        if found is None:
            return None
        if start < 0:
            start = end + found[0]
        end += found[1]
    return (start, end) if parts and end - start <= 3 * len(quote) + 200 else None


def _near(quote: str, text: str) -> Span | None:
    """The one stretch of words that nearly equals the quote."""
    wanted = [match.group().casefold() for match in _WORD.finditer(quote)]
    places = [match.span() for match in _WORD.finditer(text)]
    have = [text[start:end].casefold() for start, end in places]
    if len(wanted) < MIN_WORDS or not have:
        return None
    candidates = sorted(_windows(wanted, have), key=lambda window: -_similarity(wanted, have, window))
    best = candidates[0] if candidates else None
    if best is None or _similarity(wanted, have, best) < MIN_SIMILARITY:
        return None
    rivals = (window for window in candidates[1:] if window[1] <= best[0] or window[0] >= best[1])
    rival = next(rivals, None)
    if rival and _similarity(wanted, have, rival) > _similarity(wanted, have, best) - MIN_LEAD:
        return None
    first, last = _trim(wanted, have, best)
    if _facts(wanted) != _facts(have[first:last]):
        return None
    return places[first][0], places[last - 1][1]


def _windows(wanted: list[str], have: list[str]) -> list[Span]:
    """Stretches of the quote's length that share enough words with it to be worth comparing, as word positions."""
    size = min(len(wanted), len(have))
    need = Counter(wanted)
    inside = Counter(have[:size])
    shared = sum((need & inside).values())
    found: list[Span] = []
    for start in range(len(have) - size + 1):
        if start:
            left, entered = have[start - 1], have[start + size - 1]
            shared -= inside[left] <= need[left]
            inside[left] -= 1
            inside[entered] += 1
            shared += inside[entered] <= need[entered]
        if 2 * shared / (len(wanted) + size) >= MIN_SIMILARITY - MIN_LEAD:
            found.append((start, start + size))
    return found


def _similarity(wanted: list[str], have: list[str], window: Span) -> float:
    return SequenceMatcher(None, wanted, have[window[0] : window[1]], autojunk=False).ratio()


def _trim(wanted: list[str], have: list[str], window: Span) -> Span:
    """The window from its first to its last word in common with the quote."""
    matcher = SequenceMatcher(None, wanted, have[window[0] : window[1]], autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    return window[0] + blocks[0].b, window[0] + blocks[-1].b + blocks[-1].size


def _facts(found: list[str]) -> Counter[str]:
    """What a near match may not change: words with figures, and negations."""
    return Counter(word for word in found if word in NEGATIONS or any(letter.isdigit() for letter in word))
