"""Expected scores from token probabilities."""

from __future__ import annotations

import math

import pytest

from branchwise.prompts.expected import expected_scores
from branchwise.prompts.model import TokenChoice


def token(text: str, **alternatives: float) -> TokenChoice:
    """A token with the probabilities of its alternatives; "_80" stands for 80."""
    found = {name.removeprefix("_"): math.log(p) for name, p in alternatives.items()}
    return TokenChoice(token=text, alternatives=found)


def plain(text: str) -> list[TokenChoice]:
    """Tokens without alternatives, a character each."""
    return [TokenChoice(token=char) for char in text]


def test_a_number_in_one_token_is_the_mean_of_its_alternatives() -> None:
    """80 at .75 and 20 at .25 is 65; alternatives that are no numbers do not count."""
    tokens = [*plain('{"scores": {"1": '), token("80", _80=0.6, _20=0.2, x=0.2), *plain(', "2": 5}}')]
    assert expected_scores(tokens) == pytest.approx({1: 65.0, 2: 5.0})


def test_a_number_in_digits_moves_by_each_of_them() -> None:
    """85 with 8 or 3 (.5 each) and 5 or 7 (.5 each) is 60 + 1."""
    tokens = [*plain('{"scores": {"1": '), token("8", _8=0.5, _3=0.5), token("5", _5=0.5, _7=0.5), *plain("}}")]
    assert expected_scores(tokens)[1] == pytest.approx(85 - 25 + 1)


def test_no_score_leaves_the_scale_and_reasons_are_not_read() -> None:
    """Alternatives over 100 are no scores; numbers in reasons are not scores."""
    tokens = [*plain('{"scores": {"1": '), token("100", _100=0.5, _900=0.5), *plain('}, "why": {"2": 50}}')]
    assert expected_scores(tokens) == {1: 100.0}


def test_without_tokens_there_is_nothing_to_expect() -> None:
    """A server without log-probabilities leaves the scores as they were written."""
    assert expected_scores([]) == {}
