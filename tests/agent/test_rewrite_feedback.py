"""What the best leaves say moves the query, and no further than the dials allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.feedback import Feedback, feed_back, shared_terms
from branchwise.agent.rewrite import LITERAL_SHARE, Probe
from branchwise.stores.embedding import make_embedder
from branchwise.stores.lexical import LexicalIndex

TEXTS = [
    "Phase margin and gain margin tell how far a feedback loop is from oscillation.",
    "A loop with little phase margin overshoots before it settles; Nyquist plots show it.",
    "Goethe wrote Faust in Weimar.",
    "A kettle boils water for tea in the morning.",
]
LEXICAL = LexicalIndex.build(TEXTS)
EMBEDDER = make_embedder("embedded", texts=TEXTS)
ROWS = EMBEDDER.embed_texts(TEXTS)
PROBE = Probe(words="loop stability", vector=EMBEDDER.embed_query("loop stability"))


def test_the_vector_moves_towards_the_leaves_and_stays_a_unit() -> None:
    """Closer to the leaves heard than before, in proportion to the share."""
    sims = []
    for share in (0.0, 0.2, 0.5, 1.0):
        moved = feed_back(PROBE, TEXTS[:2], ROWS[:2], [1, 1], LEXICAL, dials=Feedback(share=share, leaves=2))
        assert np.linalg.norm(moved.vector) == pytest.approx(1.0, abs=1e-5)
        sims.append(float(ROWS[:2].sum(axis=0) @ moved.vector))
    assert sims == sorted(sims)
    assert sims[0] < sims[-1]


def test_terms_are_those_that_tell_the_leaves_apart() -> None:
    """Words of the leaves, none of the query's own, none that only binds."""
    terms = shared_terms(TEXTS[:2], [1.0, 0.5], LEXICAL, but="loop")
    assert "margin" in terms[:3]
    assert not {"loop", "and", "with", "is", "kettle"} & set(terms)


def test_each_step_can_be_left_out() -> None:
    """With both dials at 0, or with nothing heard, the probe is unchanged."""
    off = Feedback(share=0, terms=0)
    for dials, weights in ((off, [1.0, 1.0]), (Feedback(terms=5), [0.0, 0.0]), (Feedback(leaves=0), [1.0, 1.0])):
        after = feed_back(PROBE, TEXTS[:2], ROWS[:2], weights, LEXICAL, dials=dials)
        assert np.array_equal(after.vector, PROBE.vector)
        assert LEXICAL.terms(after.words) == LEXICAL.terms(PROBE.words)


@given(terms=st.integers(0, 50), leaves=st.integers(0, 4), share=st.floats(0, 1))
def test_the_users_words_keep_their_share(terms: int, leaves: int, share: float) -> None:
    """Whatever the dials, half of the lexical weight stays with the query."""
    weights = [1.0, 0.8, 0.1, 0.0]
    dials = Feedback(terms=terms, leaves=leaves, share=share)
    after = feed_back(PROBE, TEXTS, ROWS, weights, LEXICAL, dials=dials)
    own = set(LEXICAL.terms(PROBE.words))
    idf = [(term in own, LEXICAL.idf(term)) for term in LEXICAL.terms(after.words)]
    assert sum(w for mine, w in idf if mine) >= LITERAL_SHARE * sum(w for _, w in idf) - 1e-6
