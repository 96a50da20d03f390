"""Documents taken from clients: only where allowed, only so large, only of known types, under names of ours."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.app import Limits, create_app
from branchwise.agent.surfaces.server.security import access_for
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build

LIMIT = 1_500_000
BIRDS = ["lark", "wren", "robin", "finch", "crane", "heron"]
running = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["running"]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """An index of six birds, this test's own."""
    documents = [Document(doc_id=bird, text=f"The {bird} sings at dawn and sleeps at dusk.") for bird in BIRDS]
    await build(documents, tmp_path / "birds")
    return tmp_path / "birds"


@pytest.fixture
async def client(path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server that takes uploads."""
    access = access_for("127.0.0.1", token=None)
    app = create_app(Shelf({"birds": path}, open_embedded), access=access, limits=Limits(max_upload=LIMIT))
    async with running(app) as found:
        yield found


async def test_an_upload_is_found_by_the_next_search(client: httpx2.AsyncClient, path: Path) -> None:
    """The new generation is served at once; the client's name is a title and no file name."""
    text = b"The quokka is a small wallaby that lives on an island and seems to smile."
    told = await client.post("/documents", params={"name": "../../quokka notes.txt"}, content=text)
    assert told.status_code == 200, told.text
    assert told.json()["generation"] == 2
    hit = (await client.post("/search", json={"question": "Which wallaby smiles?"})).json()["hits"][0]
    assert "quokka" in hit["text"]
    assert hit["title"] == "quokka notes"
    kept = list((path / "uploads").iterdir())
    assert len(kept) == 1
    assert "quokka" not in kept[0].name
    assert not list(path.parent.parent.rglob("quokka*"))


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("tool.exe", b"MZ", 400),
        ("archive.zip", b"PK", 400),
        ("noname", b"text", 400),
        ("", b"text", 400),
        ("empty.txt", b"", 400),
        ("large.txt", b"x" * (LIMIT + 1), 413),
        ("x" * 300 + ".txt", b"text", 400),
    ],
)
async def test_what_is_not_taken_leaves_nothing_behind(
    client: httpx2.AsyncClient, path: Path, name: str, body: bytes, status: int
) -> None:
    """Refused with a sentence; no file, no new generation."""
    told = await client.post("/documents", params={"name": name}, content=body)
    assert told.status_code == status
    assert told.json()["error"]["message"]
    assert not list((path / "uploads").glob("*"))
    assert (await client.get("/indexes")).json()["indexes"][0]["generation"] == 1


async def test_uploads_are_off_unless_allowed(path: Path) -> None:
    """Without a limit of its own there is no such route."""
    app = create_app(Shelf({"birds": path}, open_embedded), access=access_for("127.0.0.1", token=None))
    async with running(app) as client:
        assert (await client.post("/documents", params={"name": "a.txt"}, content=b"text")).status_code == 404
        assert (await client.get("/indexes")).json()["uploads"] is False
