"""LangChain's own suite for retrievers, and what it does not ask."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs langchain-core (pip install 'branchwise[langchain]')")
pytest.importorskip("langchain_tests", reason="needs langchain-tests")

from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests

from branchwise.agent.surfaces.langchain import BranchwiseRetriever
from branchwise.stores.errors import InputError

FACTS = {
    "moths": "Moths circle lamps because they tilt their backs towards the light.",
    "bees": "Honey bees dance to tell the hive where the flowers are.",
    "owls": "Owls fly without a sound because their feathers have a soft fringe.",
    "bats": "Bats find moths in the dark by the echoes of their calls.",
    "eels": "Eels swim to the Sargasso Sea to spawn, and die there.",
}
QUERY = "Why do moths circle lamps?"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index built from LangChain documents, one of them without an id."""
    path = tmp_path_factory.mktemp("langchain") / "index"
    documents = [
        Document(id=None if name == "eels" else name, page_content=text, metadata={"title": name.title(), "n": [1]})
        for name, text in FACTS.items()
    ]
    BranchwiseRetriever.from_documents(documents, index=path)
    return path


class TestBranchwiseRetriever(RetrieversIntegrationTests):
    """LangChain's standard tests."""

    @pytest.fixture(autouse=True)
    def _saved(self, index: Path) -> None:
        self.index = index

    @property
    def retriever_constructor(self) -> Any:
        """Opens the saved index."""
        return BranchwiseRetriever.from_index

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """The path of the index."""
        return {"path": self.index}

    @property
    def retriever_query_example(self) -> str:
        """A question that the documents answer."""
        return QUERY


def test_documents_carry_id_score_span_and_path(index: Path) -> None:
    """The best passage first, with the user's metadata and ours apart."""
    found = BranchwiseRetriever.from_index(index, k=3).invoke(QUERY)
    best = found[0]
    assert (best.id, best.page_content) == ("moths", FACTS["moths"])
    assert best.metadata["title"] == "Moths"
    why = best.metadata["branchwise"]
    assert (why["start"], why["end"]) == (0, len(FACTS["moths"]))
    assert all(0 <= document.metadata["branchwise"]["score"] <= 1 for document in found)
    assert why["path"][0]["node_id"] == "n:root"
    json.dumps(best.metadata)


async def test_it_composes_sync_and_async(index: Path) -> None:
    """In a chain, in a batch, and blocking inside a running event loop, the answer is the same."""
    retriever = BranchwiseRetriever.from_index(index, k=2)
    first = RunnableLambda(lambda documents: documents[0].id)
    assert (retriever | first).invoke(QUERY) == "moths"
    assert await (retriever | first).ainvoke(QUERY) == "moths"
    batches = [retriever.batch([QUERY, "bees dance"]), await retriever.abatch([QUERY, "bees dance"])]
    assert [[found[0].id for found in batch] for batch in batches] == [["moths", "bees"]] * 2
    assert (await asyncio.to_thread(retriever.invoke, QUERY))[0].id == "moths"


def test_exclusions_hold_and_failures_are_raised(index: Path) -> None:
    """An excluded passage is not returned; an empty question is an error, not an empty list."""
    retriever = BranchwiseRetriever.from_index(index, k=5, excluded_ids=frozenset({"moths"}))
    assert "moths" not in {document.id for document in retriever.invoke(QUERY)}
    with pytest.raises(InputError):
        retriever.invoke("  ")
