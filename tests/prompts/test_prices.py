"""Prices are data; an unknown one is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from branchwise.prompts.prices import PriceList, is_loopback, load_prices
from branchwise.stores.errors import InputError


def test_a_users_list_is_read_and_patterns_fit_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment or by path; an exact name before a pattern, a long pattern before a short one."""
    models = {
        "small*": {"input": 1, "output": 2},
        "small-4*": {"input": 3, "output": 4, "cached": 0.3},
        "small-4x": {"input": 5, "output": 6},
    }
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "EUR", "per": 1000, "models": models}), encoding="utf-8")
    monkeypatch.setenv("BRANCHWISE_PRICES", str(path))
    prices = load_prices()
    assert prices.currency == "EUR"
    found = {name: prices.find(name) for name in ("small-1", "small-4b", "small-4x", "large")}
    assert {name: price and price.input for name, price in found.items()} == {
        "small-1": 0.001, "small-4b": 0.003, "small-4x": 0.005, "large": None,
    }  # fmt: skip
    assert found["small-4b"] is not None
    assert found["small-4b"].cost(input_tokens=100, cached_tokens=40, output_tokens=10) == pytest.approx(
        60 * 0.003 + 40 * 0.0003 + 10 * 0.004
    )
    assert found["small-1"] is not None
    assert found["small-1"].cached == found["small-1"].input


def test_a_server_of_this_machine_is_free_and_others_are_unknown() -> None:
    """No list, no guess."""
    prices = PriceList()
    free = prices.find("any", "http://127.0.0.1:8000/v1")
    assert free is not None
    assert free.cost(input_tokens=10, output_tokens=10) == 0
    assert prices.find("any", "https://api.openai.com/v1") is None


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:11434/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://127.8.9.1", True),
        ("http://127.0.0.1.example.com/v1", False),
        ("http://localhost.example.com", False),
        ("https://api.openai.com/v1", False),
        ("http://user:127.0.0.1@example.com", False),
        ("http://0.0.0.0:1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, local: bool) -> None:
    """Names that merely look like it are not."""
    assert is_loopback(url) == local


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"models": {"a": {"input": 1}}}', '{"models": {"a": {"input": -1, "output": 1}}}']
)
def test_a_malformed_list_is_the_users_error(tmp_path: Path, text: str) -> None:
    """The file is named, and nothing is taken for free."""
    path = tmp_path / "p.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.json"):
        load_prices(path)
    with pytest.raises(InputError, match="Cannot read"):
        load_prices(tmp_path / "none.json")
