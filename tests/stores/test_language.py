"""Words and sentences in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.stores.language import Analyzer, detect_language, sentences, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Max_children is 16.", ["max_children", "is", "16"]),
        ("Café naïve ﬁne STRASSE Straße", ["café", "naïve", "fine", "strasse", "strasse"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("العَرَبِيَّة", ["العَرَبِيَّة"]),
        ("東京都へ", ["東京", "京都", "都へ", "東", "京", "都"]),
        ("ไทย", ["ไท", "ทย"]),
        ("한국어 말", ["한국", "국어", "말"]),
        ("", []),
    ],
)
def test_tokens(text: str, words: list[str]) -> None:
    """Combining marks stay in their word; unspaced runs become character pairs and single ideographs."""
    assert tokens(text) == words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Dr. Smith left. He said "No!" Then 3.5 km.', ["Dr. Smith left.", 'He said "No!"', "Then 3.5 km."]),
        ("这是一句。还有一句！", ["这是一句。", "还有一句！"]),
        ("यह एक है। दूसरा।", ["यह एक है।", "दूसरा।"]),
        ("# Head\n- one\n- two\n\nEnd", ["# Head", "- one", "- two", "End"]),
        ("See e.g. J. Doe et al. there.", ["See e.g. J. Doe et al. there."]),
    ],
)
def test_sentences(text: str, found: list[str]) -> None:
    """Stops of several scripts, list items and empty lines end a sentence; abbreviations do not."""
    assert [text[start:end] for start, end in sentences(text)] == found


@given(st.text(max_size=3000))
def test_sentences_cover_every_visible_character_in_order(text: str) -> None:
    """Spans do not overlap, hold no outer white space, are bounded, and leave out white space alone."""
    last = 0
    kept = []
    for start, end in sentences(text):
        assert last <= start < end <= len(text)
        assert end - start <= 600
        assert text[start:end].strip() == text[start:end]
        kept.append(text[start:end])
        last = end
    assert "".join("".join(kept).split()) == "".join(text.split())


@given(st.text())
def test_tokens_never_fail_and_ignore_case(text: str) -> None:
    """Any text has tokens, none of them empty or with white space."""
    for token in tokens(text):
        assert token
        assert not any(character.isspace() for character in token)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on the mat and it does not want to leave", "en"),
        ("O gato está em cima da mesa e não quer sair de casa", "pt"),
        ("Die Katze liegt auf dem Tisch und will nicht weg", "de"),
        ("東京都に行く", ""),
        ("x = y + 1", ""),
        ("", ""),
    ],
)
def test_language_is_told_by_stop_words(text: str, language: str) -> None:
    """The language whose stop words are most; none where none stands out."""
    assert detect_language([text]) == language


def test_analyzer_drops_stop_words_and_stems() -> None:
    """Both stemmers fold plurals; stop words give no term."""
    assert Analyzer("en", stemmer="s").terms("The studies of the foxes") == ["study", "foxe"]
    assert Analyzer("", stemmer="").terms("The foxes") == ["the", "foxes"]
