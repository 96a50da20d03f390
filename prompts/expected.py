"""The expected score of each item, from the probabilities of the tokens that spell it.

A judge that writes 80 where it was torn between 80 and 20 says less than its probabilities do. Each token of a number
moves the score by the mean of what its alternatives would have made of it, alternatives that are no digits left out.
Tested in tests/prompts/test_expected.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from branchwise.prompts.model import TokenChoice

_PAIR = re.compile(r'"(\d{1,4})"\s*:\s*(\d{1,3})(?=\s*[,}])')


def expected_scores(tokens: Sequence[TokenChoice]) -> dict[int, float]:
    """Expected score from 0 to 100 of each item that the reply {"scores": {"1": 80, ...}} names; {} without tokens."""
    text = "".join(token.token for token in tokens)
    ends = [0]
    for token in tokens:
        ends.append(ends[-1] + len(token.token))
    end = text.find('"why"')
    scores = {}
    for pair in _PAIR.finditer(text, 0, end if end >= 0 else len(text)):
        said = pair.group(2)
        places = [i for i in range(len(tokens)) if ends[i] < pair.end(2) and ends[i + 1] > pair.start(2)]
        value = float(said)
        for place in places:
            before = text[pair.start(2) : max(ends[place], pair.start(2))]
            after = text[min(ends[place + 1], pair.end(2)) : pair.end(2)]
            value += _shift(tokens[place], before, after, int(said), alone=len(places) == 1)
        scores[int(pair.group(1))] = min(max(value, 0.0), 100.0)
    return scores


def _shift(token: TokenChoice, before: str, after: str, said: int, *, alone: bool) -> float:
    """Mean difference that the alternatives of one token make to the number that was said."""
    digits = token.token.strip(' ",:}')
    weights: dict[int, float] = {}
    for other, log_probability in token.alternatives.items():
        other = other.strip()
        # Within a number of several tokens only digits of the same length keep the rest of the number in its place.
        if other.isdecimal() and other.isascii() and (alone or len(other) == len(digits)):
            number = int(before + other + after)
            if number <= 100:
                weights[number] = weights.get(number, 0.0) + math.exp(min(log_probability, 0.0))
    total = sum(weights.values())
    return sum(weight * (number - said) for number, weight in weights.items()) / total if total else 0.0
