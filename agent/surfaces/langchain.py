"""`BranchwiseRetriever` for LangChain: a drop-in retriever over an index, or over LangChain documents.

    from branchwise.agent.surfaces.langchain import BranchwiseRetriever

    retriever = BranchwiseRetriever.from_index("docs-index", k=5)
    documents = retriever.invoke("why do moths circle lamps?")

`document.metadata["branchwise"]` tells the score in [0, 1], where the passage stands and why it was found. A search
that fails raises; it never returns an empty list instead. Knows no algorithm: it calls the facade. Needs
langchain-core (`pip install 'branchwise[langchain]'`). Tested in tests/surfaces/test_langchain.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from branchwise.agent import facade
from branchwise.agent.facade import Collection
from branchwise.agent.surfaces.found import WHY, scalar_metadata, why_found
from branchwise.stores.errors import InputError
from branchwise.stores.records import Budget, Document, Filters, Question, SearchResult

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict, Field
except ImportError as error:
    raise InputError(
        "The LangChain retriever needs langchain-core.", hint="pip install 'branchwise[langchain]'"
    ) from error


class BranchwiseRetriever(BaseRetriever):
    """Retrieves the best `k` passages of a collection; `k` can also be given to `invoke`.

    `budget` limits each search, `filters` and `excluded_ids` what it may see. Safe to share between threads and tasks.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    collection: Collection
    k: int = 10
    budget: Budget | None = None
    filters: Filters = Field(default_factory=dict)
    excluded_ids: frozenset[str] = frozenset()

    @classmethod
    def from_index(
        cls, path: str | Path, *, model: str | None = None, base_url: str | None = None, **options: Any
    ) -> BranchwiseRetriever:
        """Over the index saved at `path`; `options` are the fields of this class. Raises what branchwise.open does."""
        return cls(collection=facade.open(path, model=model, base_url=base_url), **options)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[LangChainDocument],
        *,
        index: str | Path,
        build: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> BranchwiseRetriever:
        """Over LangChain documents, kept in the folder `index`; one without an id is named by its place in the list.

        `build` are options of branchwise.build (`model`, `max_chars`, `tree`, ...), `options` the fields of this class.
        """
        return cls(collection=facade.build(_records(documents), index=index, **(build or {})), **options)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[LangChainDocument]:
        result = self.collection.search(self._question(query), k=self.k if k is None else k, budget=self.budget)
        return _documents(result)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[LangChainDocument]:
        count = self.k if k is None else k
        return _documents(await self.collection.asearch(self._question(query), k=count, budget=self.budget))

    def _question(self, query: str) -> Question:
        return Question(text=query, filters=self.filters, excluded_ids=self.excluded_ids)


def _documents(result: SearchResult) -> list[LangChainDocument]:
    return [
        LangChainDocument(
            id=hit.passage.passage_id,
            page_content=hit.passage.text,
            metadata={"title": hit.passage.title, **hit.passage.metadata, WHY: why_found(hit, result)},
        )
        for hit in result.hits
    ]


def _records(documents: Sequence[LangChainDocument]) -> list[Document]:
    """LangChain documents as documents of an index."""
    return [
        Document(
            doc_id=document.id or f"document-{place}",
            text=document.page_content,
            title=str(document.metadata.get("title") or ""),
            source=str(document.metadata.get("source") or ""),
            metadata=scalar_metadata(document.metadata),
        )
        for place, document in enumerate(documents, start=1)
    ]
