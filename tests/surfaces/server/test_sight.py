"""Looking around under filters and exclusions: what is hidden from a search is hidden from every other way in."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client

from branchwise.agent.surfaces.mcp import make_server
from branchwise.agent.surfaces.server import open_embedded
from branchwise.agent.surfaces.server.app import create_app
from branchwise.agent.surfaces.server.security import access_for
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.records import Document
from tests.surfaces.server.conftest import build_index, running

BIRDS = ("lark", "wren", "robin", "finch", "crane", "heron", "stork", "swift", "eider", "gannet", "plover", "dunlin")
STARS = ("vega", "rigel", "deneb", "altair", "spica", "mizar", "castor", "pollux", "sirius", "capella", "algol", "mira")
SECRET = "zyzzyva"
TWICE = (
    "Every owl turns its head, because its eyes stand still in their sockets, and hears better than it sees. A comb on "
    "its first feather breaks the turbulence of the air, so that no mouse hears the wings until it is too late; one "
    "ear stands higher than the other, which tells the hunter how high above the ground a sound is made."
)
OPEN = {"filters": json.dumps({"kind": ["open"]})}


def collection() -> list[Document]:
    """Birds that are open, stars that are not, a document of many passages, and a text that stands in both kinds."""
    chronicle = " ".join(
        f"Sentence {number} of the chronicle tells of the {BIRDS[number % 12]}." for number in range(120)
    )
    texts = [(name, f"The {name} is a bird that nests in spring and sings at dawn.", "open") for name in BIRDS]
    texts += [(name, f"The star {name} is {SECRET}: hot plasma that shines by fusion.", SECRET) for name in STARS]
    texts += [("chronicle", chronicle, "open"), (f"{SECRET}-owl", TWICE, SECRET), ("owl", TWICE, "open")]
    return [Document(doc_id=name, title=name, text=text, metadata={"kind": kind}) for name, text, kind in texts]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the collection; never written to."""
    return build_index(tmp_path_factory.mktemp("sight") / "sky", collection(), max_children=4)


@pytest.fixture
async def client(path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server over it."""
    app = create_app(Shelf({"sky": path}, open_embedded), access=access_for("127.0.0.1", token=None))
    async with running(app) as found:
        yield found


def speaks(text: str) -> bool:
    """Whether a text speaks of what is hidden; the id of a node is a handle and says nothing."""
    return SECRET in text.replace(f"p:{SECRET}-owl", "")


async def everything(client: httpx2.AsyncClient, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Every answer of /tree from the root down."""
    answers = [(await client.get("/tree", params=given)).json()]
    for answer in answers:
        for child in answer["children"]:
            if not child["leaf"]:
                answers.append((await client.get("/tree", params={**given, "node": child["node_id"]})).json())
    return answers


async def test_a_filtered_tree_holds_nothing_that_is_filtered(client: httpx2.AsyncClient) -> None:
    """From the root down: no title, summary, id or count speaks of what is hidden; empty branches are gone."""
    whole = await everything(client, {})
    assert speaks(json.dumps(whole))
    seen = await everything(client, OPEN)
    assert not speaks(json.dumps(seen))
    assert len(seen) < len(whole)
    leaves = {child["passage_id"] for answer in seen for child in answer["children"] if child["leaf"]}
    assert {*BIRDS, "owl"} <= leaves
    assert seen[0]["node"]["leaves"] == len(leaves)
    for answer in seen:
        assert answer["node"]["children"] == len(answer["children"])
        assert sum(child["leaves"] for child in answer["children"]) == answer["node"]["leaves"]


async def test_a_hidden_node_is_as_one_that_is_not_there(client: httpx2.AsyncClient) -> None:
    """404 in the same words; an index of which nothing may be seen looks empty."""
    whole = await everything(client, {})
    leaf = next(each for answer in whole for each in answer["children"] if each["passage_id"] == "vega")
    hidden = await client.get("/tree", params={**OPEN, "node": leaf["node_id"]})
    unknown = await client.get("/tree", params={**OPEN, "node": "p:nothing"})
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.text.replace(leaf["node_id"], "p:nothing") == unknown.text
    none = (await client.get("/tree", params={"filters": json.dumps({"kind": "nothing"})})).json()
    assert none == {"node": None, "path": [], "children": [], "next_offset": None}


async def test_a_hidden_document_is_as_one_that_is_not_there(client: httpx2.AsyncClient) -> None:
    """Excluded or filtered out: 404; what is left can be read, whole."""
    unknown = await client.get("/document", params={**OPEN, "doc_id": "nothing"})
    assert unknown.status_code == 404
    hiding: list[dict[str, Any]] = [OPEN, {"excluded_ids": ["lark", "vega"]}, {"excluded_ids": "vega"}]
    for given in hiding:
        hidden = await client.get("/document", params={**given, "doc_id": "vega"})
        assert hidden.status_code == 404
        assert hidden.text.replace("vega", "nothing") == unknown.text
    assert (await client.get("/document", params={"doc_id": "vega"})).json()["hidden"] == []
    assert "heron" in (await client.get("/document", params={**OPEN, "doc_id": "heron"})).json()["text"]


async def test_a_misspelt_filter_is_refused(client: httpx2.AsyncClient) -> None:
    """A parameter that the route does not have would hide nothing, so it is an error and not ignored."""
    for path, given in (("/tree", {"exclude": "vega"}), ("/document", {"doc_id": "vega", "filter": "{}"})):
        refused = await client.get(path, params=given)
        assert refused.status_code == 400
        assert "no such parameter" in refused.json()["error"]["message"]


async def test_an_excluded_passage_is_a_gap_in_its_document(client: httpx2.AsyncClient) -> None:
    """Its characters are spaces, all others stay where they are, and its neighbours too."""
    asked = {"question": "the chronicle of the lark", "k": 5, "filters": {"kind": "open"}}
    hits = (await client.post("/search", json=asked)).json()["hits"]
    hit = next(each for each in hits if each["doc_id"] == "chronicle")
    whole = (await client.get("/document", params={"doc_id": "chronicle"})).json()
    assert whole["text"][hit["start"] : hit["end"]] == hit["text"]
    left = (await client.get("/document", params={"doc_id": "chronicle", "excluded_ids": hit["passage_id"]})).json()
    assert left["hidden"] == [[hit["start"], hit["end"]]]
    assert left["length"] == whole["length"]
    gap = " " * (hit["end"] - hit["start"])
    assert left["text"] == whole["text"][: hit["start"]] + gap + whole["text"][hit["end"] :]


async def test_a_duplicate_is_shown_by_the_name_that_may_be_seen(client: httpx2.AsyncClient, path: Path) -> None:
    """The text of a hidden document that stands in an open one too is the open one's, in events and answer."""
    engine = open_embedded(path)
    assert list(engine.index.passages([f"{SECRET}-owl", "owl"])) == [f"{SECRET}-owl"]  # the leaf is the hidden one's
    engine.close()
    asked = {"question": "why does an owl turn its head", "filters": {"kind": "open"}, "stream": True}
    told = (await client.post("/ask", json=asked)).text
    assert "sockets" in told
    assert not speaks(told)


async def test_the_path_of_a_hit_names_nothing_hidden(client: httpx2.AsyncClient) -> None:
    """Titles of branches are made of the words below them: those of a branch partly hidden are made of what is left."""
    for question in ("which bird sings at dawn", "the star that shines"):
        asked = {"question": question, "filters": {"kind": "open"}}
        hits = (await client.post("/search", json=asked)).json()["hits"]
        assert hits
        assert not speaks(json.dumps(hits))


@pytest.mark.parametrize("filters", ["{", "[1]", '{"kind": {"$ne": 1}}', '"kind"', "[" * 5_000])
async def test_wrong_filters_are_the_clients_mistake(client: httpx2.AsyncClient, filters: str) -> None:
    """Status 400 and how to write them."""
    for route, asked in (("/tree", {}), ("/document", {"doc_id": "lark"})):
        answer = await client.get(route, params={"filters": filters, **asked})
        assert answer.status_code == 400
        assert "JSON object" in answer.json()["error"]["message"]


async def test_agents_see_no_more(path: Path) -> None:
    """Over MCP: search, fetch and browse_tree hide the same, and speak of the index by its name."""
    shelf = Shelf({"sky": path}, open_embedded)
    await shelf.open()
    hiding: dict[str, Any] = {"filters": {"kind": "open"}, "excluded_ids": ["lark"]}
    async with Client(make_server(shelf)) as client:
        found = await client.call_tool("search", {"query": "a bird or a star", "k": 50, **hiding})
        seen = [json.dumps(found.structured_content)]
        nodes: list[str | None] = [None]
        for node in nodes:
            opened = (await client.call_tool("browse_tree", {"node": node, **hiding})).structured_content
            assert opened is not None
            seen.append(json.dumps(opened))
            nodes += [child["id"] for child in opened["children"] if child["passage_id"] is None]
        assert len(nodes) > 3
        assert "heron" in "".join(seen)
        for text in seen:
            assert not speaks(text)
            assert "The lark is" not in text
        assert not (await client.call_tool("fetch", {"id": "heron", **hiding})).is_error
        for tool, key, hidden in (("fetch", "id", "vega"), ("fetch", "id", "lark"), ("browse_tree", "node", "p:vega")):
            refused = await client.call_tool(tool, {key: hidden, **hiding})
            assert refused.is_error
            assert str(path) not in refused.content[0].text  # type: ignore[union-attr]
    shelf.close()


async def test_an_error_names_the_index_and_never_its_place(path: Path, tmp_path: Path) -> None:
    """A file damaged under way, a name that is not there: clients are told which index, not where it lies."""
    broken = tmp_path / "private-place" / "sky"
    shutil.copytree(path, broken)
    app = create_app(Shelf({"sky": broken}, open_embedded), access=access_for("127.0.0.1", token=None))
    async with running(app) as client:
        for file in broken.rglob("tree.sqlite"):
            file.chmod(0o600)
            file.write_bytes(b"damaged" * 100)
        said = [await client.post("/search", json={"question": "lark"})]
        said.append(await client.post("/search", json={"question": "lark", "stream": True}))
        said.append(await client.get("/tree", params={"node": "p:nothing"}))
        said.append(await client.get("/document", params={"doc_id": "nothing"}))
        chat: dict[str, Any] = {"model": "sky", "messages": [{"role": "user", "content": "lark"}]}
        said.append(await client.post("/v1/chat/completions", json=chat))
        said.append(await client.post("/v1/chat/completions", json=chat | {"stream": True}))
    assert said[0].status_code == 409
    assert "sky" in said[0].json()["error"]["message"]
    for answer in said:
        assert "private-place" not in answer.text
