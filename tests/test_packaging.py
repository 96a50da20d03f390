"""What is installed, and what the code never does."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def sources() -> list[Path]:
    """Every module of the installed package."""
    spec = find_spec("branchwise")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(next(iter(spec.submodule_search_locations)))
    return [
        path
        for folder in ("agent", "prompts", "stores", "tree_builder")
        for path in sorted((package / folder).resolve().rglob("*.py"))
    ]


def test_few_dependencies_and_ranges() -> None:
    """At most 15 direct dependencies, each with a lower and an upper bound or a lower one alone, none pinned."""
    dependencies = PROJECT["dependencies"]
    assert len(dependencies) <= 15
    assert all(">=" in dependency and "==" not in dependency for dependency in dependencies)


def test_core_brings_no_torch() -> None:
    """What needs torch is an extra."""
    assert not any(re.match(r"torch|sentence|vllm|transformers", dependency) for dependency in PROJECT["dependencies"])


def test_every_module_was_found() -> None:
    """The checks below look at the whole package."""
    assert len(sources()) > 100


@pytest.mark.parametrize("path", sources(), ids=lambda path: "/".join(path.parts[-3:]))
def test_nothing_dangerous(path: Path) -> None:
    """No pickle, no eval or exec of text, no shell, no code from a model hub, no allow_pickle."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"} & {n.split(".")[0] for n in names}
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}
            for keyword in node.keywords:
                given = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                assert not (keyword.arg in {"shell", "trust_remote_code", "allow_pickle"} and given is True)
