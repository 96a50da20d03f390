"""Build hook: the folders stand at the root of the checkout and are imported as `branchwise.<folder>`.

hatchling's `sources` renames them inside a wheel. For an editable install this hook makes `.dev/branchwise`, a package
of links to the same folders; for every other build it adds the two files that the package needs beside them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("agent", "prompts", "stores", "tree_builder")
INIT = '''"""Branchwise: an LLM navigates a summarised semantic tree of your documents."""

from branchwise.agent.facade import *
from branchwise.agent.facade import __all__ as __all__
'''


class LinkHook(BuildHookInterface):  # type: ignore[type-arg]
    """Makes the package `branchwise` out of the folders at the root."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the package folder; link it when editable, else force its two files into the wheel."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        package = root / ".dev" / "branchwise"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(INIT, encoding="utf-8")
        (package / "py.typed").write_text("", encoding="utf-8")
        if version == "editable":
            for name in FOLDERS:
                link(package / name, root / name)
        else:
            for name in ("__init__.py", "py.typed"):
                build_data["force_include"][str(package / name)] = f"branchwise/{name}"


def link(source: Path, target: Path) -> None:
    """Point `source` at the folder `target`: a relative link, or a junction where Windows allows no links."""
    if source.is_symlink() or source.exists():
        return
    if os.name == "nt":
        subprocess.run(["cmd", "/c", "mklink", "/J", str(source), str(target)], check=True, stdout=subprocess.DEVNULL)
    else:
        source.symlink_to(os.path.relpath(target, source.parent), target_is_directory=True)
