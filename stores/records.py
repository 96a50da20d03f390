"""The records that every part of Branchwise speaks: small, frozen, without behaviour beyond arithmetic.

Units, everywhere: scores in [0, 1]; spans in characters of the document's text, half-open; pages from 1; seconds;
money in the currency of the price list. **None means unknown, never 0.** Texts that arrive from outside are checked
before they become one of these (sources, prompts.replies, the surfaces). Tested in tests/stores/test_records.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Scalar = str | int | float | bool
Metadata = Mapping[str, Scalar]
Filters = Mapping[str, Scalar | tuple[Scalar, ...]]
Stop = Literal["decided", "budget", "exhausted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text as its author made it; `page_starts[i]` is the character at which page i + 1 begins (empty: no pages)."""

    doc_id: str
    text: str
    title: str = ""
    source: str = ""
    metadata: Metadata = field(default_factory=dict)
    page_starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One place where a passage stands: `document.text[start:end]`."""

    passage_id: str
    doc_id: str
    start: int
    end: int
    page: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A stretch of a document, the unit that is found and cited: `text == document.text[start:end]`, exactly.

    `title` is the document's title and the headings above the passage; `position` counts passages within the document
    from 0. `duplicates` are the other places where (nearly) the same text stands; they share this passage's leaf.
    """

    passage_id: str
    doc_id: str
    text: str
    start: int
    end: int
    title: str = ""
    page: int | None = None
    position: int = 0
    metadata: Metadata = field(default_factory=dict)
    duplicates: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a node's text says of one of its children, so that a description can leave out what a search excludes."""

    child_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNode:
    """A node of the semantic tree: a leaf (one passage, `passage_id` set) or a cluster with its summary.

    `parent_ids` is empty for the root, and holds two ids for a leaf with soft membership, the home first. `written_by`
    names who wrote title and text: "passage" (a leaf), "extractive", a model's name, or "fallback:<model>" where the
    model failed and the embedded summariser stood in.
    """

    node_id: str
    parent_ids: tuple[str, ...] = ()
    depth: int = 0
    title: str = ""
    text: str = ""
    passage_id: str | None = None
    parts: tuple[Part, ...] = ()
    written_by: str = "passage"

    @property
    def is_leaf(self) -> bool:
        """True where the node stands for one passage."""
        return self.passage_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and what may be searched for it.

    `filters` keeps passages whose metadata equals the value, or is one of the values; `excluded_ids` are passage or
    document ids that must not be seen anywhere. `relevance` says what counts as relevant (empty: the prompt's own
    definition).
    """

    text: str
    history: tuple[Turn, ...] = ()
    filters: Filters = field(default_factory=dict)
    excluded_ids: frozenset[str] = frozenset()
    relevance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """The question made searchable, for the lexical and dense leg only: a judge always reads the user's own words."""

    standalone: str
    keywords: tuple[str, ...] = ()
    sub_questions: tuple[str, ...] = ()
    evidence: str = ""
    written_by: str = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slate:
    """What a judge sees in one call: the candidates to score, and anchors whose scores are already known.

    `parent` is the expanded node, or None for a slate of finalists drawn from everywhere. A slate is homogeneous:
    inner nodes or leaves. `repeat` tells apart two askings of the same slate.
    """

    parent: str | None
    candidate_ids: tuple[str, ...]
    anchor_ids: tuple[str, ...] = ()
    kind: Literal["inner", "leaf"] = "inner"
    repeat: int = 0

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Candidates, then anchors: the order in which a judge reads them."""
        return self.candidate_ids + self.anchor_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was spent. `cached_tokens` are the part of `input_tokens` that the server had in its prefix cache.

    `cost` is None where no price is known for the model: unknown, not free.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            seconds=self.seconds + other.seconds,
            cost=cost,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent at most; None is no limit. In a search, `max_calls` counts judged slates, by any judge."""

    max_calls: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None
    max_cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A judge's scores for a slate, anchors included: None where it gave none, never 0 instead.

    `weak` marks scores of the embedded judge that stood in for a model which failed; `note` says why.
    """

    slate: Slate
    scores: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    judge: str = ""
    weak: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node on the way to a hit: the judge's last own score, the calibrated one, and path relevance."""

    node_id: str
    title: str
    local: float | None = None
    calibrated: float | None = None
    path: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage found. `score` orders the hits; `signals` holds what it was fused from ("tree", "bm25", "dense").

    `steps` is the path from the root to the leaf. `judged` is False where no judge has read the passage itself.
    """

    passage: Passage
    score: float
    rank: int
    node_id: str
    steps: tuple[Step, ...] = ()
    reason: str = ""
    judged: bool = False
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The hits of one search, best first, with all that was judged for it and all that it cost.

    `partial` is True when a limit or a failure ended the search before it was decided; `notes` says what went wrong
    on the way (a slate judged by the fallback, a server that failed), one line each.
    """

    question: Question
    hits: tuple[Hit, ...]
    judgements: tuple[Judgement, ...] = ()
    stopped: Stop = "decided"
    partial: bool = False
    usage: Usage = field(default_factory=Usage)
    judge: str = "embedded"
    rewrite: Rewrite | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A quote that code has found in the stored text: `document.text[start:end] == quote`."""

    number: int
    passage_id: str
    doc_id: str
    start: int
    end: int
    quote: str
    title: str = ""
    page: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer whose every citation is checked. `found` is False when nothing in the documents supports one.

    `text` refers to citations as [number]. `conflicts` names pairs of citation numbers that contradict each other.
    """

    question: Question
    text: str
    citations: tuple[Citation, ...]
    found: bool
    search: SearchResult
    usage: Usage = field(default_factory=Usage)
    reader: str = "extractive"
    conflicts: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a build, a search or an answer, as it happens: `seq` counts from 0 without gaps.

    The same events draw the progress bar, the web page, the trace and the tests. The payload is plain JSON.
    """

    seq: int
    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
