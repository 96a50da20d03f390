"""Find the headings of a text: Markdown `#`, and titles underlined as in Setext and reStructuredText.

HTML and office files come here already written as Markdown headings. Knows nothing of files or passages. A heading
stands after an empty line (or another heading) and outside fenced code, so that neither a comment in a code sample
nor the rule of a table is taken for one. Tested in tests/tree_builder/test_chunk.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_TITLE = 200
"""Characters; a longer line is a paragraph, whatever stands before or below it."""

_CANDIDATE = re.compile(
    r"""^(?:
        (?P<fence>\ {0,3}```+)
      | \ {0,3}(?P<hashes>\#{1,6})[ \t]+(?P<title>[^\s\#].*)
      | (?P<rule>(?P<char>[=\-~^"'`\#*+.:_<>])(?P=char){2,})[ \t]*\r?$
    )""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at `text[start:end]`, its underline included; `level` 1 is the highest."""

    start: int
    end: int
    level: int
    title: str


def find_headings(text: str) -> Iterator[Heading]:
    """All headings in order of appearance, in time linear in the text.

    Levels of underlined titles follow reStructuredText: the first style met is level 1, the next new one level 2, ...
    """
    styles: list[tuple[str, bool]] = []
    fence = ""
    last_end = -1
    for match in _CANDIDATE.finditer(text):
        if match["fence"]:
            mark = match["fence"].lstrip()
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif not fence and match.start() >= last_end:
            heading = _hashed(match) if match["hashes"] else _underlined(text, match, styles)
            if heading is not None and _begins_block(text, heading.start, last_end):
                yield heading
                last_end = heading.end


def _hashed(match: re.Match[str]) -> Heading | None:
    title = match["title"].rstrip().rstrip("#").rstrip()
    if not title or len(title) > LONGEST_TITLE:
        return None
    return Heading(match.start(), match.end(), len(match["hashes"]), title)


def _underlined(text: str, match: re.Match[str], styles: list[tuple[str, bool]]) -> Heading | None:
    """The heading that this rule underlines, if any; a style not met before is added to `styles`."""
    rule, char = match["rule"], match["char"]
    start = _line_before(text, match.start())
    if start is None:
        return None
    line = text[start : match.start()]
    title = line.strip()
    if not any(c.isalnum() for c in title) or line[0].isspace():
        return None
    if len(rule) < len(title) and char not in "=-":  # Setext allows short rules of these two, reStructuredText of none
        return None
    over = _line_before(text, start)
    overlined = over is not None and text[over:start].rstrip() == rule
    if overlined and over is not None:
        start = over
    if (char, overlined) not in styles:
        styles.append((char, overlined))
    return Heading(start, match.end(), styles.index((char, overlined)) + 1, title)


def _begins_block(text: str, start: int, last_end: int) -> bool:
    """True where the start of the text, an empty line or another heading (ending at `last_end`) stands just before."""
    before = _line_before(text, start)
    if before is None:
        return start == 0
    return before <= last_end or text[before:start].isspace()


def _line_before(text: str, start: int) -> int | None:
    """Where the line before the one at `start` begins; None for none, or for one too long to be a title."""
    if start == 0:
        return None
    floor = max(0, start - LONGEST_TITLE - 2)
    newline = text.rfind("\n", floor, start - 1)
    return newline + 1 if newline >= 0 or floor == 0 else None
