"""The server's REST routes over a real index."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from branchwise.agent.surfaces.server import open_embedded

QUESTION = "How are the names in a nested function looked up?"


async def test_search_gives_what_the_engine_gives(client: httpx2.AsyncClient, index_path: Path) -> None:
    """The same question through the server and through the engine finds the same passages with the same scores."""
    body = (await client.post("/search", json={"question": QUESTION, "k": 5})).json()
    engine = open_embedded(index_path)
    direct = await engine.search(QUESTION, k=5)
    engine.close()
    assert [hit["passage_id"] for hit in body["hits"]] == [hit.passage.passage_id for hit in direct.hits]
    assert [hit["score"] for hit in body["hits"]] == pytest.approx([hit.score for hit in direct.hits])
    assert body["judge"] == "embedded"
    assert all(hit["path"][-1]["node_id"] == hit["node_id"] for hit in body["hits"])


async def test_every_citation_stands_in_its_document(client: httpx2.AsyncClient) -> None:
    """Each quote of an answer is exactly the characters of the document that it names."""
    answer = (await client.post("/ask", json={"question": QUESTION})).json()
    assert answer["found"]
    for citation in answer["citations"]:
        place = {"doc_id": citation["doc_id"], "start": citation["start"]}
        document = (await client.get("/document", params=place)).json()
        first = document["first"]
        assert document["text"][citation["start"] - first : citation["end"] - first] == citation["quote"]


async def test_excluded_and_filtered_passages_never_appear(client: httpx2.AsyncClient) -> None:
    """What is excluded, or fails a filter, is in no hit, no slate, no label and no answer."""
    first = (await client.post("/search", json={"question": QUESTION})).json()["hits"][0]["doc_id"]
    asked = {"question": QUESTION, "excluded_ids": [first], "filters": {"letter": ["n", "f", "a"]}}
    hits = (await client.post("/search", json=asked)).json()["hits"]
    assert hits
    assert all(hit["doc_id"] != first for hit in hits)
    # A leaf stands for its duplicates too: it may be seen where one of its places passes the filter.
    assert all(any(place[0] in "nfa" for place in (hit["doc_id"], *hit["duplicates"])) for hit in hits)
    told = (await client.post("/ask", json=asked | {"stream": True})).text
    assert f'"{first}"' not in told.replace(f'"excluded_ids":["{first}"]', "")


async def test_a_budget_ends_a_search_early(client: httpx2.AsyncClient) -> None:
    """With no slate to judge, the ranking of words and vectors comes back, and says that it is partial."""
    body = (await client.post("/search", json={"question": QUESTION, "budget": {"max_calls": 0}})).json()
    assert body["hits"]
    assert body["stopped"] == "budget"
    assert body["partial"] is True
    assert body["usage"]["calls"] == 0


async def test_the_tree_can_be_walked_from_its_root(client: httpx2.AsyncClient) -> None:
    """Each child names its parent, and the leaves below add up."""
    root = (await client.get("/tree")).json()
    assert root["node"]["parent"] is None
    assert sum(child["leaves"] for child in root["children"]) >= root["node"]["leaves"]
    child = next(child for child in root["children"] if not child["leaf"])
    below = (await client.get("/tree", params={"node": child["node_id"]})).json()
    assert below["path"] == [root["node"]["node_id"], child["node_id"]]
    assert {each["parent"] for each in below["children"]} == {child["node_id"]}


async def test_indexes_are_offered_by_name(client: httpx2.AsyncClient) -> None:
    """Each name answers; another one is not found, and says what there is."""
    listed = (await client.get("/indexes")).json()["indexes"]
    assert [index["name"] for index in listed] == ["topics", "other"]
    assert listed[0]["model"] is None
    assert (await client.post("/search", json={"question": QUESTION, "index": "other"})).status_code == 200
    missing = await client.post("/search", json={"question": QUESTION, "index": "third"})
    assert missing.status_code == 404
    assert "topics" in missing.json()["error"]["hint"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": ""},
        {"question": "   "},
        {"question": "x" * 100_000},
        {"question": "x", "k": 0},
        {"question": "x", "k": "many"},
        {"question": "x", "budget": {"max_calls": -1}},
        {"question": "x", "surprise": 1},
        {"question": "\ud800"},
        [1, 2],
    ],
)
async def test_a_wrong_body_is_the_clients_mistake(client: httpx2.AsyncClient, body: object) -> None:
    """One sentence, status 400, and nothing of what was sent."""
    import json

    sent = json.dumps(body).encode()
    answer = await client.post("/search", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert "xxxx" not in answer.text


async def test_unknown_things_are_not_found(client: httpx2.AsyncClient) -> None:
    """A missing node, document, run or route is 404 with a sentence."""
    for path in ("/tree?node=n:nowhere", "/document?doc_id=nothing", "/runs/none/events", "/v1/models/none", "/nope"):
        answer = await client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error"]["message"]


async def test_two_hundred_searches_at_once_all_answer(client: httpx2.AsyncClient) -> None:
    """200 concurrent searches lose no request, and each gets the answer to its own question."""
    words = ["lambda", "yield", "import", "class", "slice", "global", "raise", "with"]

    async def one(number: int) -> tuple[str, str]:
        word = words[number % len(words)]
        asked = {"question": f"the {word} statement", "k": 1, "budget": {"max_calls": 1}}
        body = (await client.post("/search", json=asked)).json()
        return word, body["hits"][0]["passage_id"]

    found = await asyncio.gather(*map(one, range(200)))
    assert len(found) == 200
    assert len(set(found)) == len(words)


async def test_health_and_metrics_hold_no_content(client: httpx2.AsyncClient) -> None:
    """Counters count; no word of a question is in them."""
    await client.post("/search", json={"question": "quokka and zyzzyva", "k": 1})
    assert (await client.get("/healthz")).json()["status"] == "ok"
    text = (await client.get("/metrics")).text
    assert 'branchwise_requests_total{route="search",outcome="ok"} 1' in text
    assert "branchwise_running 0" in text
    assert "quokka" not in text
