"""A real collection that is on every machine with Branchwise: the documentation inside its own dependencies.

Docstrings of NetworkX, scikit-learn and SciPy, and the language topics of Python's `help()`. The packages are read as
text and parsed, never imported: nothing of theirs runs, and it takes a few seconds. What is documented in C is
therefore missing. Tested in tests/tree_builder/test_corpus_demo.py.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from branchwise.stores.records import Document
from branchwise.tree_builder.formats.text import title_of

PACKAGES = ("networkx", "scipy", "sklearn")
MIN_CHARS = 200
"""Shorter docstrings say no more than the name."""

_LEFT_OUT = frozenset({"tests", "testing", "externals", "_testing.py", "conftest.py", "_lib", "_build_utils"})


def demo_documents() -> Iterator[Document]:
    """Topics of the Python language, then one document a documented public function or class, always in one order."""
    yield from _language_topics()
    for package in PACKAGES:
        spec = find_spec(package)  # finds a top-level package without importing it
        if spec is not None and spec.origin is not None:
            yield from _package_documents(Path(spec.origin).parent)


def _language_topics() -> Iterator[Document]:
    from pydoc_data.topics import topics  # a module of one dictionary

    for name, text in sorted(topics.items()):
        if len(text) >= MIN_CHARS:
            yield Document(
                doc_id=f"python.{name}",
                text=text,
                title=f"Python: {title_of(text, name)}",
                source="pydoc_data/topics.py",
                metadata={"package": "python", "kind": "topic"},
            )


def _package_documents(package: Path) -> Iterator[Document]:
    """The documented public functions and classes of a package, each under the first name that it is found by."""
    names: set[str] = set()
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package.parent)
        if _LEFT_OUT.isdisjoint(inside.parts):
            for document in _module_documents(path, inside):
                if document.doc_id not in names:
                    names.add(document.doc_id)
                    yield document


def _module_documents(path: Path, inside: Path) -> Iterator[Document]:
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, not a module
        return
    public = [part for part in inside.with_suffix("").parts if not part.startswith("_")]
    for node in module.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
        if len(text) >= MIN_CHARS:
            name = ".".join([*public, node.name])
            yield Document(
                doc_id=name,
                text=text,
                title=name,
                source=inside.as_posix(),
                metadata={"package": public[0], "kind": "class" if isinstance(node, ast.ClassDef) else "function"},
            )
