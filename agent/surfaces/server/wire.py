"""What the server reads, checked on its way in, and the nodes of the tree that it shows.

Every limit on what a client may send is here; answers and hits have the shapes of agent.surfaces.shapes. Tested in
tests/surfaces/server/test_rest.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class QuestionIn(BaseModel):
    """The body of /search and /ask."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(min_length=1, max_length=20_000)
    index: str | None = Field(default=None, max_length=200)
    k: int = Field(default=10, ge=1, le=100)
    budget: BudgetIn = Field(default_factory=BudgetIn)
    filters: dict[Id, Scalar | list[Scalar]] = Field(default_factory=dict, max_length=50)
    excluded_ids: list[Id] = Field(default_factory=list, max_length=10_000)
    history: list[TurnIn] = Field(default_factory=list, max_length=200)
    relevance: str = Field(default="", max_length=2_000)
    stream: bool = False

    def to_question(self) -> Question:
        """The record that the engine reads."""
        filters: Filters = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.filters.items()
        }
        return Question(
            text=self.question,
            history=tuple(Turn(role=turn.role, text=turn.text) for turn in self.history),
            filters=filters,
            excluded_ids=frozenset(self.excluded_ids),
            relevance=self.relevance,
        )

    def to_budget(self) -> Budget:
        """The record that the engine reads."""
        return Budget(**self.budget.model_dump())


def node_json(index: Index, node_id: str) -> dict[str, Any]:
    """A node of the tree with its own text. Raises IndexMissing for an unknown id."""
    node = index.node(node_id)
    return {**_label(index, node_id), "text": node.text, "written_by": node.written_by}


def labels_json(index: Index, node_ids: Iterable[str]) -> dict[str, Any]:
    """What a picture of the tree needs to draw each node: name, parent, and how much lies below.

    A leaf carries the beginning of its passage. An inner node does not carry its summary, which may speak of passages
    that this search excludes.
    """
    wanted = [node_id for node_id in dict.fromkeys(node_ids) if node_id in index.tree]
    texts: Mapping[str, str] = index.texts([node_id for node_id in wanted if index.tree.is_leaf(node_id)])
    labels = {}
    for node_id in wanted:
        labels[node_id] = _label(index, node_id)
        if node_id in texts:
            labels[node_id]["text"] = texts[node_id][:SNIPPET]
    return labels


def _label(index: Index, node_id: str) -> dict[str, Any]:
    tree = index.tree
    node = tree.node(node_id)
    parents = tree.parents(node_id)
    return {
        "node_id": node_id,
        "title": node.title,
        "parent": parents[0] if parents else None,
        "leaf": tree.is_leaf(node_id),
        "passage_id": node.passage_id,
        "children": len(tree.children(node_id)),
        "leaves": len(tree.leaf_rows(node_id)),
    }
