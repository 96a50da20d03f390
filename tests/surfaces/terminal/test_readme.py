"""The README is true: its Python runs, its files and commands exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.surfaces.terminal.conftest import environment

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8") if (ROOT / "README.md").exists() else ""
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def section(heading: str) -> str:
    """The first text block below a heading."""
    return README.partition(f"## {heading}\n")[2].partition("```text\n")[2].partition("```")[0]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_python_block_runs(number: int, library: Path, tmp_path: Path) -> None:
    """Each block, in a folder with an index where the demo puts it, ends without an error and prints something."""
    if "langchain" in BLOCKS[number]:
        pytest.importorskip("langchain_core")
    shutil.copytree(library, tmp_path / "branchwise-demo")
    command = [sys.executable, "-c", BLOCKS[number]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_file_named_exists() -> None:
    """The file tree names nothing that is not there."""
    if not Path(ROOT, "stores").is_dir():
        pytest.skip("the folders do not stand beside the README here")
    way: list[str] = []
    for line in section("Files").splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        way = [*way[:depth], name]
        assert Path(ROOT, *way).exists(), "".join(way)


def test_every_command_is_listed() -> None:
    """The README's list of commands is that of the program."""
    from branchwise.agent.surfaces.cli.app import app

    listed = re.findall(
        r"^(\w+) ", README.partition("## Commands")[2].partition("```text\n")[2].partition("```")[0], re.M
    )
    known = [command.name for command in app.registered_commands] + [group.name for group in app.registered_groups]
    assert sorted(listed) == sorted(str(name) for name in known)
