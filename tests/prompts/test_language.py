"""Summaries follow the language of their sources, and a reply in another one is noticed."""

from __future__ import annotations

import json

import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.language import language_of, other_language
from branchwise.prompts.replies import SummaryReply
from branchwise.prompts.testing import ScriptedModel

TEXTS = {
    "English": "The yeast turns the sugar into gas, and the dough rises when it is left in a warm place for an hour.",
    "German": "Die Hefe verwandelt den Zucker in Gas, und der Teig geht auf, wenn er an einem warmen Ort steht.",
    "French": "La levure transforme le sucre en gaz, et la pâte monte dans un endroit qui est chaud.",
    "Spanish": "La levadura convierte el azúcar en gas, y la masa crece por el calor que hay en los hornos.",
    "Portuguese": "O fermento que transforma o açúcar em gás não é caro para os padeiros, e a massa cresce.",
    "Cyrillic": "Дрожжи превращают сахар в углекислый газ, и тесто поднимается.",
    "Han": "酵母は糖をガスに変えるので、生地は暖かい場所で膨らみます。",
    "Arabic": "تحول الخميرة السكر إلى غاز، لذلك يرتفع العجين في مكان دافئ.",
    "Devanagari": "खमीर चीनी को गैस में बदल देता है, इसलिए आटा फूल जाता है।",
}


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_a_language_is_told_by_script_or_small_words(language: str) -> None:
    """Nine kinds of text."""
    assert language_of(TEXTS[language]) == language


@pytest.mark.parametrize("text", ["", "42 + 1", "ok", "Vitamin D3, IL-6, TNF", "def f(x): return x", "pâté, déjà vu"])
def test_nothing_is_concluded_from_little(text: str) -> None:
    """Names, numbers and code have no language."""
    assert language_of(text) == ""
    assert other_language(text, [TEXTS["German"]]) is None
    assert other_language(TEXTS["English"], [text]) is None


def test_only_a_clear_difference_is_complained_of() -> None:
    """Another language than most sources; not where one of them is in it, or where they are of many."""
    assert other_language(TEXTS["English"], [TEXTS["German"]] * 3) == "The items are in German; write in that language."
    assert other_language(TEXTS["German"], [TEXTS["German"]] * 3) is None
    assert other_language(TEXTS["English"], [TEXTS["German"], TEXTS["German"], TEXTS["English"]]) is None
    assert other_language(TEXTS["English"], [TEXTS["German"], TEXTS["French"]]) is None


def summary(text: str) -> str:
    """A reply to summarise.v1 in the language of `text`."""
    return json.dumps({"parts": [{"number": 1, "text": text}], "theme": text, "title": "x"}, ensure_ascii=False)


async def test_a_summary_in_another_language_is_asked_for_again() -> None:
    """Once; the second is taken as it comes, since a summary in English is better than none."""
    german = {"children": [TEXTS["German"]], "count": 1}
    model = ScriptedModel([summary(TEXTS["English"]), summary(TEXTS["German"])])
    asked = await Asker(model).ask("summarise.v1", german, SummaryReply)
    assert asked.value.theme == TEXTS["German"]
    assert "The items are in German" in model.requests[1].messages[-1].content
    stubborn = ScriptedModel([summary(TEXTS["English"])] * 2)
    assert (await Asker(stubborn).ask("summarise.v1", german, SummaryReply)).value.theme == TEXTS["English"]
    obedient = ScriptedModel([summary(TEXTS["German"])])
    await Asker(obedient).ask("summarise.v1", german, SummaryReply)
