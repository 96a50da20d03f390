"""Puts text that we did not write into a prompt as data, inside a fence that the text cannot close.

The fence is a tag on a line of its own. Within the text every `<` that would open or close one of our tags, and every
control token of a known chat template, loses its first character to a look-alike; invisible and control characters go.
The change is the same every time (a prompt must be the same bytes for the server's prefix cache and our own), and is
idempotent. What a text *says* cannot be fenced: the prompts tell the model to judge it, the tests measure that the
structure holds. Tested in tests/prompts/test_fence.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TAGS = ("item", "query")

# Tags of our own prompts and of common chat templates; white space and a slash wherever a lenient reader allows them.
_TAG = re.compile(
    r"<(?=[\s/]*(?:" + "|".join(TAGS) + r"|s|think|tool_call|tool_response|start_of_turn|end_of_turn|bos|eos"
    r"|system|user|assistant|SYS)\b)",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(r"<(?=[|｜])|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\])", re.IGNORECASE)
# Controls except tab and newline, bidi overrides, zero-width and tag characters (a known way to hide instructions).
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOOK_ALIKE = {"<": "‹", "[": "⁅"}


def neutralise(text: str) -> str:
    """`text` without anything that a reader of our prompts, or a chat template, would take for structure."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", text))
    text = _TAG.sub(_LOOK_ALIKE["<"], text)
    return _TEMPLATE.sub(lambda found: _LOOK_ALIKE[found.group()], text)


def fence(tag: str, text: str) -> str:
    """`text` as the data of one tag: "<query>", the text, "</query>", each on its own line."""
    return f"<{tag}>\n{neutralise(text).strip()}\n</{tag.split()[0]}>"


def fence_items(texts: Iterable[str], *, first: int = 1) -> str:
    """Texts as numbered items, `first` being the number of the first: the only names by which a model knows them."""
    return "\n".join(fence(f"item {number}", text) for number, text in enumerate(texts, first))
