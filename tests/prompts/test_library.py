"""Templates: exact renderings, refused variables, overrides, hashes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from branchwise.prompts.library import BUILT_IN, PromptLibrary
from branchwise.stores.errors import InputError

GOLDEN = Path(__file__).parent / "golden"

VARIABLES: dict[str, dict[str, Any]] = {
    "judge_leaf.v1": {
        "relevance": "",
        "reasons": True,
        "candidates": ["Yeast\nYeast makes gas.", "The moon pulls the tides. </item>"],
        "anchors": ["Salt slows yeast."],
        "count": 3,
        "query": "Why does bread rise?",
    },
    "judge_inner.v1": {
        "relevance": "It names a theorem that solves the problem.",
        "reasons": False,
        "candidates": ["Baking: yeast, flour, ovens."],
        "anchors": [],
        "count": 1,
        "query": "Why does bread rise?",
    },
    "fingerprint.v1": {"passages": ["Yeast makes gas.", "El pan sube."], "count": 2},
    "summarise.v1": {"children": ["Yeast\nmakes gas", "Salt\nslows yeast"], "count": 2},
    "topics.v1": {"strings": ["baking (x 3)", "tides"], "count": 2, "fewest": 2, "most": 8},
    "rewrite.v1": {"history": ["user: What is bread?"], "query": "Why does it rise?"},
    "condense.v1": {"history": ["user: What is bread?", "assistant: Baked dough."], "query": "Why does it rise?"},
    "read.v1": {"passages": ["Yeast makes gas."], "history": ["user: Hello"], "query": "Why does bread rise?"},
}


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_rendering_is_golden(name: str) -> None:
    """A prompt is the very text in tests/prompts/golden; BRANCHWISE_GOLDEN=write makes the files anew."""
    messages = PromptLibrary().render(name, **VARIABLES[name])
    text = "".join(f"==== {message.role}\n{message.content}\n" for message in messages)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("BRANCHWISE_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_every_template_has_a_golden_rendering_and_a_purpose() -> None:
    """No prompt goes out that nobody has looked at."""
    library = PromptLibrary()
    assert set(library.hashes()) == set(VARIABLES) == {path.stem for path in GOLDEN.glob("*.txt")}
    assert all(library.template(name).purpose for name in VARIABLES)


@pytest.mark.parametrize("name", ["judge_leaf.v1", "judge_inner.v1"])
def test_judge_prompts_share_all_that_comes_before_the_query(name: str) -> None:
    """Two questions on one node differ in nothing before the query, two anchor sets in nothing before the anchors."""
    library = PromptLibrary()
    given = {**VARIABLES["judge_leaf.v1"], "query": "Why is the sky blue?"}
    first = library.render(name, **given)
    second = library.render(name, **{**given, "query": "Who wrote Hamlet?"})
    third = library.render(name, **{**given, "anchors": ["Something else."]})
    assert first[0] == second[0] == third[0]
    assert first[1].content.split("<query>")[0] == second[1].content.split("<query>")[0]
    assert first[1].content.split("<item 3>")[0] == third[1].content.split("<item 3>")[0]
    assert first[1].content.index("<query>") > first[1].content.rindex("</item>")


def test_missing_extra_and_mistyped_variables_are_refused() -> None:
    """A call that does not fit the declaration is a bug of the caller, named in full."""
    library = PromptLibrary()
    good = VARIABLES["condense.v1"]
    with pytest.raises(TypeError, match="missing \\['query'\\]"):
        library.render("condense.v1", history=[])
    with pytest.raises(TypeError, match="extra \\['ids'\\]"):
        library.render("condense.v1", **good, ids="p:1")
    with pytest.raises(TypeError, match="history must be a sequence of str"):
        library.render("condense.v1", history="user: hi", query="q")
    with pytest.raises(TypeError, match="query must be str"):
        library.render("condense.v1", history=[], query=None)
    with pytest.raises(KeyError):
        library.render("condense.v9", **good)


def test_a_slot_inside_a_text_is_not_filled() -> None:
    """A document that holds {{query}} shows just that."""
    content = PromptLibrary().render("condense.v1", history=["{{query}}"], query="secret")[1].content
    assert "{{query}}" in content
    assert content.count("secret") == 1


def test_a_folder_overrides_a_prompt_and_its_hash(tmp_path: Path) -> None:
    """The user's file is used, its hash goes into the manifest, the others stay."""
    original = (BUILT_IN / "condense.v1.md").read_text(encoding="utf-8")
    (tmp_path / "condense.v1.md").write_text(original.replace("Use the language", "Be kind. Use the language"), "utf-8")
    ours, theirs = PromptLibrary(), PromptLibrary(tmp_path)
    assert "Be kind." in theirs.render("condense.v1", **VARIABLES["condense.v1"])[0].content
    changed = {name for name, sha in theirs.hashes().items() if sha != ours.hashes()[name]}
    assert changed == {"condense.v1"}


def test_line_ends_do_not_change_a_hash(tmp_path: Path) -> None:
    """The same prompt checked out on Windows keeps its cached replies."""
    original = (BUILT_IN / "read.v1.md").read_text(encoding="utf-8")
    (tmp_path / "read.v1.md").write_bytes(original.replace("\n", "\r\n").encode())
    assert PromptLibrary(tmp_path).hashes() == PromptLibrary().hashes()


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("unknown.v1.md", lambda text: text, "overrides no prompt"),
        ("condense.v1.md", lambda text: text.replace("  query: data", "  query: data\n  more: text"), "declares"),
        ("condense.v1.md", lambda text: text.replace("{{query}}", ""), "uses"),
        ("condense.v1.md", lambda text: text.replace("query: data", "query: text"), "other variables"),
        ("condense.v1.md", lambda text: text.replace("---\n", ""), "front matter"),
        ("condense.v1.md", lambda text: text.replace("# user", "# person"), "sections"),
        ("condense.v1.md", lambda text: text.replace("purpose:", "goal:"), "cannot read the line"),
    ],
)
def test_a_broken_override_is_named(tmp_path: Path, name: str, change: Any, match: str) -> None:
    """What is wrong with a user's prompt is said before anything is spent."""
    original = (BUILT_IN / "condense.v1.md").read_text(encoding="utf-8")
    (tmp_path / name).write_text(change(original), encoding="utf-8")
    with pytest.raises(InputError, match=match):
        PromptLibrary(tmp_path)


def test_a_missing_folder_is_the_users_error(tmp_path: Path) -> None:
    """A mistyped path is not silently the built-in prompts."""
    with pytest.raises(InputError, match="No such folder"):
        PromptLibrary(tmp_path / "nowhere")
