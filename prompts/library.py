"""Loads the prompt templates, refuses wrong variables, renders messages, hashes what was used.

A template is a Markdown file `<name>.v<version>.md` beside this module, or in a folder of the user's that overrides it
by the same file name. Its front matter declares the purpose, whether replies are to be in the language of the fenced
texts (`language: source`), and every variable with its kind:

    text           written by us or by the caller, tags neutralised; for "" the section of that name, if there is one
    flag           True inserts the section of that name, False nothing
    data           somebody's text, fenced by a tag of the variable's name
    list           somebody's texts, fenced as <item 1>, <item 2>, ...
    list after x   the same, numbered on from the last item of x

Sections `# system` and `# user` become the messages. Knows nothing of models or replies. Tested in
tests/prompts/test_library.py, with the exact renderings in tests/prompts/golden.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from branchwise.prompts.fence import fence, fence_items, neutralise
from branchwise.prompts.model import Message
from branchwise.stores.errors import InputError

BUILT_IN = Path(__file__).parent

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_SECTION = re.compile(r"^# (\w+)\n", re.MULTILINE)
_KIND = re.compile(r"text|flag|data|list(?: after (?P<after>\w+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One prompt as its file declares it; `sha256` is of the file's text with line ends normalised."""

    name: str
    purpose: str
    follows_language: bool
    variables: Mapping[str, str]
    sections: Mapping[str, str]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A prompt ready to send. `sources` are the fenced texts in it: a reply derives from them and from nothing else.

    `follows_language`: the reply is to be in their language.
    """

    name: str
    messages: tuple[Message, ...]
    sha256: str
    sources: tuple[str, ...] = field(default=(), repr=False)
    follows_language: bool = False


class PromptLibrary:
    """The built-in prompts, with those of `folder` in their place where it has a file of the same name.

    Raises InputError for a folder that does not exist, a file in it that overrides nothing, or a template that is
    malformed or whose variables differ from those of the prompt it overrides.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._templates = {template.name: template for template in map(load_template, sorted(BUILT_IN.glob("*.v*.md")))}
        for path in _override_files(folder):
            override = load_template(path)
            original = self._templates.get(override.name)
            if original is None:
                raise InputError(
                    f"{path} overrides no prompt: there is no {override.name!r}.",
                    hint=f"The prompts are {', '.join(sorted(self._templates))}.",
                )
            if dict(override.variables) != dict(original.variables):
                raise InputError(
                    f"{path} declares other variables than the prompt it overrides.",
                    hint=f"Declare exactly: {_listed(original.variables)}.",
                )
            self._templates[override.name] = override

    def render(self, name: str, **variables: Any) -> tuple[Message, ...]:
        """The messages of prompt `name`; a missing, extra or wrongly typed variable is a TypeError."""
        return self.rendered(name, variables).messages

    def rendered(self, name: str, variables: Mapping[str, Any]) -> Rendered:
        """The messages with the hash of their template and the texts that were fenced in them."""
        template = self.template(name)
        _check_variables(template, variables)
        slots = {key: _insert(template, key, variables) for key in template.variables}
        messages = tuple(
            Message(role=role, content=_fill(template.sections[role], slots).strip("\n"))
            for role in ("system", "user")
            if role in template.sections
        )
        fenced = [key for key, kind in template.variables.items() if kind == "data" or kind.startswith("list")]
        sources = tuple(text for key in fenced for text in _texts(variables[key]))
        return Rendered(
            name=name,
            messages=messages,
            sha256=template.sha256,
            sources=sources,
            follows_language=template.follows_language,
        )

    def template(self, name: str) -> Template:
        """The template called `name` ("judge_leaf.v1"); a name that nobody wrote is a KeyError."""
        return self._templates[name]

    def hashes(self) -> dict[str, str]:
        """sha256 of every template by name, for the manifest."""
        return {name: template.sha256 for name, template in sorted(self._templates.items())}


def load_template(path: Path) -> Template:
    """Read and check one template file."""
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n").lstrip("\ufeff")
    head, body = _split_front_matter(path, text)
    purpose, language, variables = _read_front_matter(path, head)
    pieces = _SECTION.split(body)
    sections = {name: content.rstrip("\n") for name, content in zip(pieces[1::2], pieces[2::2], strict=True)}
    flags = {name for name, kind in variables.items() if kind == "flag"}
    optional = {name for name, kind in variables.items() if kind in ("flag", "text")}
    used = set(_SLOT.findall(body))
    if "user" not in sections or set(sections) - optional - {"system", "user"} or flags - set(sections):
        raise InputError(f"{path}: the sections must be system, user and one for each flag; found {sorted(sections)}.")
    if used != set(variables):
        raise InputError(f"{path}: declares {sorted(variables)} but uses {sorted(used)}.")
    return Template(
        name=path.name.removesuffix(".md"),
        purpose=purpose,
        follows_language=language == "source",
        variables=variables,
        sections=sections,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def _override_files(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise InputError(f"No such folder of prompts: {folder}")
    return sorted(folder.glob("*.md"))


def _split_front_matter(path: Path, text: str) -> tuple[str, str]:
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise InputError(f"{path}: a prompt opens with a front matter between two lines of ---.")
    return parts[1], parts[2]


def _read_front_matter(path: Path, head: str) -> tuple[str, str, dict[str, str]]:
    purpose, language, variables = "", "", {}
    for line in head.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if line.startswith("purpose:"):
            purpose = value
        elif line.startswith("language:") and value in ("source", "any"):
            language = value
        elif line.startswith("  ") and _KIND.fullmatch(value):
            variables[key] = value
        elif line.strip() and line.strip() != "variables:":
            raise InputError(f"{path}: cannot read the line {line.strip()!r} of the front matter.")
    return purpose, language, variables


def _check_variables(template: Template, given: Mapping[str, Any]) -> None:
    missing, extra = set(template.variables) - set(given), set(given) - set(template.variables)
    if missing or extra:
        raise TypeError(
            f"{template.name} takes {_listed(template.variables)}; missing {sorted(missing)}, extra {sorted(extra)}"
        )
    for name, kind in template.variables.items():
        value = given[name]
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        expected = "a bool" if kind == "flag" else "a sequence of str" if kind.startswith("list") else "str or int"
        right = (
            isinstance(value, bool)
            if kind == "flag"
            else is_list and all(isinstance(text, str) for text in value)
            if kind.startswith("list")
            else isinstance(value, str | int) and not isinstance(value, bool)
        )
        if not right:
            raise TypeError(f"{template.name}: {name} must be {expected}, not {type(value).__name__}")


def _insert(template: Template, name: str, variables: Mapping[str, Any]) -> str:
    kind, value = template.variables[name], variables[name]
    if kind == "flag":
        return template.sections[name] if value else ""
    if kind == "text":
        return neutralise(str(value)) or template.sections.get(name, "")
    if kind == "data":
        return fence(name, str(value))
    found = _KIND.fullmatch(kind)
    after = found and found.group("after")
    return fence_items(value, first=1 + (len(variables[after]) if after else 0))


def _fill(section: str, slots: Mapping[str, str]) -> str:
    # One pass: what a variable brings in is never searched for slots. Empty lists leave no gap behind.
    lines = [line for line in section.split("\n") if not ((slot := _SLOT.fullmatch(line)) and not slots[slot.group(1)])]
    return _SLOT.sub(lambda slot: slots[slot.group(1)], "\n".join(lines))


def _texts(value: Any) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | int) else tuple(value)


def _listed(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in variables.items())
