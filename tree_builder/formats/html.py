"""HTML as text that a person would read: blocks as paragraphs, headings as Markdown headings, code as it stands.

Of a page that marks its main part only that is read; scripts, styles, navigation and forms are left out. Nothing is
fetched, nothing is executed. Tested in tests/tree_builder/test_formats.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import PurePosixPath

from branchwise.stores.records import Document
from branchwise.tree_builder.formats.file import SourceFile, clean

# ruff: noqa: SIM905, written out these lists would take a line a word
_DROPPED = frozenset(
    "script style noscript template svg math iframe object canvas nav button select textarea dialog".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body dd details div dl dt fieldset figcaption figure footer form header hr html "
    "main ol p pre section summary table tbody tfoot thead tr ul".split()
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_UNSEEN = re.compile(
    r"<(?P<raw>script|style)\b.*?(?:</(?P=raw)\s*>|\Z)|<!--.*?(?:-->|\Z)|<[!?][^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_UNFINISHED = re.compile(r"<(?=[^<>]*(?:<|\Z))")
_LINE_BREAK = "\u2028"
_HEAD = 8192


def read_html(file: SourceFile) -> Iterator[Document]:
    """The page as one document; its title is the only <h1>, or else <title>, or else the file's name."""
    with file.path.open("rb") as handle:
        charset = _CHARSET.search(handle.read(_HEAD))
    page, encoding = file.text(declared=charset[1].decode("ascii") if charset else None)
    reader = _Reader()
    # The parser takes quadratic time over unfinished comments and tags, so it is given none.
    reader.feed(_UNFINISHED.sub("&lt;", _UNSEEN.sub("", page)))
    reader.close()
    lines = reader.lines()
    headings = [line.removeprefix(_HEADINGS["h1"]) for line in lines if line.startswith(_HEADINGS["h1"])]
    title = headings[0] if len(headings) == 1 else " ".join("".join(reader.titles).split())
    yield Document(
        doc_id=file.source,
        text=clean("\n".join(lines).strip()),
        title=clean(title) or PurePosixPath(file.source).stem,
        source=file.source,
        metadata=encoding if not charset else {},
    )


class _Reader(HTMLParser):
    """Gathers lines; `_line` is the one being written, `_dropped` the element left out, `_depth` deep in itself."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.titles: list[str] = []
        self._main: slice | None = None
        self._lines: list[str] = []
        self._line: list[str] = []
        self._prefix = ""
        self._dropped = ""
        self._depth = 0
        self._in_title = False
        self._in_pre = False

    def lines(self) -> list[str]:
        """All that was read, or the main part of it; blocks are an empty line apart."""
        self._end_line()
        main = self._lines[self._main] if self._main else []
        return main if any(main) else self._lines

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a block, or leave out what follows."""
        if self._dropped:
            self._depth += tag == self._dropped
        elif tag in _DROPPED:
            self._dropped = tag
        elif tag == "title":
            self._in_title = True
        elif tag == "br":
            self._line.append(_LINE_BREAK)
        elif tag in ("td", "th"):
            self._line.append(" | " if self._line else "")
        elif tag == "li":
            self._end_line(blank=False)
            self._prefix = "- "
        elif tag in _HEADINGS:
            self._end_line()
            self._prefix = _HEADINGS[tag]
        elif tag in _BLOCKS:
            self._end_line(blank=tag != "tr")
            self._in_pre = self._in_pre or tag == "pre"
            if tag == "main" and self._main is None:
                self._main = slice(len(self._lines), None)

    def handle_endtag(self, tag: str) -> None:
        """End a block, or what was left out."""
        if self._dropped:
            if tag == self._dropped:
                self._dropped = tag if self._depth else ""
                self._depth = max(0, self._depth - 1)
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS or tag == "li":
            self._end_line(blank=tag != "li")
            self._prefix = ""
        elif tag in _BLOCKS:
            self._end_line(blank=tag != "tr")
            self._in_pre = self._in_pre and tag != "pre"
            if tag == "main" and self._main is not None and self._main.stop is None:
                self._main = slice(self._main.start, len(self._lines))

    def handle_data(self, data: str) -> None:
        """Text between tags, character references already resolved."""
        if self._in_title:
            self.titles.append(data)
        elif not self._dropped and (self._line or self._in_pre or not data.isspace()):
            self._line.append(data)

    def _end_line(self, *, blank: bool = True) -> None:
        """Write down the line gathered so far; `blank` sets off as a paragraph what comes next."""
        written = "".join(self._line)
        self._line.clear()
        if written.strip():
            self._lines.append(self._code(written) if self._in_pre else self._prose(written))
            self._prefix = ""
        if blank and self._lines and self._lines[-1]:
            self._lines.append("")

    def _prose(self, written: str) -> str:
        lines = [" ".join(line.split()) for line in written.split(_LINE_BREAK)]
        if self._prefix in _HEADINGS.values():
            lines = [" ".join(filter(None, lines))]
        return self._prefix + "\n".join(filter(None, lines))

    def _code(self, written: str) -> str:
        code = written.replace(_LINE_BREAK, "\n").strip("\n")
        return f"```\n{code}\n```" if "\n" in code else code
