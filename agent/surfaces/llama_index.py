"""`BranchwiseRetriever` for LlamaIndex: a drop-in retriever over an index, or over LlamaIndex documents or nodes.

    from branchwise.agent.surfaces.llama_index import BranchwiseRetriever

    retriever = BranchwiseRetriever.from_index("docs-index", k=5)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, streaming=True)

A node's score is in [0, 1]; `node.metadata["branchwise"]` tells where it stands and why it was found, and is shown to
neither embedder nor LLM. A search that fails raises; it never returns an empty list instead. Knows no algorithm: it
calls the facade. Tested in tests/surfaces/test_llama_index.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

from branchwise.agent import facade
from branchwise.agent.facade import Collection
from branchwise.agent.surfaces.found import WHY, scalar_metadata, why_found
from branchwise.stores.records import Budget, Document, Filters, Hit, Question, SearchResult


class BranchwiseRetriever(BaseRetriever):
    """Retrieves the best `k` passages of a collection.

    `budget` limits each search, `filters` and `excluded_ids` what it may see. Safe to share between threads and tasks.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        k: int = 10,
        budget: Budget | None = None,
        filters: Filters | None = None,
        excluded_ids: Iterable[str] = (),
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.collection = collection
        self.k = k
        self.budget = budget
        self.filters = dict(filters or {})
        self.excluded_ids = frozenset(excluded_ids)

    @classmethod
    def from_index(
        cls, path: str | Path, *, model: str | None = None, base_url: str | None = None, **options: Any
    ) -> BranchwiseRetriever:
        """Over the index saved at `path`; `options` are those of the constructor. Raises what branchwise.open does."""
        return cls(facade.open(path, model=model, base_url=base_url), **options)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[BaseNode],
        *,
        index: str | Path,
        build: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> BranchwiseRetriever:
        """Over LlamaIndex documents, which are cut into passages and kept in the folder `index`.

        `build` are options of branchwise.build (`model`, `base_url`, `tree`, ...), `options` those of the constructor.
        """
        return cls(facade.build(_records(documents), index=index, **(build or {})), **options)

    @classmethod
    def from_nodes(
        cls, nodes: Sequence[BaseNode], *, index: str | Path, build: Mapping[str, Any] | None = None, **options: Any
    ) -> BranchwiseRetriever:
        """Over LlamaIndex nodes as they were cut: each is found again whole, under its own id."""
        whole = {"max_chars": None, **(build or {})}
        return cls.from_documents(nodes, index=index, build=whole, **options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = self._question(query_bundle)
        return list(_nodes(self.collection.search(question, k=self.k, budget=self.budget)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = self._question(query_bundle)
        return list(_nodes(await self.collection.asearch(question, k=self.k, budget=self.budget)))

    def _question(self, query: QueryBundle) -> Question:
        return Question(text=query.query_str, filters=self.filters, excluded_ids=self.excluded_ids)


def _nodes(result: SearchResult) -> Iterator[NodeWithScore]:
    return (NodeWithScore(node=_node(hit, result), score=hit.score) for hit in result.hits)


def _node(hit: Hit, result: SearchResult) -> TextNode:
    passage = hit.passage
    metadata: dict[str, Any] = {**passage.metadata, WHY: why_found(hit, result)}
    if passage.title:
        metadata.setdefault("title", passage.title)
    return TextNode(
        id_=passage.passage_id,
        text=passage.text,
        start_char_idx=passage.start,
        end_char_idx=passage.end,
        metadata=metadata,
        excluded_embed_metadata_keys=[WHY],
        excluded_llm_metadata_keys=[WHY],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=passage.doc_id)},
    )


def _records(nodes: Iterable[BaseNode]) -> list[Document]:
    """LlamaIndex documents or nodes as documents of an index, under their own ids."""
    return [
        Document(
            doc_id=node.node_id,
            text=node.get_content(metadata_mode=MetadataMode.NONE),
            title=str(node.metadata.get("title") or ""),
            source=str(node.metadata.get("file_path") or node.metadata.get("source") or ""),
            metadata=scalar_metadata(node.metadata),
        )
        for node in nodes
    ]
