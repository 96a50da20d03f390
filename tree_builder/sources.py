"""Read a collection from folders and files, as documents: nothing is lost silently, nothing outside is touched.

What cannot be read is reported and left out, and the rest is read on. Kinds of file are the business of
tree_builder.formats, cutting that of tree_builder.chunk. Tested in tests/tree_builder/test_sources.py.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from branchwise.stores.errors import InputError
from branchwise.stores.records import Document
from branchwise.tree_builder.formats.file import Skipped, SourceFile, UnreadableError, clean
from branchwise.tree_builder.formats.html import read_html
from branchwise.tree_builder.formats.lines import read_csv, read_jsonl
from branchwise.tree_builder.formats.office import read_office, read_pdf
from branchwise.tree_builder.formats.text import read_text

__all__ = ["MAX_FILE_BYTES", "SUFFIXES", "Skipped", "read_sources"]

Reader = Callable[[SourceFile], Iterator[Document | Skipped]]

MAX_FILE_BYTES = 64 * 2**20
"""64 MiB: ten times the longest novels; beyond it a "document" is a dump. One line of a .jsonl has the same limit."""

_READERS: dict[str, Reader] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), read_text),
    **dict.fromkeys((".html", ".htm", ".xhtml"), read_html),
    **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
    **dict.fromkeys((".csv", ".tsv"), read_csv),
    ".pdf": read_pdf,
    **dict.fromkeys((".docx", ".pptx", ".xlsx"), read_office),
}
SUFFIXES = tuple(_READERS)
"""The endings of file names that are read in a folder; a file named by itself may have any other, if it is text."""

_REASONS_SHOWN = 3
_BEIR_CORPUS = "corpus.jsonl"


def read_sources(
    paths: Sequence[Path | str], *, on_skip: Callable[[Skipped], None], max_file_bytes: int = MAX_FILE_BYTES
) -> Iterator[Document]:
    """The documents in `paths`, folder by folder in the order of their names.

    A file becomes one document, a line of a .jsonl or a row of a .csv likewise; of a folder that holds a corpus.jsonl
    (a BEIR set) that file alone is read. Hidden files are passed over, and so are links that lead out of the folder
    given, which `on_skip` hears of, as of everything else that is left out and why.

    A file's id is its path within the folder given, "/" between the parts; a line's id is its own. An id that comes
    twice in one file is an error of that file: the first stands, the second is skipped. An id that another file has
    used gets the name of its file, or of the folder given, in front. A file that is reached twice is read once.

    Raises InputError at once for a path that does not exist, and at the end if not one document was found.
    """
    roots = [Path(path) for path in paths]
    for root in roots:
        if not root.exists():
            raise InputError(f"no such file or folder: {root}", hint="check the path; it is relative to " + os.getcwd())
    return _read(roots, on_skip, max_file_bytes)


def _read(roots: Sequence[Path], on_skip: Callable[[Skipped], None], max_file_bytes: int) -> Iterator[Document]:
    used_ids: set[str] = set()
    read_files: set[Path] = set()
    first_skipped: list[Skipped] = []
    for root in roots:
        for found in _found_below(root, max_file_bytes, read_files):
            if isinstance(found, Skipped):
                if len(first_skipped) < _REASONS_SHOWN:
                    first_skipped.append(found)
                on_skip(found)
                continue
            doc_id = next(name for name in _names(found, root) if name not in used_ids)
            used_ids.add(doc_id)
            yield found if doc_id == found.doc_id else replace(found, doc_id=doc_id)
    if not used_ids:
        reasons = "; ".join(f"{skipped.where}: {skipped.why}" for skipped in first_skipped)
        raise InputError(
            "no documents found in " + ", ".join(map(str, roots)),
            hint=reasons or "read are files ending in " + " ".join(SUFFIXES),
        )


def _found_below(root: Path, max_file_bytes: int, read_files: set[Path]) -> Iterator[Document | Skipped]:
    """All documents of one root, and what is left out of it; `read_files` grows by the files read."""
    for path in _files(root) if root.is_dir() else [root]:
        if isinstance(path, Skipped):
            yield path
        elif (real := path.resolve()) not in read_files:
            read_files.add(real)
            source = _source(path, root)
            reader = _READERS.get(path.suffix.lower(), read_text if path == root else None)
            yield from _documents(SourceFile(path, source, max_file_bytes), reader)


def _documents(file: SourceFile, reader: Reader | None) -> Iterator[Document | Skipped]:
    """What a reader finds in the file, with everything that may go wrong as a Skipped."""
    try:
        if reader is None:
            yield Skipped(file.source, f"not a kind of file that is read ({file.path.suffix or 'no ending'})")
        elif not stat.S_ISREG(file.path.stat().st_mode):
            yield Skipped(file.source, "not a regular file")
        else:
            for found in reader(file):
                empty = isinstance(found, Document) and not found.text.strip()
                yield Skipped(file.source, "empty") if empty else found
    except UnreadableError as error:
        yield Skipped(file.source, str(error))
    except OSError as error:
        yield Skipped(file.source, f"cannot be read: {error.strerror}")


def _files(root: Path) -> Iterator[Path | Skipped]:
    """The files below a folder in the order of their names; never one outside it, whatever the links say."""
    inside = root.resolve()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            if not path.resolve(strict=True).is_relative_to(inside):
                yield Skipped(_source(path, root), f"a link that leads out of {root}")
            elif not path.is_dir():
                yield path
            elif path.is_symlink() and path != root:
                yield Skipped(_source(path, root), "a link to a folder: its files are read where they stand")
            elif (path / _BEIR_CORPUS).is_file():
                waiting.append(path / _BEIR_CORPUS)
            else:
                entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
                waiting.extend(sorted(entries, key=lambda entry: entry.name, reverse=True))
        except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, in Python 3.11
            yield Skipped(_source(path, root), f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _source(path: Path, root: Path) -> str:
    """The path within `root` as every system writes it: "/" between parts, accents composed (unlike macOS)."""
    inside = path.relative_to(root).as_posix() if path != root else path.resolve().name
    return clean(unicodedata.normalize("NFC", inside))


def _names(document: Document, root: Path) -> Iterator[str]:
    """The document's id, then longer ones for the case that another file has used it."""
    name = document.doc_id
    yield name
    if name != document.source:
        name = f"{document.source}:{name}"
        yield name
    folder = root if root.is_dir() else root.parent
    name = f"{clean(folder.resolve().name)}/{name}"
    yield name
    yield from (f"{name}~{number}" for number in count(2))
