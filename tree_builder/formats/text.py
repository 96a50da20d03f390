"""Plain text, Markdown and reStructuredText: the text as it stands, with front matter taken out as metadata.

Knows nothing of how text is cut. Tested in tests/tree_builder/test_formats.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath

from branchwise.stores.records import Document, Scalar
from branchwise.tree_builder.formats.file import SourceFile
from branchwise.tree_builder.headings import find_headings

_FRONT_MATTER = re.compile(r"---[ \t]*\n((?:.*\n){0,200}?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_ENTRY = re.compile(r"([A-Za-z][\w.-]*)[ \t]*:[ \t]+(\S.*)")
_LIST_OR_BLOCK = ("[", "{", "|", ">", "&", "*", "!")
_TITLE_WITHIN = 2000
"""Characters: a first heading further down is that of a section, not of the document."""


def read_text(file: SourceFile) -> Iterator[Document]:
    """The file as one document, titled by its front matter, its first heading or its name."""
    text, encoding = file.text()
    metadata: dict[str, Scalar] = {}
    if file.path.suffix.lower() in (".md", ".markdown") and (match := _FRONT_MATTER.match(text)):
        metadata = front_matter(match[1])
        text = text[match.end() :]
    title = str(metadata.pop("title", "")) or title_of(text, file.source)
    yield Document(doc_id=file.source, text=text, title=title, source=file.source, metadata={**metadata, **encoding})


def title_of(text: str, source: str) -> str:
    """The first heading near the top of the text, or else the file's name without its ending."""
    for heading in islice(find_headings(text[:_TITLE_WITHIN]), 1):
        return heading.title
    return PurePosixPath(source).stem


def front_matter(block: str) -> dict[str, Scalar]:
    """The `key: value` lines of a YAML front matter; lists and nested values are left out."""
    entries: dict[str, Scalar] = {}
    for line in block.splitlines():
        match = _ENTRY.fullmatch(line.rstrip())
        if match and not match[2].startswith(_LIST_OR_BLOCK):
            entries[match[1]] = _scalar(match[2])
    return entries


def _scalar(value: str) -> Scalar:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    value = value.split(" #")[0].rstrip()
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"-?(?:0|[1-9]\d{0,17})", value):
        return int(value)
    return float(value) if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", value) else value
