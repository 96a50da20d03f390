"""LlamaIndex finds through us what it would find through any retriever, and learns why."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.llms.mock import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, MetadataMode, NodeRelationship, NodeWithScore, QueryBundle, TextNode

from branchwise.agent.surfaces.llama_index import BranchwiseRetriever
from branchwise.stores.errors import IndexMissing, InputError

FACTS = {
    "moths": "Moths circle lamps because they tilt their backs towards the light.",
    "bees": "Honey bees dance to tell the hive where the flowers are.",
    "owls": "Owls fly without a sound because their feathers have a soft fringe.",
    "bats": "Bats find moths in the dark by the echoes of their calls.",
    "eels": "Eels swim to the Sargasso Sea to spawn, and die there.",
}
QUERY = "Why do moths circle lamps?"


def documents() -> list[Document]:
    """Five documents with metadata of every kind."""
    return [
        Document(
            id_=name,
            text=f"{text} {' '.join(f'Sentence {i} about {name} adds nothing.' for i in range(60))}",
            metadata={"title": name.title(), "legs": len(name), "tags": ["animal", name], "none": None},
        )
        for name, text in FACTS.items()
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index built from LlamaIndex documents."""
    path = tmp_path_factory.mktemp("llama") / "index"
    BranchwiseRetriever.from_documents(documents(), index=path, build={"max_chars": 600, "min_chars": 100})
    return path


@pytest.fixture(scope="module")
def retriever(index: Path) -> BranchwiseRetriever:
    """A retriever over the saved index."""
    return BranchwiseRetriever.from_index(index, k=4)


def check(found: list[NodeWithScore]) -> None:
    """Spans, scores and paths as promised, whatever was found."""
    texts = {document.node_id: document.text for document in documents()}
    assert found
    assert [node.score for node in found] == sorted((node.score for node in found), reverse=True)
    for scored in found:
        node = scored.node
        assert isinstance(node, TextNode)
        assert scored.score is not None
        assert 0 <= scored.score <= 1
        source = node.relationships[NodeRelationship.SOURCE]
        assert node.text == texts[source.node_id][node.start_char_idx : node.end_char_idx]  # type: ignore[union-attr]
        why = node.metadata["branchwise"]
        assert why["path"][0]["node_id"] == "n:root"
        assert why["path"][-1]["node_id"] == why["node_id"]
        json.dumps(node.metadata)


def test_nodes_carry_ids_spans_scores_and_the_path(retriever: BranchwiseRetriever) -> None:
    """The best passage comes first, at its exact place in the document."""
    found = retriever.retrieve(QUERY)
    check(found)
    assert len(found) == 4
    assert "tilt their backs" in found[0].node.get_content()
    assert found[0].node.metadata["legs"] == 5
    assert json.loads(found[0].node.metadata["tags"]) == ["animal", "moths"]


def test_why_is_for_people_not_for_models(retriever: BranchwiseRetriever) -> None:
    """Embedder and LLM see the user's metadata and the text, not our path."""
    node = retriever.retrieve(QUERY)[0].node
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert "n:root" not in node.get_content(metadata_mode=mode)
        assert "legs" in node.get_content(metadata_mode=mode)


async def test_sync_async_threads_and_a_running_loop_agree(retriever: BranchwiseRetriever) -> None:
    """Every way of calling gives the same nodes, even the blocking one inside a running event loop."""
    expected = [node.node_id for node in retriever.retrieve(QUERY)]
    one, other = await asyncio.gather(retriever.aretrieve(QUERY), retriever.aretrieve(QueryBundle(QUERY)))
    with ThreadPoolExecutor(4) as pool:
        many = await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(pool, retriever.retrieve, QUERY) for _ in range(8))
        )
    for found in (one, other, *many):
        assert [node.node_id for node in found] == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_a_query_engine_answers_with_our_nodes(retriever: BranchwiseRetriever, streaming: bool) -> None:
    """RetrieverQueryEngine puts our passages before its LLM, whole or streamed, and names them as its sources."""
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(max_tokens=64), streaming=streaming)
    response = engine.query(QUERY)
    assert len(str(response.get_response() if isinstance(response, StreamingResponse) else response).split()) > 10
    check(response.source_nodes)


async def test_an_async_query_engine_answers(retriever: BranchwiseRetriever) -> None:
    """The same within an event loop."""
    response = await RetrieverQueryEngine.from_args(retriever, llm=MockLLM(max_tokens=8)).aquery(QUERY)
    check(response.source_nodes)


def test_filters_and_exclusions_hold(index: Path) -> None:
    """What is filtered or excluded is not returned, and a filter that matches nothing returns nothing."""
    without = BranchwiseRetriever.from_index(index, k=50, excluded_ids=["moths"]).retrieve(QUERY)
    assert {node.metadata["title"] for node in without} == {"Bees", "Owls", "Bats", "Eels"}
    only = BranchwiseRetriever.from_index(index, k=50, filters={"legs": 5}).retrieve(QUERY)
    assert {node.metadata["title"] for node in only} == {"Moths"}
    assert BranchwiseRetriever.from_index(index, filters={"legs": 99}).retrieve(QUERY) == []


def test_nodes_are_found_again_whole_under_their_own_ids(tmp_path: Path) -> None:
    """Nodes that somebody cut are not cut again."""
    nodes = [TextNode(id_=f"node-{name}", text=text, metadata={"kind": "fact"}) for name, text in FACTS.items()]
    found = BranchwiseRetriever.from_nodes(nodes, index=tmp_path / "index", k=2).retrieve(QUERY)
    assert found[0].node.node_id == "node-moths"
    assert found[0].node.get_content() == FACTS["moths"]
    assert found[0].node.metadata["kind"] == "fact"


def test_failures_are_raised_not_returned_as_nothing(retriever: BranchwiseRetriever, tmp_path: Path) -> None:
    """A missing index and an empty question are errors with names."""
    with pytest.raises(IndexMissing):
        BranchwiseRetriever.from_index(tmp_path / "nowhere")
    with pytest.raises(InputError):
        retriever.retrieve(" ")
