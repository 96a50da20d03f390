"""Files of one document a line: .jsonl (BEIR's corpus.jsonl among them), .csv and .tsv.

A line that cannot be read is reported and the rest is read on. Holds one line at a time. Knows nothing of the other
files of a collection. Tested in tests/tree_builder/test_formats.py.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TextIO

from branchwise.stores.records import Document
from branchwise.tree_builder.formats.file import Skipped, SourceFile, UnreadableError, clean, find_encoding, scalars

ID_KEYS = ("_id", "id", "doc_id", "docid")
TEXT_KEYS = ("text", "contents", "content", "body", "passage", "abstract")
_KNOWN = {*ID_KEYS, *TEXT_KEYS, "title"}
_HEAD = 8192
_BLOCK = 1 << 20
_PART_OF = re.compile(r"(.+)#\d+", re.DOTALL)


def read_jsonl(file: SourceFile) -> Iterator[Document | Skipped]:
    """One document a line: {_id | id, text, title, metadata, any other scalars}.

    An id may be missing ("<file>:<line>" then) and be a number. A line whose id looks like "doc#3" is passage 3 of
    "doc" and gets the metadata group="doc", so that the passages of one document stay together.
    """
    ids: set[str] = set()
    for number, raw in _bounded_lines(file):
        where = f"{file.source}:{number}"
        if raw is None:
            yield Skipped(where, f"over the limit of {file.max_bytes:,} bytes a line")
        elif raw.strip():
            try:
                yield _document(_decode(raw), file.source, where, ids)
            except ValueError as error:
                yield Skipped(where, str(error))


def read_csv(file: SourceFile) -> Iterator[Document | Skipped]:
    """One document a row, under a header row; the separator is the commonest of comma, semicolon and tab in it.

    Columns named as in a .jsonl (in any case of letters) give id, title and text, the others metadata, as text.
    Without a text column the cells, as "column: value" lines, are the text.
    """
    encoding = find_encoding(file.path)
    guessed = {} if encoding.startswith("utf") else {"encoding": encoding}
    csv.field_size_limit(max(csv.field_size_limit(), min(file.max_bytes, 2**31 - 1)))
    ids: set[str] = set()
    with file.path.open(encoding=encoding, newline="") as handle:
        rows = _rows(handle, file.max_bytes)
        _, header = next(rows, (0, "no header row"))
        if isinstance(header, str):
            raise UnreadableError(header)
        columns = [name.strip().lower() if name.strip().lower() in _KNOWN else name.strip() for name in header]
        for number, row in rows:
            where = f"{file.source}:{number}"
            if isinstance(row, str):
                yield Skipped(where, row)
            elif len(row) > len(columns):
                yield Skipped(where, f"{len(row)} cells under {len(columns)} columns")
            elif cells := {name: cell for name, cell in zip(columns, row, strict=False) if cell.strip()}:
                if not any(key in columns for key in TEXT_KEYS):
                    cells["text"] = "\n".join(f"{name}: {cell}" for name, cell in cells.items())
                try:
                    yield _document({**cells, **guessed}, file.source, where, ids)
                except ValueError as error:
                    yield Skipped(where, str(error))


def _bounded_lines(file: SourceFile) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines as bytes, None for one that is too long; the byte-order mark is taken off."""
    with file.path.open("rb") as handle:
        number = 0
        while line := handle.readline(file.max_bytes + 1):
            number += 1
            if number == 1:
                if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00" in line[:_HEAD]:
                    raise UnreadableError("binary or UTF-16: a .jsonl file is UTF-8")
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) > file.max_bytes:
                while not line.endswith(b"\n") and (line := handle.readline(_BLOCK)):
                    pass
                yield number, None
            else:
                yield number, line


def _decode(raw: bytes) -> Mapping[str, object]:
    """The JSON object in a line. Raises ValueError saying what else is there."""
    try:
        record = json.loads(raw.rstrip().decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("JSON, but no object")
    return record


def _document(record: Mapping[str, object], source: str, where: str, ids: set[str]) -> Document:
    """The document that a line describes; its id joins `ids`. Raises ValueError saying what is wrong with it."""
    rest = dict(record)
    id_key = next((key for key in ID_KEYS if rest.get(key) not in (None, "")), None)
    doc_id = rest.pop(id_key) if id_key else where
    if isinstance(doc_id, bool) or not isinstance(doc_id, str | int):
        raise ValueError(f'"{id_key}" is neither text nor a whole number')
    title = rest.pop("title", None) or ""
    if not isinstance(title, str):
        title = str(title)
    text_key = next((key for key in TEXT_KEYS if rest.get(key) not in (None, "")), None)
    text = rest.pop(text_key or "text", "") or ""
    if not isinstance(text, str):
        raise ValueError(f'"{text_key}" is no text')
    text = text if text.strip() else title  # BEIR sets hold documents that are a title alone
    if not text.strip():
        raise ValueError("no text")
    nested = rest.pop("metadata", None)
    metadata = scalars(nested) if isinstance(nested, dict) else {}
    metadata.update(scalars(rest))
    doc_id = clean(str(doc_id))
    if match := _PART_OF.fullmatch(doc_id):
        metadata.setdefault("group", match[1])
    if doc_id in ids:
        raise ValueError(f"the id {doc_id!r} again: the first line with it stands")
    ids.add(doc_id)
    return Document(doc_id=doc_id, text=clean(text), title=clean(title), source=source, metadata=metadata)


def _rows(handle: TextIO, max_chars: int) -> Iterator[tuple[int, list[str] | str]]:
    """Numbered rows, or what is wrong with one; after a row that does not parse, reading goes on at the line below."""
    header = handle.readline(max_chars)
    delimiter = max(",;\t", key=header.count)
    ahead = deque([header] if header else [])
    number = 1
    while True:
        used: list[str] = []
        try:
            row = next(csv.reader(_feed(handle, ahead, used, max_chars), delimiter=delimiter, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"not CSV: {error}"
            ahead.extendleft(reversed(used[1:]))
            number += 1
        else:
            yield number, row
            number += len(used)


def _feed(handle: TextIO, ahead: deque[str], used: list[str], max_chars: int) -> Iterator[str]:
    """Lines for one row: those read ahead first. What was handed out is noted in `used`."""
    while line := ahead.popleft() if ahead else handle.readline(max_chars):
        if len(line) == max_chars and not line.endswith(("\n", "\r")):
            raise UnreadableError(f"a line over the limit of {max_chars:,} characters")
        used.append(line)
        yield line
