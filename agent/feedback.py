"""Pseudo relevance feedback: the best leaves tell the two cheap legs what else the answer is written in.

Rocchio (1971) on the query vector; for BM25 the terms that the best leaves share and the corpus does not (the
relevance model of Lavrenko and Croft, 2001, interpolated with the user's own query, which is called RM3). Which leaves
are best is for the caller to say: those that a judge has read, or only the first guess. Tested in
tests/agent/test_rewrite_feedback.py; what each step is worth is measured by agent.bench.rewriting.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from branchwise.agent.rewrite import Probe, blend, weigh
from branchwise.agent.words import is_content_word
from branchwise.stores.language import tokens

if TYPE_CHECKING:
    from branchwise.agent.search.seeds import Prior
    from branchwise.stores.embedding import FloatMatrix, FloatVector
    from branchwise.stores.index import Index
    from branchwise.stores.lexical import LexicalIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """How much is taken from the best leaves; a step at 0 is off."""

    leaves: int = 3
    """How many of the best leaves are listened to."""
    share: float = 0.2
    """Share of the query vector that their centre gets, in [0, 1] (Rocchio's beta / (alpha + beta), gamma = 0)."""
    terms: int = 0
    """How many terms BM25 is given; the user's own words keep half of the weight (rewrite.LITERAL_SHARE). Off, because
    over five collections 5 to 20 terms cost the fused legs about .02 nDCG@10."""


def hear_best(index: Index, probe: Probe, prior: Prior, dials: Feedback) -> Probe:
    """The probe after hearing the leaves that a first look ranks best, each by its prior."""
    rows = [int(row) for row in prior.ranked[: dials.leaves]]
    texts = index.texts([index.tree.leaf_ids[row] for row in rows]) if dials.terms else {}
    return feed_back(
        probe,
        [texts.get(index.tree.leaf_ids[row], "") for row in rows],
        index.leaf_matrix[rows],
        [max(0.0, float(prior.fused[row])) for row in rows],
        index.lexical,
        dials=dials,
    )


def feed_back(
    probe: Probe,
    texts: Sequence[str],
    rows: FloatMatrix,
    weights: Sequence[float],
    lexical: LexicalIndex,
    *,
    dials: Feedback,
) -> Probe:
    """The probe after hearing leaves, best first: their `texts`, unit `rows` (n, d) and `weights` >= 0 (n,)."""
    texts, rows, weights = texts[: dials.leaves], rows[: dials.leaves], weights[: dials.leaves]
    if not sum(weights):
        return probe
    words = weigh(probe.words, shared_terms(texts, weights, lexical, but=probe.words)[: dials.terms], lexical)
    return Probe(words=words, vector=_towards(probe.vector, rows, weights, share=dials.share))


def shared_terms(texts: Sequence[str], weights: Sequence[float], lexical: LexicalIndex, *, but: str) -> list[str]:
    """One word for each index term of `texts` that is not in `but`, those that tell them apart from the corpus first.

    A term is worth its weighted share of each text times its inverse document frequency.
    """
    known = set(lexical.terms(but))
    worth: defaultdict[str, float] = defaultdict(float)
    word_of: dict[str, str] = {}
    for text, weight in zip(texts, weights, strict=True):
        counts = Counter(token for token in tokens(text) if is_content_word(token))
        for token, count in counts.items():
            for term in lexical.terms(token):
                if term not in known:
                    word_of.setdefault(term, token)
                    worth[term] += weight * count / counts.total() * lexical.idf(term)
    return [word_of[term] for term in sorted(worth, key=lambda term: (-worth[term], term))]


def _towards(vector: FloatVector, rows: FloatMatrix, weights: Sequence[float], *, share: float) -> FloatVector:
    centre = np.asarray(weights, dtype=np.float32) @ rows
    length = float(np.linalg.norm(centre))
    return blend(vector, centre / length, share=share) if share and length else vector
