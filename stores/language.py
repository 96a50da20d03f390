"""Words, sentences and index terms of text in any script.

Words follow Unicode letters, digits and marks; scripts that write no spaces between words (Han, kana, Hangul, Thai,
Lao, Khmer, Burmese) are cut into overlapping character pairs, as Lucene's CJK analyser does. Knows nothing of corpora
or indexes. Tested in tests/stores/test_language.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise

from branchwise.stores.errors import InputError

# Python's \w leaves out the combining marks that Indic, Thai, Arabic and Hebrew words are written with.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u0900-\u0903\u093a-\u094f\u0955-\u0957"
    "\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a70-\u0a75\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03"
    "\u0b3c-\u0b57\u0b82\u0bbe-\u0bd7\u0c00-\u0c04\u0c3e-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d57"
    "\u0d81-\u0d83\u0dca-\u0df3\u0f71-\u0f84\u200d"
)
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua9e0-\ua9fe\uaa60-\uaa7f\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
)
_ASCII_WORD = re.compile(r"[a-z0-9_]+")
_WORD = re.compile(rf"([{_UNSPACED}]+)|((?:(?![{_UNSPACED}])[\w{_MARKS}])+)")
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")

_FULL_STOP = r"[.!?…؟۔።]+[\"'”’»)\]]*(?=\s|$)"
_ANY_STOP = r"[。！？｡।॥]+[\"'”’」』）)]*"
_BREAK = re.compile(rf"{_FULL_STOP}|{_ANY_STOP}|\n[ \t]*\n|\n(?=[ \t]*(?:[-*+•#>]|\d+[.)])\s)")
_ABBREVIATION = re.compile(
    r"(?:\b[A-Z]|\b(?:e\.g|i\.e|cf|vs|al|etc|approx|resp|Fig|fig|Eq|eq|Sec|sec|No|no|pp?|vol|Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr"
    r"|Inc|Ltd|Co|U\.S|art|Art|Sra?|bzw|z\.B))\.$"
)
_LONGEST_SENTENCE = 600  # characters; Thai, tables and code have no stops, and a reader quotes whole sentences


def tokens(text: str) -> list[str]:
    """Words of `text` in order, case folded; an unspaced run gives its character pairs, then its single ideographs."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    for unspaced, word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if word:
            found.append(word)
        elif len(unspaced) == 1:
            found.append(unspaced)
        else:
            found.extend(map("".join, pairwise(unspaced)))
            found.extend(_IDEOGRAPH.findall(unspaced))
    return found


def sentences(text: str) -> list[tuple[int, int]]:
    """Half-open spans of the sentences of `text`, in order, without the white space around them.

    A sentence ends at a stop of any script, an empty line or a list item; one longer than 600 characters is cut at a
    space. Abbreviations and initials of the common European kinds do not end one.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BREAK.finditer(text):
        if match.group().startswith(".") and _ABBREVIATION.search(
            text, max(start, match.start() - 8), match.start() + 1
        ):
            continue
        spans.extend(_pieces(text, start, match.end()))
        start = match.end()
    spans.extend(_pieces(text, start, len(text)))
    return spans


def _pieces(text: str, start: int, end: int) -> Iterable[tuple[int, int]]:
    """The span without outer white space, cut where it is longer than a sentence may be."""
    while True:
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if start == end:
            return
        if end - start <= _LONGEST_SENTENCE:
            yield start, end
            return
        limit = start + _LONGEST_SENTENCE
        cut = max(text.rfind(" ", start + 1, limit), text.rfind("\n", start + 1, limit))
        cut = cut if cut > start else limit
        stop = cut
        while text[stop - 1].isspace():
            stop -= 1
        yield start, stop
        start = cut


@cache
def _stop_words(language: str) -> frozenset[str]:
    """Stop words of an ISO 639-1 language that bm25s has a list for; none for any other."""
    from bm25s import stopwords

    lists = {
        "en": stopwords.STOPWORDS_EN,
        "de": stopwords.STOPWORDS_GERMAN,
        "nl": stopwords.STOPWORDS_DUTCH,
        "fr": stopwords.STOPWORDS_FRENCH,
        "es": stopwords.STOPWORDS_SPANISH,
        "pt": stopwords.STOPWORDS_PORTUGUESE,
        "it": stopwords.STOPWORDS_ITALIAN,
        "ru": stopwords.STOPWORDS_RUSSIAN,
        "sv": stopwords.STOPWORDS_SWEDISH,
        "no": stopwords.STOPWORDS_NORWEGIAN,
        "tr": stopwords.STOPWORDS_TURKISH,
        "da": stopwords.STOPWORDS_DANISH,
    }
    return frozenset(lists.get(language, ()))


_SNOWBALL = {
    "en": "english", "de": "german", "nl": "dutch", "fr": "french", "es": "spanish", "pt": "portuguese",
    "it": "italian", "ru": "russian", "sv": "swedish", "no": "norwegian", "tr": "turkish", "da": "danish",
}  # fmt: skip
_SAMPLE = 300  # texts: enough votes, and a millisecond each at most


def detect_language(texts: Sequence[str]) -> str:
    """ISO 639-1 code of the language that most words of `texts` speak for, by their stop words; "" if none stands out.

    Only the twelve languages with a stop list can be found. Up to 300 texts, evenly spread, are read.
    """
    step = max(1, len(texts) // _SAMPLE)
    words = [word for text in texts[::step][:_SAMPLE] for word in tokens(text[:2000]) if len(word) > 1]
    if not words:
        return ""
    votes = {
        language: sum(word in stops for word in words) for language in _SNOWBALL if (stops := _stop_words(language))
    }
    best = max(votes, key=lambda language: votes[language])
    return best if votes[best] >= 0.08 * len(words) else ""


class Analyzer:
    """Index terms of a text: its tokens without stop words, stemmed by Snowball where PyStemmer is installed.

    Without PyStemmer English plurals alone are folded (Harman's S-stemmer). `stemmer` names what was used ("snowball",
    "s", ""), because terms of one analyser do not match those of another.
    """

    def __init__(self, language: str, *, stemmer: str | None = None) -> None:
        self.language = language
        self.stemmer = _best_stemmer(language) if stemmer is None else stemmer
        self._stop_words = _stop_words(language)
        self._stem = _load_stem(language, self.stemmer)
        self._terms: dict[str, str] = {}

    def term(self, token: str) -> str:
        """The index term of a token, "" for a stop word."""
        known = self._terms.get(token)
        if known is None:
            known = "" if token in self._stop_words else self._stem(token)
            self._terms[token] = known
        return known

    def terms(self, text: str) -> list[str]:
        """Index terms of `text`, in order."""
        return [term for token in tokens(text) if (term := self.term(token))]


def _best_stemmer(language: str) -> str:
    if language in _SNOWBALL:
        try:
            import Stemmer  # noqa: F401
        except ImportError:
            return "s" if language == "en" else ""
        return "snowball"
    return ""


def _load_stem(language: str, stemmer: str) -> Callable[[str], str]:
    if stemmer == "snowball":
        try:
            import Stemmer
        except ImportError as error:
            raise InputError(
                "This index was built with the Snowball stemmer, which is not installed here.",
                hint="pip install PyStemmer",
            ) from error
        stem: Callable[[str], str] = Stemmer.Stemmer(_SNOWBALL[language]).stemWord
        return stem
    return _fold_plural if stemmer == "s" else str


def _fold_plural(token: str) -> str:
    """Harman's S-stemmer (How effective is suffixing?, JASIS 1991): English plurals to singulars, nothing else."""
    if token.endswith("ies") and token[-4:-3] not in "ea" and len(token) > 4:
        return token[:-3] + "y"
    if token.endswith("es") and token[-3:-2] not in "aeo" and len(token) > 3:
        return token[:-1]
    if token.endswith("s") and token[-2:-1] not in "us" and len(token) > 3:
        return token[:-1]
    return token
