"""PDF, Word, PowerPoint and Excel, by the [files] extra: pypdfium2 keeps the pages, markitdown gives Markdown.

The extra is imported only when such a file is read. An archive that would unfold to more than its limit is refused
before anything is unfolded. Tested in tests/tree_builder/test_formats.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import closing

from branchwise.stores.records import Document
from branchwise.tree_builder.formats.file import SourceFile, UnreadableError, clean
from branchwise.tree_builder.formats.text import title_of

INSTALL = 'pip install "branchwise[files]"'
_UNFOLDED = 10
"""A document may unfold to this many times the limit of a file: Office files are XML, which packs about 1 to 10."""


def read_pdf(file: SourceFile) -> Iterator[Document]:
    """The text of a PDF, with the character at which each page begins."""
    try:
        import pypdfium2
    except ImportError:
        raise UnreadableError(f"a PDF needs an extra: {INSTALL}") from None
    _check_size(file)
    text, starts = "", []
    parts: list[str] = []
    length = 0
    try:
        with closing(pypdfium2.PdfDocument(file.path)) as pdf:
            title = str(pdf.get_metadata_value("Title") or "").strip()
            for page in pdf:
                with closing(page), closing(page.get_textpage()) as layer:
                    written = clean(layer.get_text_range().replace("\r\n", "\n").replace("\r", "\n")).strip() + "\n\n"
                starts.append(length)
                parts.append(written)
                length += len(written)
                if length > file.max_bytes:
                    raise UnreadableError(f"unfolds to more than {file.max_bytes:,} characters")
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(f"no PDF that opens without a password ({error})") from None
    text = "".join(parts)
    if not text.strip():
        raise UnreadableError("pages without text: scanned?")
    yield Document(
        doc_id=file.source,
        text=text,
        title=clean(title) or title_of("", file.source),
        source=file.source,
        page_starts=tuple(starts),
    )


def read_office(file: SourceFile) -> Iterator[Document]:
    """A Word, PowerPoint or Excel file as Markdown."""
    try:
        import markitdown
    except ImportError:
        raise UnreadableError(f"this kind of file needs an extra: {INSTALL}") from None
    _check_size(file)
    _check_archive(file)
    try:
        converted = markitdown.MarkItDown(enable_plugins=False).convert_local(file.path)
    except Exception as error:  # each converter raises errors of its own library
        raise UnreadableError(f"cannot be converted ({type(error).__name__})") from None
    text = clean(converted.text_content.replace("\r\n", "\n"))
    if not text.strip():
        raise UnreadableError("no text in it")
    title = clean(converted.title or "") or title_of(text, file.source)
    yield Document(doc_id=file.source, text=text, title=title, source=file.source)


def _check_size(file: SourceFile) -> None:
    if file.path.stat().st_size > file.max_bytes:
        raise UnreadableError(f"over the limit of {file.max_bytes:,} bytes a file")


def _check_archive(file: SourceFile) -> None:
    """Refuse what would explode. The sizes are those that the archive declares, which unpacking is held to."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            unfolded = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, RuntimeError):  # RuntimeError: of a version that zipfile does not know
        raise UnreadableError("damaged: no archive inside, as this kind of file has") from None
    if unfolded > _UNFOLDED * file.max_bytes:
        raise UnreadableError(f"an archive that unfolds to {unfolded:,} bytes")
