"""Documents taken from clients, where the server was started to allow it.

A document arrives as the raw body of a request, is written under a name of ours (the client's name becomes the title
and never touches the disk), and is added to the index as a new generation, one upload at a time. Type and size are
settled before anything is written. Tested in tests/surfaces/server/test_uploads.py.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from branchwise.agent.surfaces.server.desk import Desk
from branchwise.stores.errors import InputError
from branchwise.stores.records import Document

router = APIRouter()
TYPES = (".csv", ".html", ".jsonl", ".md", ".rst", ".txt")
FOLDER = "uploads"  # beside the index's generations

_adding = asyncio.Lock()


@router.post("/documents")
async def upload(
    request: Request,
    name: Annotated[str, Query(min_length=1, max_length=200)],
    index: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:
    """Add the body of the request, a document called `name`, to an index. Raises InputError for other types."""
    from branchwise.tree_builder.update import add

    desk: Desk = request.app.state.desk
    called = PurePosixPath(name.replace("\\", "/"))
    suffix = called.suffix.lower()
    if suffix not in TYPES:
        raise InputError(f"{suffix or 'no'} type of document is taken", hint=f"taken are {', '.join(TYPES)}")
    body = await request.body()
    chosen = desk.shelf.name_of(index)
    path = desk.shelf.paths[chosen]
    async with _adding, desk.shelf.lease(chosen) as engine:
        kept = await asyncio.to_thread(_keep, path / FOLDER, suffix, body)
        try:
            documents = await asyncio.to_thread(_read, kept, called.stem)
            report = await add(path, documents, asker=engine.asker, chroma_url=engine.index.chroma_url)
        except BaseException:
            kept.unlink(missing_ok=True)
            raise
    await desk.shelf.refresh()
    return {
        "index": chosen,
        "documents": [document.doc_id for document in documents],
        "generation": report.generation,
        "skipped": [skipped.why for skipped in report.skipped],
    }


def _keep(folder: Path, suffix: str, body: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    kept = folder / f"{secrets.token_hex(16)}{suffix}"
    kept.write_bytes(body)
    return kept


def _read(kept: Path, title: str) -> list[Document]:
    """The documents of a file, with the client's name for it where the file has no title of its own."""
    from branchwise.tree_builder.sources import Skipped, read_sources

    skipped: list[Skipped] = []
    documents = list(read_sources([kept], on_skip=skipped.append))
    if not documents:
        raise InputError(f"nothing in this document can be read: {skipped[0].why if skipped else 'it is empty'}")
    unnamed = {"", kept.stem, kept.name}
    return [replace(document, title=title) if document.title in unnamed else document for document in documents]
