"""Where a model server is, and whether it may be called at all: base URL, key, offline switch, redaction.

Tested in tests/prompts/test_endpoint.py.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from branchwise.prompts.prices import is_loopback
from branchwise.stores.errors import InputError

OFFLINE_VARIABLE = "BRANCHWISE_OFFLINE"
OPENAI_URL = "https://api.openai.com/v1"

_SECRET = re.compile(r"\b(?:sk|pk|key|hf|gsk|xai)[-_][\w*.-]{6,}|(?<=Bearer )\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server's address; `url` is without user name and password, `key` is never shown."""

    url: str
    key: str = field(default="", repr=False)

    @property
    def is_loopback(self) -> bool:
        """True for a server on this machine."""
        return is_loopback(self.url)

    def redact(self, text: str) -> str:
        """`text` without this key, or anything that looks like one."""
        if self.key:
            text = text.replace(self.key, "[key]")
        return _SECRET.sub("[key]", text)


def find_endpoint(base_url: str | None, *, key: str | None = None) -> Endpoint:
    """The endpoint of `base_url`, else of OPENAI_BASE_URL, else OpenAI's own.

    The key is `key`, else OPENAI_API_KEY. A server other than OpenAI's is called without one if none is set: local
    servers want none. Raises InputError for a malformed URL, a missing key, or a foreign host while offline.
    """
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{url!r} is not the address of a model server.", hint="For example: --base-url http://127.0.0.1:8000/v1"
        )
    key = key or os.environ.get("OPENAI_API_KEY") or parts.password or ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
    refuse_when_offline(shown)
    if not key and shown == OPENAI_URL:
        raise InputError(
            "OpenAI wants a key, and OPENAI_API_KEY is not set.",
            hint="Set it, name another server by --base-url, or leave out --model to work without a language model.",
        )
    return Endpoint(url=shown, key=key)


def refuse_when_offline(url: str) -> None:
    """Raise InputError if BRANCHWISE_OFFLINE is set and `url` is not on this machine."""
    if os.environ.get(OFFLINE_VARIABLE, "").lower() in ("1", "true", "yes", "on") and not is_loopback(url):
        raise InputError(
            f"{urlsplit(url).hostname} is not on this machine, and Branchwise is offline.",
            hint=f"Unset {OFFLINE_VARIABLE} (or leave out --offline), or use a server on 127.0.0.1.",
        )
