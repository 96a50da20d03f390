"""Counts tokens without a tokenizer: an estimate for each kind of character, and a bound that is not passed.

The figures hold for byte-pair vocabularies of 50,000 and more (measured in tests/prompts/test_tokens.py notes); a
server's own count is always believed more. Tested in tests/prompts/test_tokens.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from branchwise.prompts.model import Message

PER_MESSAGE = 8  # role and separators of common chat templates
_WORD = re.compile(r"[A-Za-z]+")
_DIGITS = re.compile(r"[0-9]+")
_SPACE = re.compile(r"[ ]+|\t+|\n+")


def estimate_tokens(text: str) -> int:
    """Tokens of `text` as a common tokenizer counts them, on the high side by about a tenth."""
    words = _WORD.findall(text)
    tokens = sum(1 + (len(word) - 1) // 6 for word in words) + sum(-(-len(run) // 3) for run in _DIGITS.findall(text))
    latin = sum(map(len, words)) + sum(len(run) for run in _DIGITS.findall(text))
    spaces = sum(len(run) for run in _SPACE.findall(text))
    breaks = text.count("\n")
    ascii_left = len(text.encode("ascii", "ignore")) - latin - spaces
    other = sum(_weight(ord(char)) for char in text if ord(char) > 127) if not text.isascii() else 0.0
    return int(tokens + breaks + 0.8 * max(ascii_left, 0) + other) + (1 if text else 0)


def bound_tokens(text: str) -> int:
    """A count that no byte-pair tokenizer passes: a token holds at least one byte."""
    return len(text.encode("utf-8", "replace"))


def estimate_messages(messages: Sequence[Message]) -> int:
    """Tokens of a whole prompt, chat template included."""
    return sum(estimate_tokens(message.content) + PER_MESSAGE for message in messages)


def shorten_to(text: str, tokens: int) -> str:
    """`text`, or as much of it as `tokens` hold, cut at a word, with a mark that says how much is left out."""
    if len(text) <= 2 * tokens or estimate_tokens(text) <= tokens:
        return text
    low, high = 0, len(text)
    while high - low > 16:
        middle = (low + high) // 2
        low, high = (middle, high) if estimate_tokens(text[:middle]) <= tokens - 12 else (low, middle)
    cut = text.rfind(" ", low * 9 // 10, low)
    kept = text[: cut if cut > 0 else low].rstrip()
    return f"{kept} [... {len(text) - len(kept):,} more characters]"


def _weight(code: int) -> float:
    if code < 0x250:  # accented Latin
        return 0.9
    if code < 0x0600:  # Greek, Cyrillic, Armenian, Hebrew
        return 0.6
    if code < 0x2E80:  # Arabic, Indic, Thai, symbols
        return 1.2
    return 1.3  # Chinese, Japanese, Korean, emoji
