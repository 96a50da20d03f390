"""Which words of a question say what it is about: all but those that only ask, point back or bind.

One closed list for English, Portuguese, Spanish, French, Italian and German; other languages keep every word, and rare
words weigh more than common ones wherever terms are used. Knows nothing of indexes or models. Tested in
tests/agent/test_rewrite.py.
"""

from __future__ import annotations

from branchwise.stores.language import tokens

_POINTING = """
    it its he him his she her hers they them their theirs this these those former latter same
    ele ela eles elas dele dela deles delas isso isto este esta esse essa aquele aquela seu sua seus suas
    él ella ellos ellas esto eso ese esa aquel aquella su sus elle ils elles lui leur cela ceci celui celle
    esso essa essi questo questa quello quella er sie ihn ihm ihr ihnen dieser diese dieses jener jene
"""
_GRAMMAR = """
    a about after all also am an and any are as at be because been before being both but by can could did do does doing
    during each either for from had has have having here how i if in into is just me more most my name named no nor not
    of off on once one ones only or other our out over own please so some such than that the then there through to too
    under until up us use used very was we were what when where which while who whom whose why will with would you your
    tell explain describe give find show s t
    o os um uma uns umas de do da dos das em no na nos nas por para pelo pela com sem que qual quais quem quando onde
    como se e ou ao aos à às é são foi ser el la los las una del al y en con es son fue qué cuál cuáles quién cuándo
    dónde cómo le les des du et est sont dans sur pour par avec qui quoi quel quelle quels quelles où comment pourquoi
    il lo gli i di che chi dove della delle dei nel nella
    der die das den dem des ein eine einer eines einem einen und oder ist sind war im am zu zum zur von vom mit für auf
    bei wer was wann wo wie warum welche welcher welches
"""
_NEGATIONS = """
    not no never none neither nor without cannot t não nunca sem nem sin nicht kein keine nie ohne pas jamais sans non
"""


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


POINTING_WORDS = _listed(_POINTING)
"""Pronouns and demonstratives that most likely point to something said before."""
FUNCTION_WORDS = POINTING_WORDS | _listed(_GRAMMAR)
"""Words that carry grammar rather than content."""
NEGATIONS = _listed(_NEGATIONS)
"""Words that turn a sentence into its opposite."""


def content_words(text: str) -> list[str]:
    """The distinct words of `text` that carry content, case folded, in order of appearance; none for pure grammar."""
    return list(dict.fromkeys(word for word in tokens(text) if is_content_word(word)))


def is_content_word(word: str) -> bool:
    """False for words that carry grammar only and for a lone letter of a cased alphabet."""
    return word not in FUNCTION_WORDS and not (len(word) == 1 and word.isalpha() and word.upper() != word)
