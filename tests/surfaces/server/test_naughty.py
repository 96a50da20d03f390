"""Strings that broke other people's programs, as questions, filters, ids, names and documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.app import Limits, create_app
from branchwise.agent.surfaces.server.security import access_for
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.records import Document
from tests.surfaces.server.conftest import build_index, running

BIRDS = ("lark", "wren", "robin", "finch", "crane", "heron")


@pytest.fixture(scope="module")
def strings(shared: Path) -> list[str]:
    """The big list of naughty strings."""
    path = shared / "attacks" / "naughty_strings.json"
    if not path.exists():
        pytest.skip(f"there is no {path.name} in the shared data")
    found: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index of six birds, this test's own."""
    documents = [Document(doc_id=bird, text=f"The {bird} sings at dawn and sleeps at dusk.") for bird in BIRDS]
    return build_index(tmp_path / "birds", documents)


def files(path: Path) -> list[Path]:
    """Everything in the folder of an index and beside it."""
    return sorted(path.parent.rglob("*"))


@pytest.fixture
async def client(path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server over them that takes uploads."""
    shelf = Shelf({"birds": path}, open_embedded)
    app = create_app(shelf, access=access_for("127.0.0.1", token=None), limits=Limits(max_upload=1_000_000))
    async with running(app) as found:
        yield found


async def test_a_naughty_question_is_a_question(client: httpx2.AsyncClient, strings: list[str]) -> None:
    """Each is answered, or refused as the client's mistake where it holds nothing but spaces; never 500."""
    for string in strings:
        answer = await client.post("/search", json={"question": string, "budget": {"max_calls": 1}})
        assert answer.status_code == (200 if string.strip() else 400), string
        if answer.status_code == 200:
            assert answer.json()["query"] == string


async def test_naughty_ids_and_filters_find_nothing(client: httpx2.AsyncClient, strings: list[str]) -> None:
    """As ids, names and filters they match nothing and break nothing, whatever the way in."""
    for string in strings:
        asked = {"question": "lark", "filters": {string: string}, "excluded_ids": [string], "budget": {"max_calls": 1}}
        answer = await client.post("/search", json=asked)
        assert answer.status_code == 200
        assert answer.json()["hits"] == []
        for route, name, longest in (("/tree", "node", 1_000), ("/document", "doc_id", 1_000), ("/tree", "index", 200)):
            if string:
                status = 404 if len(string) <= longest else 400
                assert (await client.get(route, params={name: string})).status_code == status, (route, string)
        looked = await client.get("/tree", params={"filters": string, "excluded_ids": string})
        assert looked.status_code in (200, 400), string


async def test_a_naughty_name_never_reaches_the_disk(
    client: httpx2.AsyncClient, strings: list[str], path: Path
) -> None:
    """As names of uploads of a type that is not taken they are refused, and nothing is written anywhere."""
    before = files(path)
    for string in strings:
        answer = await client.post("/documents", params={"name": string}, content=b"text")
        assert answer.status_code == 400, string
    assert files(path) == before


async def test_naughty_documents_are_found_as_they_were_sent(client: httpx2.AsyncClient, strings: list[str]) -> None:
    """All of them as one upload, each a document: the index stays sound, and their text comes back unchanged."""
    lines = [
        json.dumps({"_id": f"n{number}", "title": string, "text": f"The capybara said: {string}"})
        for number, string in enumerate(strings)
    ]
    told = await client.post("/documents", params={"name": "naughty.jsonl"}, content="\n".join(lines).encode())
    assert told.status_code == 200, told.text
    assert (await client.get("/healthz")).json() == {"status": "ok", "stale": []}
    hits = (await client.post("/search", json={"question": "What did the capybara say?", "k": 50})).json()["hits"]
    assert sum(hit["text"].startswith("The capybara said:") for hit in hits) > 40
    for hit in hits:
        whole = (await client.get("/document", params={"doc_id": hit["doc_id"]})).json()
        assert whole["text"][hit["start"] : hit["end"]] == hit["text"]
