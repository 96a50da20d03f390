"""Generations: a new one is served to the next request, and the old one to those that hold it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from branchwise.agent.engine import Engine
from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.errors import IndexMissing, StoreError
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build

BIRDS = ["lark", "wren", "robin", "finch", "crane", "heron"]
DOCUMENTS = [
    Document(doc_id=f"d{n}", text=f"The {bird} is a kind of bird that sings at dawn.") for n, bird in enumerate(BIRDS)
]


async def test_a_new_generation_is_swapped_in_without_a_dropped_request(tmp_path: Path) -> None:
    """Searches before, during and after the swap all answer; the old engine closes when its last holder leaves."""
    closed: list[int] = []

    def open_counted(path: Path) -> Engine:
        engine = open_embedded(path)
        close = engine.close

        def counted() -> None:
            closed.append(engine.index.manifest.generation)
            close()

        engine.close = counted  # type: ignore[method-assign]
        return engine

    path = tmp_path / "birds"
    await build(DOCUMENTS[:4], path)
    shelf = Shelf({"birds": path}, open_counted)
    await shelf.open()
    async with shelf.lease("birds") as old:
        await build(DOCUMENTS, path)
        await shelf.refresh()
        assert closed == []
        async with shelf.lease(None) as new:
            assert new.index.manifest.generation > old.index.manifest.generation
            found = await asyncio.gather(old.search("heron"), new.search("heron"))
        assert "d5" not in {hit.passage.doc_id for hit in found[0].hits}
        assert found[1].hits[0].passage.doc_id == "d5"
    assert closed == [1]
    await shelf.refresh()
    assert closed == [1]
    shelf.close()
    assert len(closed) == 2


async def test_a_damaged_generation_leaves_the_old_one_in_service(tmp_path: Path) -> None:
    """What cannot be opened is reported, and searches go on; once it is mended the trouble is over."""
    path = tmp_path / "birds"
    await build(DOCUMENTS, path)
    shelf = Shelf({"birds": path}, open_embedded)
    await shelf.open()
    manifest = path / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text("{", encoding="utf-8")
    await shelf.refresh()
    assert list(shelf.troubles) == ["birds"]
    async with shelf.lease("birds") as engine:
        assert (await engine.search("lark")).hits
    manifest.write_text(text, encoding="utf-8")
    await shelf.refresh()
    assert not shelf.troubles
    shelf.close()


async def test_a_generation_is_opened_whole(tmp_path: Path) -> None:
    """What a search would stumble over later is found when a generation is opened: it is not served."""
    path = tmp_path / "birds"
    await build(DOCUMENTS, path)
    for file in next(path.rglob("lexical")).iterdir():
        file.chmod(0o600)
        file.write_bytes(b"x" * file.stat().st_size)  # of the size that the listing tells
    shelf = Shelf({"birds": path}, open_embedded)
    with pytest.raises(StoreError):
        await shelf.open()


async def test_an_unknown_name_says_what_there_is(index_path: Path) -> None:
    """IndexMissing names the indexes on offer."""
    with pytest.raises(IndexMissing, match="topics"):
        Shelf({"topics": index_path}, open_embedded).name_of("nothing")
