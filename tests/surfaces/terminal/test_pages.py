"""Pages that are one file: everything escaped, a policy that allows this very style and script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.surfaces.pages import fill_page

HOSTILE = "</script><script>alert(1)</script><!--<script>&\u2028{{data}}{{script}}"
EMPTY_TREE = {"title": "", "root": -1, "nodes": [], "counts": {}, "models": {}, "excerpt": 600}
EMPTY_TRACE = {name: [] for name in ("judges", "notes", "steps", "ranking", "gold")} | {
    "title": "",
    "question": "",
    "stopped": "",
    "partial": False,
    "root": None,
    "nodes": {},
    "hidden": {},
}


class Reader(HTMLParser):
    """Tags with their attributes, and what stands inside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        """Note what a script or a style says."""
        if self._open in ("script", "style") and data.strip():
            self.inside.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        """Leave the tag."""
        self._open = ""


def test_the_policy_allows_this_style_and_script_and_nothing_else() -> None:
    """The hashes of the policy are those of the inline style and script as a browser sees them."""
    page = Reader(fill_page("tree", title="x", data=EMPTY_TREE))
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    style = next(text for kind, text in page.inside if kind == "style")
    script = [text for kind, text in page.inside if kind == "script"][-1]
    for source in (style, script):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


@pytest.mark.parametrize(("name", "data"), [("tree", EMPTY_TREE), ("trace", EMPTY_TRACE)])
def test_a_page_fetches_nothing(name: str, data: dict[str, object]) -> None:
    """No source, no link, no import, no inline handler."""
    source = fill_page(name, title="x", data=data)
    page = Reader(source)
    assert not [attrs for _, attrs in page.tags if {"src", "href", "srcset", "style"} & attrs.keys()]
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert not re.search(r"https?://|@import|innerHTML|insertAdjacentHTML|document\.write|eval\(", source)


@given(st.text() | st.just(HOSTILE))
def test_no_text_leaves_its_place(text: str) -> None:
    """Whatever a document says stays inside the data block, and comes out of it unchanged; a title stays a title."""
    page = Reader(fill_page("tree", title=text, data={**EMPTY_TREE, "title": text}))
    assert [tag for tag, _ in page.tags].count("script") == 2
    data = next(said for kind, said in page.inside if kind == "script")
    readable = text.encode("utf-8", "replace").decode("utf-8")
    assert json.loads(data)["title"] == readable
