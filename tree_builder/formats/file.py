"""One file to read, what may be wrong with it, and how its bytes become text.

Knows nothing of folders, kinds of file or ids. Tested in tests/tree_builder/test_formats.py.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from branchwise.stores.records import Metadata, Scalar

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 8192
_BLOCK = 1 << 20
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAX_INTEGER = 2**63


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or a line that was left out: `where` is "file" or "file:line", `why` half a sentence."""

    where: str
    why: str


class UnreadableError(Exception):
    """This file cannot be read; the message is the `why` of a Skipped. Never leaves tree_builder.sources."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file. `source` names it relative to the root it was found in, with "/" on every system.

    `max_bytes` is the most that may be held in memory at once: a whole text file, or one line of a .jsonl.
    """

    path: Path
    source: str
    max_bytes: int

    def text(self, declared: str | None = None) -> tuple[str, Metadata]:
        """The whole text with "\\n" as line end, and {"encoding": ...} where that had to be guessed."""
        if self.path.stat().st_size > self.max_bytes:
            raise UnreadableError(f"over the limit of {self.max_bytes:,} bytes a file")
        encoding = find_encoding(self.path, declared)
        guessed = not encoding.startswith("utf")
        return clean(self.path.read_text(encoding=encoding)), {"encoding": encoding} if guessed else {}


def find_encoding(path: Path, declared: str | None = None) -> str:
    """The encoding of a text file, from its byte-order mark, or the first that decodes all of it.

    Tried are UTF-8, what the file itself declares, and Windows-1252. Raises UnreadableError for binary files and for
    text in none of these.
    """
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
        for mark, encoding in _BYTE_ORDER_MARKS:
            if head.startswith(mark):
                if not _decodes(handle, encoding):
                    raise UnreadableError(f"damaged: its mark says {encoding.removesuffix('-sig').upper()}")
                return encoding
        control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
        if b"\x00" in head or control > len(head) // 50:
            raise UnreadableError("binary, not text")
        for encoding in filter(None, ("utf-8", declared, "cp1252")):
            if _decodes(handle, encoding):
                return encoding
    raise UnreadableError("neither UTF-8 nor Windows-1252: save it as UTF-8")


def _decodes(handle: BinaryIO, encoding: str) -> bool:
    handle.seek(0)
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        while block := handle.read(_BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except (UnicodeError, LookupError):
        return False
    return True


def clean(text: str) -> str:
    """The text with what no store can keep (NUL, lone surrogates) replaced by U+FFFD, one for one."""
    return _UNSTORABLE.sub("\ufffd", text)


def scalars(record: Mapping[str, object]) -> dict[str, Scalar]:
    """The entries of a decoded JSON object that metadata can hold: text, numbers, true and false.

    Lists, objects, null and NaN are left out; a whole number beyond 64 bits is kept as text.
    """
    kept: dict[str, Scalar] = {}
    for key, value in record.items():
        if isinstance(value, str):
            kept[clean(key)] = clean(value)
        elif isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
            kept[clean(key)] = str(value)
        elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            kept[clean(key)] = value
    return kept
