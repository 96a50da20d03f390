"""Self-contained HTML pages: one file, no CDN, nothing fetched, nothing from a document ever parsed as HTML.

A page is a template beside this module (`name.html`), its style and script (`name.css`, `name.js`, after the ones that
all pages share, `common.*`) and one block of JSON. The script builds the page by textContent alone. The Content
Security Policy allows that very style and that very script, by their hashes, and nothing else. Tested in
tests/surfaces/terminal/test_pages.py.
"""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TABLE = str.maketrans(_ESCAPES)


def fill_page(name: str, *, title: str, data: Mapping[str, Any]) -> str:
    """The page `name` ("tree" or "trace") showing `data`, as one HTML document in UTF-8."""
    style, script = _part("common.css") + _part(f"{name}.css"), _part("common.js") + _part(f"{name}.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": _as_data(data),
    }
    page = _part(f"{name}.html")
    head, *rest = page.split("{{")
    return head + "".join(parts[piece.partition("}}")[0]] + piece.partition("}}")[2] for piece in rest)


def _as_data(data: Mapping[str, Any]) -> str:
    """JSON that no HTML parser can read as anything else."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8").translate(_TABLE)


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(source: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(source.encode()).digest()).decode()
