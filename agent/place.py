"""Where new documents belong, found by search: each walks down the tree and stays in the leaf cluster it opens first.

LATTICE's search-and-insert (lattice: section 1): the new document is the question. The branch of the best path
relevance is opened, one call a level where the judge is sure, more where it is not; leaves are not read. Half of the
budget at most is spent here, for the texts of the tree have to be written too. A document that no walk could place, for
a limit or a failure, goes where its vector points, and that is said. Tested in tests/agent/test_place.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from branchwise.agent.search.choose import Choice, cluster_anchors
from branchwise.agent.search.config import SearchConfig
from branchwise.agent.search.node_texts import join
from branchwise.agent.search.seeds import no_prior
from branchwise.agent.search.state import SearchState
from branchwise.agent.search.walk import walk
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import ModelError
from branchwise.stores.records import Budget, Passage, Question, Slate

if TYPE_CHECKING:
    from branchwise.agent.engine import Engine

RELEVANCE = (
    "The query is a new document that is to be filed in this tree. A passage is relevant if it treats the same subject "
    "as the document, so that a reader would look for the two in one place."
)
LONGEST = 2_000
"""Characters of a document that a judge is shown: its title and its beginning say what it is about."""
CALLS_A_LEVEL = 2
"""Calls at most for each level of the tree: as many second looks as steps."""
AT_ONCE = 8
"""Documents that walk side by side; fewer where calls are few, so that what is begun is finished."""


class Placer:
    """Finds the leaf cluster of every new passage, those of one document together; `notes` tell what failed.

    It is what tree_builder.update.add takes as `locate`. `meter` is that of the whole addition.
    """

    def __init__(self, engine: Engine, *, meter: Meter) -> None:
        self._engine = engine
        self._meter = Meter(_half(meter.budget), parent=meter)
        self._judge = engine.judge_on(self._meter)
        tree = engine.index.tree
        self._most = CALLS_A_LEVEL * (tree.height(tree.root_id) - 1) if tree.root_id else 0
        self._slates = self._weak = self._unplaced = 0
        self._failure = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """A line where documents could not be placed by search, and one where the judge was not the one that is named.

        A failure ends the searching: what one document met, all others would meet, each after its own retries.
        """
        notes = []
        if self._unplaced:
            why = self._failure or "search may spend half of the budget, and did."
            notes.append(f"{self._unplaced} documents were placed by their vectors and not by search: {why}")
        if self._weak:
            notes.append(f"The model failed on {self._weak} of {self._slates} slates; the embedded judge stood in.")
        return tuple(notes)

    async def __call__(self, passages: Sequence[Passage]) -> list[str]:
        """For each passage the id of a leaf cluster."""
        documents: dict[str, list[Passage]] = {}
        for passage in passages:
            documents.setdefault(passage.doc_id, []).append(passage)
        calls = self._meter.budget.max_calls
        gate = asyncio.Semaphore(AT_ONCE if calls is None else max(1, min(AT_ONCE, calls // max(1, self._most))))

        async def place(doc_id: str) -> str:
            async with gate:
                return await self._place(doc_id, documents[doc_id])

        homes = dict(zip(documents, await asyncio.gather(*map(place, documents)), strict=True))
        return [homes[passage.doc_id] for passage in passages]

    async def _place(self, doc_id: str, passages: Sequence[Passage]) -> str:
        text = join(passages[0].title, "\n".join(passage.text for passage in passages)[:LONGEST])
        # A document that comes to replace itself is not drawn to where its old text stood.
        question = Question(text=text, relevance=RELEVANCE, excluded_ids=frozenset([doc_id]))
        home = None
        if not self._failure:
            try:
                home = await self._descend(question)
            except ModelError as error:
                self._failure = error.message
        if home is None:
            self._unplaced += 1
            home = await asyncio.to_thread(self._nearest, text)
        return home

    async def _descend(self, question: Question) -> str | None:
        """The leaf cluster that the walk would open first; None where none came into reach."""
        index = self._engine.index
        tree = index.tree
        if tree.root_id is None or tree.height(tree.root_id) < 2:
            return tree.root_id
        allowed = index.allowed_rows(question.filters, question.excluded_ids)
        state = SearchState(tree, no_prior(len(tree.leaf_ids), allowed), SearchConfig(seeds=False, prior=False))
        policy = _Descent()
        budget = Budget(max_calls=self._most, max_seconds=self._meter.remaining_seconds())
        _, failure = await walk(question, state, self._judge, policy, budget=budget, record=lambda kind, payload: None)
        self._failure = self._failure or failure
        self._slates += len(state.judgements)
        self._weak += sum(judgement.weak for judgement in state.judgements.values())
        return policy.home or _best(state, [node_id for node_id in state.frontier if tree.height(node_id) == 1])

    def _nearest(self, text: str) -> str:
        """The leaf cluster whose centre is nearest."""
        index = self._engine.index
        rows = [row for row, node_id in enumerate(index.tree.inner_ids) if index.tree.height(node_id) == 1]
        likeness = index.inner_matrix[rows] @ index.embedder.embed_texts([text])[0]
        return index.tree.inner_ids[rows[int(np.argmax(likeness))]]


class _Descent:
    """Opens the best branch in reach, one after the other, until that is a leaf cluster: its `home`."""

    def __init__(self) -> None:
        self.home: str | None = None

    def next(self, state: SearchState) -> Choice | None:
        """See agent.search.walk.Policy."""
        if state.in_flight or (node_id := _best(state, list(state.frontier))) is None:
            return None
        if state.tree.height(node_id) == 1:
            self.home = node_id
            return None
        children = state.visible_children(node_id)
        if not children:  # all beneath it is the document's own old text
            state.close_branch(node_id)
            return self.next(state)
        anchors = cluster_anchors(state, node_id, children)
        slate = Slate(parent=node_id, candidate_ids=children, anchor_ids=anchors, kind="inner")
        return Choice(slate=slate, expected_gain=0.0, why=f"path relevance {state.path(node_id) or 0.0:.3f}")


def _best(state: SearchState, node_ids: Sequence[str]) -> str | None:
    """The node of the highest path relevance, the first of equals."""
    return max(node_ids, key=lambda node_id: state.path(node_id) or 0.0, default=None)


def _half(budget: Budget) -> Budget:
    return replace(
        budget,
        max_calls=None if budget.max_calls is None else budget.max_calls // 2,
        max_tokens=None if budget.max_tokens is None else budget.max_tokens // 2,
        max_seconds=None if budget.max_seconds is None else budget.max_seconds / 2,
        max_cost=None if budget.max_cost is None else budget.max_cost / 2,
    )
