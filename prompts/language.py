"""Which language a text is in, as far as scripts and small words tell: enough to notice a summary in another one.

Twelve European languages by their commonest words, all others by script. Unsure is "", and nothing is concluded from
that. Tested in tests/prompts/test_language.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_WORDS = {
    "English": "the of and to in is that for with as are by this it from which be was on",
    "German": "der die und das ist nicht mit ein eine von den dem für auf im zu werden sich wird auch",
    "French": "le la les des et est une dans que pour qui par sur du au avec ne pas sont ce",
    "Spanish": "el los las y una que por con para como del se más su al este es lo sus entre",
    "Portuguese": "os as um uma que para com não dos das do da no na em é ao pelo mais como",
    "Italian": "il gli che di una per con non della sono nel dei è si le alla come anche più delle",
    "Dutch": "de het een en van dat niet voor met zijn op te aan wordt ook door bij naar worden deze",
    "Swedish": "och att det som en är av för på med den till inte har ett om från var kan vid",
    "Polish": "i w na z do się nie jest że przez od jako oraz dla są tym które który po za",
    "Turkish": "ve bir bu için ile olarak da de olan daha çok gibi kadar sonra her ise veya en ne değil",
    "Finnish": "ja on ei se että oli joka mutta myös kun hän ovat tai kuin sen niin mukaan sekä voi ole",
    "Czech": "a se na v je že s z do o jako pro by které není jsou nebo také k ze",
}
_LANGUAGES = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
SURE = 4  # small words that have to be there
LEAD = 1.5  # times as many as in the next best language
LETTERS = 12  # that a text has to have in its script
SAMPLE = 4_000  # characters looked at


def language_of(text: str) -> str:
    """ "German", or a script ("Cyrillic", "Han", ...) where that is all that can be told; "" where nothing can."""
    text = text[:SAMPLE]
    scripts = Counter(_script(letter) for word in _WORD.findall(text) for letter in word)
    if not scripts:
        return ""
    script, letters = scripts.most_common(1)[0]
    if letters < LETTERS or letters < 0.6 * scripts.total():
        return ""
    if script != "Latin":
        return script
    words = Counter(word for word in _WORD.findall(text.casefold()))
    ranked = sorted(((sum(words[w] for w in known), name) for name, known in _LANGUAGES.items()), reverse=True)
    (best, language), (second, _) = ranked[:2]
    return language if best >= SURE and best >= LEAD * second else ""


def other_language(said: str, sources: Iterable[str]) -> str | None:
    """The sentence to ask again with where `said` is surely in another language than most of `sources`."""
    theirs = Counter(filter(None, map(language_of, sources)))
    ours = language_of(said)
    if not theirs or not ours:
        return None
    language, count = theirs.most_common(1)[0]
    if ours in theirs or count < 0.6 * theirs.total():
        return None
    return f"The items are in {language}; write in that language."


def _script(letter: str) -> str:
    """Latin, Cyrillic, Han, ... as a character's name begins; kana and Han are one, since Japanese mixes them."""
    if letter.isascii():
        return "Latin"
    name = unicodedata.name(letter, "").split(" ", 1)[0].split("-", 1)[0].title()
    return {"Cjk": "Han", "Hiragana": "Han", "Katakana": "Han", "Ideographic": "Han"}.get(name, name)
