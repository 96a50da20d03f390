"""Token counting without a tokenizer, against counts that real tokenizers gave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.prompts.model import Message
from branchwise.prompts.tokens import bound_tokens, estimate_messages, estimate_tokens, shorten_to

# (text, tokens by cl100k_base, tokens by Qwen's vocabulary), counted with tiktoken 0.14.
COUNTED = {
    "en": (
        "Yeast turns sugar into carbon dioxide and alcohol, so the dough rises when it is left in a warm place.",
        23,
        23,
    ),
    "de": ("Die Hefe verwandelt den Zucker in Kohlendioxid und Alkohol, weshalb der Teig aufgeht.", 30, 30),
    "pt": ("O fermento transforma o açúcar em dióxido de carbono e álcool, por isso a massa cresce.", 29, 28),
    "ru": ("Дрожжи превращают сахар в углекислый газ и спирт. Поэтому тесто поднимается.", 42, 29),
    "zh": ("酵母把糖转化为二氧化碳和酒精，因此面团在温暖的地方放置几个小时后会膨胀。", 40, 22),
    "ja": ("酵母は糖を二酸化炭素とアルコールに変えるので、生地は暖かい場所に数時間置くと膨らみます。", 46, 37),
    "ar": ("تحول الخميرة السكر إلى ثاني أكسيد الكربون والكحول، لذلك يرتفع العجين.", 50, 26),
    "hi": ("खमीर चीनी को कार्बन डाइऑक्साइड और अल्कोहल में बदल देता है।", 60, 55),
    "math": (r"\frac{\partial f}{\partial x} = \sum_{i=0}^{n} \alpha_i x^{i-1} \quad \forall x", 35, 35),
    "code": ("def f(x):\n    return {k: v**2 for k, v in x.items() if v is not None}\n", 26, 26),
}


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_the_estimate_is_near_and_the_bound_is_above(name: str) -> None:
    """For ten languages and notations: within a factor of 0.75 to 2.2, and the bound never under either tokenizer."""
    text, *counts = COUNTED[name]
    assert 0.75 * max(counts) <= estimate_tokens(text) <= 2.2 * min(counts)
    assert bound_tokens(text) >= max(counts)


@given(st.text(max_size=400), st.text(max_size=50))
def test_counts_are_sane(text: str, more: str) -> None:
    """Never negative, zero only for nothing, and the bound is at most the bytes."""
    assert (estimate_tokens(text) > 0) == bool(text)
    assert 0 <= bound_tokens(text) <= len(text.encode("utf-8", "replace"))
    assert estimate_tokens("x " * 50 + more) >= 50


def test_a_message_costs_more_than_its_text() -> None:
    """Role and separators count."""
    message = Message(role="user", content="hello")
    assert estimate_messages([message, message]) > 2 * estimate_tokens("hello")


@given(st.text(min_size=1, max_size=2_000), st.integers(30, 200))
def test_a_shortened_text_fits_and_says_what_is_missing(text: str, tokens: int) -> None:
    """A text that fits is left alone; one that does not ends in a mark with the number of characters left out."""
    short = shorten_to(text, tokens)
    if short != text:
        assert short.endswith("more characters]")
        kept, _, mark = short.rpartition(" [... ")
        assert text.startswith(kept)
        assert int(mark.split()[0].replace(",", "")) == len(text) - len(kept)
        assert estimate_tokens(kept) <= tokens
