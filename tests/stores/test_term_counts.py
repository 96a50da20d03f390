"""Counting terms in arrays gives what counting them one by one gives."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.stores import term_counts
from branchwise.stores.lexical import K1, B, LexicalIndex
from branchwise.stores.term_counts import TermCounter

_word = st.sampled_from(["the", "cat", "cats", "Cat", "dog", "", "x"])


def _term(token: str) -> str:
    """A stop word, two spellings of one word, and the rest as they are."""
    return {"the": "", "cats": "cat", "Cat": "cat"}.get(token, token)


@given(st.lists(st.lists(_word, max_size=12), max_size=12), st.integers(1, 8))
def test_counts_are_those_of_a_counter(texts: list[list[str]], at_once: int) -> None:
    """Whatever the texts and however they fall into pieces: distinct terms, counts, lengths and numbering."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_counts, "_AT_ONCE", at_once)
        counter = TermCounter(_term)
        found = counter.count(texts)
    terms = list(counter.terms)
    assert terms == list(dict.fromkeys(term for text in texts for token in text if (term := _term(token))))
    assert len(found.starts) == len(texts) + 1
    for row, text in enumerate(texts):
        span = slice(found.starts[row], found.starts[row + 1])
        wanted = Counter(term for token in text if (term := _term(token)))
        assert {terms[i]: n for i, n in zip(found.ids[span], found.counts[span], strict=True)} == wanted
        assert list(found.ids[span]) == sorted(found.ids[span])
        assert found.lengths[row] == wanted.total()
    assert counter.known() == {token: counter.terms.get(_term(token), -1) for text in texts for token in text}


def test_a_term_is_spelt_as_it_is_met_most_often() -> None:
    """Of tokens met equally often the first in the alphabet stands for the term."""
    counter = TermCounter(_term)
    counter.count([["cats", "cat", "dog"], ["cats"]])
    assert counter.spellings() == ["cats", "dog"]
    counter.count([["cat"]])
    assert counter.spellings() == ["cat", "dog"]


def test_bm25_is_that_of_bm25s() -> None:
    """Our arrays hold what bm25s itself would have made of the same terms."""
    import bm25s
    import numpy as np

    texts = ["a cat and a dog", "", "dogs, dogs, dogs", "the the", "a bird sings of a cat and of nothing else"]
    index = LexicalIndex.build(texts)
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(term, len(vocabulary)) for term in index.terms(text)] for text in texts]
    engine = bm25s.BM25(k1=K1, b=B, method="lucene")
    engine.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    for query in ("cat", "dogs cat", "bird of nothing"):
        asked = [vocabulary[term] for term in index.terms(query)]
        np.testing.assert_allclose(index.scores(query), engine.get_scores_from_ids(asked), rtol=1e-5)
