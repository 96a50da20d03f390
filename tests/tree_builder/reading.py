"""Files made for a test, and what reading them gives."""

from __future__ import annotations

from pathlib import Path

from branchwise.stores.records import Document
from branchwise.tree_builder.sources import Skipped, read_sources


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Make these files, with the folders they stand in."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(*paths: Path, **options: int) -> tuple[list[Document], list[Skipped]]:
    """All documents, and all that was left out."""
    skipped: list[Skipped] = []
    return list(read_sources(paths, on_skip=skipped.append, **options)), skipped


def read_one(folder: Path, name: str, content: str | bytes) -> Document:
    """The one document in a file."""
    documents, skipped = read(write(folder, {name: content}) / name)
    assert len(documents) == 1
    assert skipped == []
    return documents[0]
