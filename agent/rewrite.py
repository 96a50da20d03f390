"""Makes a question searchable: alone without its conversation, with the words that its answer would be written in.

For the lexical and the dense leg only: a judge always reads the user's own words, which strong judges do best with.
Whatever a rewriter adds, the user's literal words keep at least half of the weight (`LITERAL_SHARE`). Does not search.
Tested in tests/agent/test_rewrite.py; what each step is worth is measured by agent.bench.rewriting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from branchwise.agent.words import POINTING_WORDS, content_words, is_content_word
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import BudgetSpent, ModelUnavailable, ReplyInvalid
from branchwise.stores.language import sentences, tokens
from branchwise.stores.records import Question, Rewrite, Turn, Usage

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker
    from branchwise.stores.embedding import Embedder, FloatVector
    from branchwise.stores.lexical import LexicalIndex

LITERAL_SHARE = 0.5
"""Of a query's weight, the least that the user's own words keep against all that was added."""
TURNS = 6
"""How many of the last turns a question is understood from."""
MAX_ADDED = 64
"""Words that a rewrite may add to the lexical query: more would drown any question."""

_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[^\W\d_a-z]\w+|\b\w*\d\w*\b")


class Rewriter(Protocol):
    """Makes a question searchable."""

    name: str

    async def rewrite(self, question: Question, *, meter: Meter | None = None) -> tuple[Rewrite, Usage]:
        """The rewrite, and what it cost. Raises ModelRefused where the server will never answer."""
        ...


class NoRewriter:
    """Rewriting switched off: the question as it stands."""

    name = "off"

    async def rewrite(self, question: Question, *, meter: Meter | None = None) -> tuple[Rewrite, Usage]:
        """The identity."""
        return Rewrite(standalone=question.text, written_by=self.name), Usage()


class EmbeddedRewriter:
    """Rewriting without a model: a question that points back gets the words of the turns it can point to."""

    name = "embedded"

    async def rewrite(self, question: Question, *, meter: Meter | None = None) -> tuple[Rewrite, Usage]:
        """The standalone question and its content words, free of charge."""
        standalone = stand_alone(question)
        return Rewrite(standalone=standalone, keywords=tuple(content_words(standalone))), Usage()


class ModelRewriter:
    """Rewriting by a language model; the embedded rewriter stands in where it fails or its budget is spent.

    `written_by` is the model's name, or "fallback:<model>".
    """

    def __init__(self, asker: Asker, *, fallback: Rewriter | None = None) -> None:
        self.asker = asker
        self.name = asker.name
        self.fallback = fallback or EmbeddedRewriter()

    async def rewrite(self, question: Question, *, meter: Meter | None = None) -> tuple[Rewrite, Usage]:
        """Standalone question, keywords, sub-questions and a sketch of the evidence, in one call."""
        from branchwise.prompts.replies import RewriteReply

        meter = meter or Meter()
        before = meter.spent
        try:
            asked = await self.asker.ask(
                "rewrite.v1",
                {"history": transcript(question.history), "query": question.text},
                RewriteReply,
                meter=meter,
                accept=lambda reply: None if reply.standalone.strip() else '"standalone" is empty.',
            )
        except (ReplyInvalid, ModelUnavailable, BudgetSpent):
            stand_in, _ = await self.fallback.rewrite(question)
            return _written_by(stand_in, f"fallback:{self.name}"), since(before, meter.spent)
        reply = asked.value
        rewrite = Rewrite(
            standalone=reply.standalone[: 2 * len(question.text) + 1000],
            keywords=_few(reply.keywords, count=12, longest=80),
            sub_questions=_few(reply.sub_questions, count=4, longest=400),
            evidence=reply.evidence[:800],
            written_by=self.name,
        )
        return rewrite, asked.usage


async def condense(question: Question, asker: Asker, *, meter: Meter | None = None) -> tuple[str, Usage]:
    """The question put so that it is understood without its history, by a model; by code where the model fails."""
    from branchwise.prompts.replies import CondenseReply

    if not question.history:
        return question.text, Usage()
    meter = meter or Meter()
    before = meter.spent
    try:
        asked = await asker.ask(
            "condense.v1",
            {"history": transcript(question.history), "query": question.text},
            CondenseReply,
            meter=meter,
            accept=lambda reply: None if reply.standalone.strip() else '"standalone" is empty.',
        )
    except (ReplyInvalid, ModelUnavailable, BudgetSpent):
        return stand_alone(question), since(before, meter.spent)
    return asked.value.standalone, asked.usage


def stand_alone(question: Question) -> str:
    """The question with the words it needs from its history, by code: unchanged where it points to nothing.

    It points back if it holds a pronoun or demonstrative, or hardly a content word. It then gets, in parentheses, the
    content words of the last question asked and the names and figures of the answer given to it.
    """
    if not question.history or not _points_back(question.text):
        return question.text
    known = set(tokens(question.text))
    added: list[str] = []
    for word in _words_said_before(question.history):
        if not known.intersection(tokens(word)):
            known.update(tokens(word))
            added.append(word)
    return f"{question.text} ({' '.join(added[:12])})" if added else question.text


def transcript(history: Sequence[Turn]) -> list[str]:
    """The last turns as a prompt shows them, oldest first."""
    return [f"{'User' if turn.role == 'user' else 'Answer'}: {turn.text[:1500]}" for turn in history[-TURNS:]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the two cheap legs search for: `words` for BM25, repeated as often as they weigh; a unit `vector` (d,)."""

    words: str
    vector: FloatVector


def make_probe(question: Question, rewrite: Rewrite | None, *, embedder: Embedder, lexical: LexicalIndex) -> Probe:
    """The query of both legs: BM25 gets distinct content words, the vector is of whole sentences.

    Without a rewrite, or with one that names no keywords, both get the user's words as they stand.
    """
    rewrite = rewrite or Rewrite(standalone=question.text)
    # A judge reads the history; the legs cannot, so with one they search for the question that stands alone.
    literal = rewrite.standalone if question.history else question.text
    vector = embedder.embed_query(literal)
    if rewrite.evidence.strip():
        vector = blend(vector, embedder.embed_query(rewrite.evidence), share=1 - LITERAL_SHARE)
    if not rewrite.keywords:
        return Probe(words=literal, vector=vector)
    added = " ".join((rewrite.standalone, *rewrite.keywords, rewrite.evidence))
    return Probe(words=weigh(" ".join(content_words(literal)) or literal, tokens(added), lexical), vector=vector)


def weigh(literal: str, added: Sequence[str], lexical: LexicalIndex) -> str:
    """A query of the literal text and the new words of `added`, the text repeated until it has LITERAL_SHARE."""
    have = set(lexical.terms(literal))
    new: dict[str, str] = {}
    for word in added:
        for term in lexical.terms(word) if is_content_word(word) else ():
            if term not in have:
                new.setdefault(term, word)
    chosen = dict(list(new.items())[:MAX_ADDED])
    weight = sum(lexical.idf(term) for term in lexical.terms(literal))
    extra = sum(lexical.idf(term) for term in chosen)
    times = max(1, math.ceil(LITERAL_SHARE / (1 - LITERAL_SHARE) * extra / weight)) if weight else 1
    return " ".join([literal] * min(times, 16) + list(chosen.values()))


def blend(vector: FloatVector, other: FloatVector, *, share: float) -> FloatVector:
    """Unit vector of (1 - share) `vector` + share `other`; `vector` itself where nothing is left."""
    mixed = (1 - share) * vector + share * other
    length = float(np.linalg.norm(mixed))
    return (mixed / length).astype(np.float32) if length else vector


def _points_back(text: str) -> bool:
    words = tokens(text)
    return len(content_words(text)) <= 1 or any(word in POINTING_WORDS for word in words)


def _words_said_before(history: Sequence[Turn]) -> list[str]:
    """Content words of the last questions, and among them the names and figures that the last answer begins with."""
    recent = history[-TURNS:]
    answer = next((turn.text for turn in reversed(recent) if turn.role == "assistant"), "")
    first = answer[slice(*spans[0])] if (spans := sentences(answer[:2000])) else ""
    asked = [word for turn in reversed(recent) if turn.role == "user" for word in _in_case(turn.text)]
    return [*asked[:8], *_NAME.findall(re.sub(r"\[\d+\]", "", first))[:4], *asked[8:]]


def _in_case(text: str) -> list[str]:
    """The content words of `text` as they are written."""
    return [word for word in re.findall(r"\w+(?:[-'’]\w+)*", text) if any(map(is_content_word, tokens(word)))]


def _few(texts: Sequence[str], *, count: int, longest: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text[:longest] for text in texts if text.strip()))[:count]


def _written_by(rewrite: Rewrite, name: str) -> Rewrite:
    return Rewrite(
        standalone=rewrite.standalone,
        keywords=rewrite.keywords,
        sub_questions=rewrite.sub_questions,
        evidence=rewrite.evidence,
        written_by=name,
    )


def since(before: Usage, after: Usage) -> Usage:
    """What was spent between two readings of a meter."""
    return Usage(
        calls=after.calls - before.calls,
        input_tokens=after.input_tokens - before.input_tokens,
        cached_tokens=after.cached_tokens - before.cached_tokens,
        output_tokens=after.output_tokens - before.output_tokens,
        seconds=after.seconds - before.seconds,
        cost=None if after.cost is None or before.cost is None else after.cost - before.cost,
    )
