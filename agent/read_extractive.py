"""The embedded reader: the passages' own sentences, chosen by code and quoted exactly. No model writes anything.

A sentence is worth the question's words it holds (BM25 with the corpus' statistics, its title read along), its
closeness in the embedding, its passage's score, and what it adds to the sentences already chosen. Whether the
documents support an answer at all is decided by how much of what the question is about one passage covers.
Knows nothing of trees or models. Tested in tests/agent/test_reader.py, measured by agent.bench.rewriting.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from branchwise.agent.citations import cite
from branchwise.agent.reader import Library, Reading, not_found, verified
from branchwise.agent.rewrite import stand_alone
from branchwise.agent.words import content_words, is_content_word
from branchwise.stores.errors import ModelError
from branchwise.stores.language import sentences, tokens
from branchwise.stores.records import Citation, Hit, Passage, Question

if TYPE_CHECKING:
    from branchwise.prompts.budget import Meter

PASSAGES = 8
"""How many of the best hits are read."""
DENSE_SENTENCES = 64
"""How many sentences, the best by words, are embedded: keeps a slow embedder's answer under a second."""
SENTENCES = 4
"""The longest answer."""
FROM_ONE_PASSAGE = 2
"""How many sentences of one passage: no passage can fill the answer alone."""
WORTH = 0.3
"""A further sentence must be worth this share of the first."""
SUPPORT = 0.5
"""Below it the documents support no answer. On queries that it was not tuned on, .96 of HotpotQA's own questions pass
it, .97 of JurisTCU's and .52 of TheoremQA's (which share no words with their theorems); of questions put to another
collection 0 to .01, and .08 of CISI's to HotpotQA."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    passage: Passage
    start: int
    end: int
    text: str
    prior: float


class ExtractiveReader:
    """Answers with up to `SENTENCES` sentences of the passages, each cited; labelled "extractive".

    `support` in [0, 1] is how well the question must be covered (see `support`); 0 always answers where there is
    anything to quote, which is how a reader that failed is stood in for.
    """

    name = "extractive"

    def __init__(self, *, support: float = SUPPORT) -> None:
        self.support = support

    async def read(
        self,
        question: Question,
        hits: Sequence[Hit],
        library: Library,
        *,
        meter: Meter | None = None,
        on_token: Callable[[str], None] | None = None,
    ) -> Reading:
        """The best sentences of the best hits, or `found=False`; calls no model, so `meter` is not touched."""
        reading = await asyncio.to_thread(self._read, question, hits, library)
        if on_token:
            on_token(reading.text)
        return reading

    def _read(self, question: Question, hits: Sequence[Hit], library: Library) -> Reading:
        hits, asked = hits[:PASSAGES], stand_alone(question)
        if self.support and support(asked, hits, library) < self.support:
            return not_found()
        candidates = list(_sentences(hits))
        if not candidates:
            return not_found(["The passages found hold no sentence."] if hits else [])
        scores, notes = _score(asked, candidates, library)
        chosen = [candidates[i] for i in _choose(asked, candidates, scores)]
        citations = verified(
            [cite(n, s.passage, (s.passage.start + s.start, s.passage.start + s.end)) for n, s in enumerate(chosen, 1)],
            library,
        )
        if len(citations) < len(chosen):
            notes = (*notes, f"{len(chosen) - len(citations)} quotes left out: the stored text differs.")
        if not citations:
            return not_found(notes)
        return Reading(text="\n".join(map(_line, citations)), citations=citations, notes=notes)


def support(question: str, hits: Sequence[Hit], library: Library) -> float:
    """How well the best of `hits` covers what the question is about, in [0, 1].

    Each content word weighs its inverse document frequency, so that a question about something else is seen by the
    words that no document here uses. The share of that weight which a passage holds counts in full; of a long
    question a smaller share suffices, by the root of how many unheard-of words the covered weight amounts to.
    """
    weights = _weights(question, library)
    total = sum(weights.values())
    if not total:
        return 0.0
    covered = max((_covered(hit.passage, weights, library) for hit in hits[:PASSAGES]), default=0.0)
    unheard_of = math.log1p(2 * len(library.lexical))
    return min(1.0, covered / total * math.sqrt(max(1.0, covered / unheard_of)))


def _weights(question: str, library: Library) -> dict[str, float]:
    """The index terms of the question's content words (of all its words, if it has none) with their idf."""
    found = tokens(question)
    content = list(filter(is_content_word, found)) or found
    return {term: library.lexical.idf(term) for token in content for term in library.lexical.terms(token)}


def _covered(passage: Passage, weights: Mapping[str, float], library: Library) -> float:
    held = set(library.lexical.terms(f"{passage.title}\n{passage.text}"))
    return sum(weight for term, weight in weights.items() if term in held)


def _sentences(hits: Iterable[Hit]) -> Iterable[_Sentence]:
    """What can be quoted: sentences that say something. A question answers none."""
    for hit in hits:
        for start, end in sentences(hit.passage.text):
            text = hit.passage.text[start:end]
            if any(map(str.isalnum, text)) and not text.endswith(("?", "？", "؟")):
                yield _Sentence(hit.passage, start, end, text, hit.score)


def _score(question: str, candidates: Sequence[_Sentence], library: Library) -> tuple[list[float], tuple[str, ...]]:
    """Worth of each sentence, the best about 1; by words alone, with a note, where the embedder fails."""
    titled = [f"{sentence.passage.title} {sentence.text}" for sentence in candidates]
    lexical = np.asarray(library.lexical.score_texts(question, titled), dtype=np.float32)
    lexical /= lexical.max() or 1.0
    prior = np.asarray([sentence.prior for sentence in candidates], dtype=np.float32)
    prior /= prior.max() or 1.0
    best = np.argsort(-(lexical + prior), kind="stable")[:DENSE_SENTENCES]
    dense = np.zeros(len(candidates), dtype=np.float32)
    notes: tuple[str, ...] = ()
    try:
        rows = library.embedder.embed_texts([titled[i] for i in best])
        dense[best] = rows @ library.embedder.embed_query(question)
    except ModelError as error:
        notes = (f"Sentences chosen by words alone, the embedder failed: {error.message}",)
    return [float(value) for value in lexical + dense + 0.5 * prior], notes


def _choose(question: str, candidates: Sequence[_Sentence], scores: Sequence[float]) -> list[int]:
    """The best sentences, best first, each worth less for words that those before it hold; few from one passage."""
    asked = set(content_words(question))
    new_words = [frozenset(content_words(sentence.text)) - asked for sentence in candidates]
    chosen: list[int] = []
    seen: set[str] = set()
    while len(chosen) < SENTENCES:
        taken = Counter(candidates[i].passage.passage_id for i in chosen)
        worth = {
            i: score * len(new_words[i] - seen) / max(1, len(new_words[i]))
            for i, score in enumerate(scores)
            if i not in chosen and taken[candidates[i].passage.passage_id] < FROM_ONE_PASSAGE
        }
        best = max(worth, key=lambda i: (worth[i], -i), default=None)
        if best is None or (chosen and worth[best] < WORTH * scores[chosen[0]]):
            break
        chosen.append(best)
        seen |= new_words[best]
    return chosen


def _line(citation: Citation) -> str:
    return f"{' '.join(citation.quote.split())} [{citation.number}]"
