"""What a judge is to the search, and the judge that needs no model.

A judge scores the candidates of one slate for one question. The walk takes a judge, not a model: tests pass an oracle,
a replay passes a trace, and the embedded judge below goes through the very walk that a language model does. The judge
that asks a model lives in agent.search.judge_model. Tested in tests/agent/test_judge.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from branchwise.agent.search.node_texts import visible_texts
from branchwise.stores.records import Judgement, Question, Slate

if TYPE_CHECKING:
    from branchwise.stores.embedding import FloatVector
    from branchwise.stores.index import Index


@runtime_checkable
class Judge(Protocol):
    """Scores slates. Deterministic for the same slate and question, or at least meant to be: the search measures it."""

    name: str
    """Who judges: "embedded", a model's name, "simulated:...". Shown wherever a result is."""
    max_slate: int
    """Most nodes that fit into one call, anchors included."""

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """Scores in [0, 1] for the nodes of the slate, None where there is none.

        Raises ModelError only where no judgement at all could be had, BudgetSpent before a call that would overspend.
        """
        ...


class EmbeddedJudge:
    """BM25 and cosine of the question and a node's text, squashed to 0..1: no model, no key, no network.

    It reads of a node what a model would read, its own text, and knows nothing of what lies beneath.
    """

    name = "embedded"
    max_slate = 1_000

    def __init__(self, index: Index, *, query: str | None = None) -> None:
        """`query` replaces the question's own words (a rewritten, searchable form)."""
        self._index = index
        self._query = query
        self._inner_row = {node_id: row for row, node_id in enumerate(index.tree.inner_ids)}
        self._queries: dict[str, tuple[FloatVector, float]] = {}

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """Score each node by itself: the slate's company changes nothing."""
        scores = await asyncio.to_thread(self.score, question, slate.node_ids)
        return Judgement(slate=slate, scores=dict(zip(slate.node_ids, scores, strict=True)), judge=self.name)

    def score(self, question: Question, node_ids: Sequence[str]) -> list[float]:
        """Half lexical share, half cosine, each in [0, 1]; of a partly excluded branch, only what is in sight."""
        index = self._index
        query = self._query or question.text
        texts = visible_texts(index, question, node_ids)
        vector, best = self._known(query)
        cosine = np.clip(np.stack([self._vector(node_id) for node_id in node_ids]) @ vector, 0.0, 1.0)
        lexical = np.asarray(index.lexical.score_texts(query, [texts[node_id] for node_id in node_ids]))
        share = np.clip(lexical / best, 0.0, 1.0) if best > 0 else np.zeros(len(node_ids))
        return [round(float(score), 6) for score in 0.5 * share + 0.5 * cosine]

    def _known(self, query: str) -> tuple[FloatVector, float]:
        """The query's vector, and the best BM25 score that any leaf has for it."""
        if query not in self._queries:
            best = self._index.lexical.top(query, 1)
            self._queries = {query: (self._index.embedder.embed_query(query), best[0][1] if best else 0.0)}
        return self._queries[query]

    def _vector(self, node_id: str) -> FloatVector:
        tree = self._index.tree
        if (row := tree.leaf_row.get(node_id)) is not None:
            return np.asarray(self._index.leaf_matrix[row])
        return np.asarray(self._index.inner_matrix[self._inner_row[node_id]])
