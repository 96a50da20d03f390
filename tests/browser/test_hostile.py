"""Hostile text in documents, names, questions and answers: nothing executes, and nothing is fetched from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from branchwise.stores.records import Document

pytestmark = pytest.mark.browser

SCRIPTS = [
    "<script>alert('quokka')</script>",
    "<img src=x onerror=alert('quokka')>",
    "<svg onload=alert('quokka')>",
    "<iframe src='http://evil.example/quokka'></iframe>",
    "<link rel=stylesheet href=http://evil.example/quokka.css>",
    "javascript:alert('quokka')",
    "[quokka](javascript:alert(1)) ![quokka](http://evil.example/quokka.png)",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)}",
    "</textarea></main></body><script>alert('quokka')</script>",
    "<style>*{background:url(http://evil.example/quokka)}</style>",
]


def hostile_documents(texts: list[str]) -> list[Document]:
    """Each text as body, title, id and metadata of a document that a search for quokkas finds."""
    return [
        Document(
            doc_id=f"d{number} {text[:60]}",
            title=f"Quokka {number} {text}",
            text=f"The quokka number {number} smiles. {text} A quokka eats leaves.",
            metadata={"note": text[:200] or "none"},
        )
        for number, text in enumerate(texts)
    ]


def ask_about(page: Any, url: str, question: str) -> None:
    """Ask, look at every pane, select rows, open a document."""
    page.goto(url)
    page.locator("#index option").first.wait_for(state="attached")
    page.locator("#options summary").click()
    page.fill("#k", "30")
    page.fill("#question", question)
    page.locator("#send").click()
    page.locator(".message.assistant .foot, .message.failed").first.wait_for(timeout=60_000)
    for row in page.locator(".node").all()[:6]:
        row.click()
    page.locator("#evidence .card button").first.click()
    page.locator("#document mark").wait_for()
    page.keyboard.press("Escape")


def build_hostile(tmp_path: Path, texts: list[str]) -> Path:
    """An index of hostile documents."""
    import runpy

    build_index = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["build_index"]
    found: Path = build_index(tmp_path / "hostile", hostile_documents(texts), title="<b>hostile</b>", max_children=6)
    return found


def test_scripts_in_documents_stay_text(page: Any, serve: Any, tmp_path: Path) -> None:
    """Scripts in titles, texts and ids are shown letter by letter in tree, evidence, chat and document."""
    url = serve({"hostile": build_hostile(tmp_path, SCRIPTS)})
    ask_about(page, url, "What does the quokka eat? <img src=x onerror=alert(1)>")
    assert page.locator("main img, main script, main iframe, main link, main style").count() == 0
    assert "<script>" in page.locator("#evidence").inner_text()
    assert "<img src=x" in page.locator(".message.user").inner_text()


def test_naughty_strings_stay_text(page: Any, serve: Any, tmp_path: Path, shared: Path) -> None:
    """515 strings that break parsers and pages, as documents: the page stands, and shows them."""
    strings = json.loads((shared / "attacks" / "naughty_strings.json").read_text(encoding="utf-8"))
    texts = [text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ") for text in strings]
    url = serve({"hostile": build_hostile(tmp_path, texts)})
    ask_about(page, url, "What does the quokka eat?")
    assert page.locator("main img, main script, main iframe, main link, main style").count() == 0
    assert page.locator("#evidence .card").count() >= 20


def test_injected_instructions_are_only_text(page: Any, serve: Any, tmp_path: Path, shared: Path) -> None:
    """Texts that try to instruct a model are quoted like any other text."""
    kinds = json.loads((shared / "attacks" / "bipia_text.json").read_text(encoding="utf-8"))
    url = serve({"hostile": build_hostile(tmp_path, [text for texts in kinds.values() for text in texts])})
    ask_about(page, url, "What does the quokka eat?")
    answer = page.locator(".message.assistant").inner_text()
    assert "quokka" in answer.lower()
    assert page.locator(".cite").count() >= 1
