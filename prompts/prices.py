"""What tokens cost: data that the user can set, never a guess. An unknown price is None, which is not free.

The list comes from the file that BRANCHWISE_PRICES names, else from prices.json beside this module. Its form:
{"currency": "USD", "per": 1000000, "models": {"name": {"input": 0.1, "cached": 0.02, "output": 0.4}}}. A name may end
in * ("llama*"). Knows nothing of calls. Tested in tests/prompts/test_prices.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from branchwise.stores.errors import InputError

PRICES_VARIABLE = "BRANCHWISE_PRICES"
BUILT_IN = Path(__file__).parent / "prices.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Money for one token of each kind."""

    input: float
    output: float
    cached: float

    def cost(self, *, input_tokens: int, cached_tokens: int = 0, output_tokens: int = 0) -> float:
        """Money for these tokens; `cached_tokens` are part of `input_tokens`."""
        fresh = input_tokens - cached_tokens
        return fresh * self.input + cached_tokens * self.cached + output_tokens * self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """Prices by model name; a server on this machine costs nothing."""

    currency: str = "USD"
    prices: Mapping[str, Price] = field(default_factory=dict)

    def find(self, model: str, endpoint: str = "") -> Price | None:
        """The price of `model`: its own entry, else the longest pattern that fits; None when nobody said."""
        patterns = sorted((name for name in self.prices if fnmatchcase(model, name)), key=len)
        if patterns:
            return self.prices[model] if model in self.prices else self.prices[patterns[-1]]
        return FREE if is_loopback(endpoint) else None


FREE = Price(input=0.0, output=0.0, cached=0.0)


def is_loopback(url: str) -> bool:
    """True for a server on this machine, or in this process; a name that merely begins like one is not."""
    host = (urlsplit(url).hostname or "") if "//" in url else url
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return "//" not in url and "in process" in url.replace("-", " ")


def load_prices(path: Path | None = None) -> PriceList:
    """The user's price list, else the built-in one; InputError names what is wrong with the file."""
    if path is None:
        path = Path(os.environ.get(PRICES_VARIABLE) or BUILT_IN)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        per = float(data.get("per", 1_000_000))
        prices = {
            name: Price(
                input=float(entry["input"]) / per,
                output=float(entry["output"]) / per,
                cached=float(entry.get("cached", entry["input"])) / per,
            )
            for name, entry in data["models"].items()
        }
    except OSError as problem:
        raise InputError(f"Cannot read the price list {path}: {problem.strerror}.") from problem
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise InputError(
            f"The price list {path} is malformed ({type(problem).__name__}: {problem}).",
            hint='Form: {"per": 1000000, "models": {"name": {"input": 0.1, "cached": 0.02, "output": 0.4}}}',
        ) from problem
    if any(min(price.input, price.output, price.cached) < 0 for price in prices.values()) or per <= 0:
        raise InputError(f"The price list {path} holds a negative price.")
    return PriceList(currency=str(data.get("currency", "USD")), prices=prices)
