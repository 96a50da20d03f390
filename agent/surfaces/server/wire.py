"""What the server reads, checked on its way in, and the nodes of the tree that it shows.

Every limit on what a client may send is here; answers and hits have the shapes of agent.surfaces.shapes. Tested in
tests/surfaces/server/test_rest.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from branchwise.agent.search.sight import Sight
from branchwise.stores.errors import InputError
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Filters, Question, Turn

Scalar = str | int | float | bool
Id = Annotated[str, Field(max_length=1_000)]
SNIPPET = 320  # characters of a passage that an event carries; the whole text is one request away


class TurnIn(BaseModel):
    """One earlier turn of the conversation."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["user", "assistant"]
    text: str = Field(max_length=100_000)


class BudgetIn(BaseModel):
    """What may be spent at most; a missing limit is none."""

    model_config = ConfigDict(extra="forbid")
    max_calls: int | None = Field(default=None, ge=0, le=10_000)
    max_tokens: int | None = Field(default=None, ge=0)
    max_seconds: float | None = Field(default=None, ge=0, le=3_600)
    max_cost: float | None = Field(default=None, ge=0)


class SightIn(BaseModel):
    """What must not be seen, by its metadata or by its id: in questions, and by those who look around."""

    model_config = ConfigDict(extra="forbid")
    filters: dict[Id, Scalar | list[Scalar]] = Field(default_factory=dict, max_length=50)
    excluded_ids: list[Id] = Field(default_factory=list, max_length=10_000)

    def to_filters(self) -> Filters:
        """The filters as records have them: one value, or several of which one must fit."""
        return {key: tuple(value) if isinstance(value, list) else value for key, value in self.filters.items()}

    def to_sight(self, index: Index) -> Sight:
        """The index as it may be seen."""
        return Sight(index, Question(text="", filters=self.to_filters(), excluded_ids=frozenset(self.excluded_ids)))


class QuestionIn(SightIn):
    """The body of /search and /ask."""

    question: str = Field(min_length=1, max_length=20_000)
    index: str | None = Field(default=None, max_length=200)
    k: int = Field(default=10, ge=1, le=100)
    budget: BudgetIn = Field(default_factory=BudgetIn)
    history: list[TurnIn] = Field(default_factory=list, max_length=200)
    relevance: str = Field(default="", max_length=2_000)
    stream: bool = False

    def to_question(self) -> Question:
        """The record that the engine reads."""
        return Question(
            text=self.question,
            history=tuple(Turn(role=turn.role, text=turn.text) for turn in self.history),
            filters=self.to_filters(),
            excluded_ids=frozenset(self.excluded_ids),
            relevance=self.relevance,
        )

    def to_budget(self) -> Budget:
        """The record that the engine reads."""
        return Budget(**self.budget.model_dump())


def read_sight(filters: str | None, excluded_ids: Sequence[str]) -> SightIn:
    """Filters (a JSON object) and excluded ids as the address of a GET carries them. Raises InputError."""
    try:
        return SightIn(filters=json.loads(filters) if filters else {}, excluded_ids=list(excluded_ids))
    except (ValueError, RecursionError) as error:
        raise InputError('filters is a JSON object, such as {"year": 2020} or {"language": ["en", "de"]}') from error


def node_json(sight: Sight, node_id: str) -> dict[str, Any]:
    """A node of the tree with its text. Raises IndexMissing for an unknown or hidden id."""
    sight.check(node_id)
    return {
        **_label(sight, node_id),
        "text": sight.text(node_id),
        "written_by": sight.index.node(node_id).written_by,
    }


def labels_json(sight: Sight, node_ids: Iterable[str]) -> dict[str, Any]:
    """What a picture of the tree needs to draw each node: name, parent, and how much lies below.

    A leaf carries the beginning of its passage. An inner node does not carry its summary, which may speak of passages
    that this search excludes.
    """
    tree = sight.index.tree
    wanted = [node_id for node_id in dict.fromkeys(node_ids) if node_id in tree and sight.leaves(node_id)]
    sight.index.texts([node_id for node_id in wanted if tree.is_leaf(node_id)])  # read at once, then kept
    labels = {}
    for node_id in wanted:
        labels[node_id] = _label(sight, node_id)
        if tree.is_leaf(node_id):
            labels[node_id]["text"] = sight.text(node_id)[:SNIPPET]
    return labels


def _label(sight: Sight, node_id: str) -> dict[str, Any]:
    tree = sight.index.tree
    parents = tree.parents(node_id)
    return {
        "node_id": node_id,
        "title": sight.title(node_id),
        "parent": parents[0] if parents else None,
        "leaf": tree.is_leaf(node_id),
        "passage_id": sight.passage_id(node_id),
        "children": len(sight.children(node_id)),
        "leaves": sight.leaves(node_id),
    }
