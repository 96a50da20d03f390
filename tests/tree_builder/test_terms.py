"""Key terms."""

from __future__ import annotations

import numpy as np

from branchwise.tree_builder.terms import REPEATS, TermTable

TEXTS = [
    "The bakery sells bread and rolls.",
    "Bread rises with yeast, and rolls do too.",
    "The volcano throws lava over the bread of the village.",
    "Lava cools to basalt near the volcano.",
]


def test_key_terms_tell_a_set_from_its_company() -> None:
    """Against the whole, two texts on volcanoes are named by volcano and lava, not by what all have."""
    table = TermTable.count(TEXTS)
    everything = table.profile(np.arange(4))
    terms = table.key_terms(table.profile(np.array([2, 3])), everything, 2)
    assert sorted(terms) == ["lava", "volcano"]


def test_terms_are_shown_as_the_corpus_writes_them() -> None:
    """Stems are for counting; what is shown is a word of the text."""
    table = TermTable.count(TEXTS)
    words = table.key_terms(table.profile(np.arange(4)), None, 50)
    everything = " ".join(TEXTS).casefold()
    assert words
    assert all(word in everything for word in words)


def test_numbers_and_single_letters_name_nothing() -> None:
    """Of "x 12 345 alpha" only alpha is a term."""
    table = TermTable.count(["x 12 345 alpha"])
    assert table.key_terms(table.profile(np.array([0])), None, 9) == ["alpha"]


def test_one_long_list_does_not_name_a_cluster() -> None:
    """A term counts a few times in one passage at most."""
    table = TermTable.count(["alpha " * 100])
    assert table.profile(np.array([0])).counts.tolist() == [REPEATS]


def test_a_page_is_named_by_what_stands_further_down_too() -> None:
    """What a page turns to after its first screen is among its terms, and what stands beyond many screens is not."""
    filler = " ".join(f"word{n}x" for n in range(400))  # some 3,500 characters
    table = TermTable.count([f"Bread {filler} volcano {filler} glacier"])
    terms = table.key_terms(table.profile(np.array([0])), None, 2_000)
    assert {"bread", "volcano"} <= set(terms)
    assert "glacier" not in terms


def test_nothing_has_no_terms() -> None:
    """No texts, and texts without words, have empty profiles."""
    for texts in ([], [""], ["the and of"]):
        table = TermTable.count(texts)
        assert table.key_terms(table.profile(np.arange(len(texts))), None, 5) == []
