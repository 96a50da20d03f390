"""Where a command speaks: its result on stdout, once; everything else on stderr.

With --json the result is exactly one JSON object, errors included. Knows nothing of the commands. Tested in
tests/surfaces/terminal/test_cli.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from branchwise.stores.errors import BranchwiseError, InputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class Terminal:
    """One command's two streams."""

    def __init__(self, *, json: bool = False, debug: bool = False) -> None:
        self.json = json
        self.debug = debug

    @cached_property
    def out(self) -> Console:
        """Results for people. Text is never read as markup: it may come from documents."""
        from rich.console import Console

        return Console(markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())

    @cached_property
    def err(self) -> Console:
        """Notes, progress and errors."""
        from rich.console import Console

        return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=not sys.stderr.isatty())

    def say(self, *what: RenderableType, style: str | None = None, end: str = "\n") -> None:
        """Part of a result for people; nothing with --json."""
        if not self.json:
            self.out.print(*what, style=style, end=end)

    def note(self, text: str, style: str = "dim") -> None:
        """Something on the way to the result."""
        self.err.print(text, style=style)

    def give(self, result: Mapping[str, Any]) -> None:
        """The whole result as one JSON object; nothing without --json. Called once a command."""
        if self.json:
            readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
            sys.stdout.write(json.dumps(result, ensure_ascii=not readable, indent=2) + "\n")

    def confirm(self, question: str, *, instead: str = "Give --yes.") -> bool:
        """Ask before something that cannot be undone or costs money.

        Raises InputError where nobody can answer; `instead` then says what to give in advance.
        """
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise InputError(f"This must be confirmed, and nobody is here to answer: {question}", hint=instead)
        self.err.print(f"{question} [y/N] ", end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def fail(self, error: BranchwiseError) -> None:
        """One clear line and the next step; with --json an object of kind, message and hint."""
        if self.json:
            kind = type(error).__name__
            self.give({"error": {"kind": kind, "message": error.message, "hint": error.hint, "exit": error.exit_code}})
            return
        self.err.print(f"{'Error: ' if error.exit_code else ''}{error.message}", style="bold red")
        if error.hint:
            self.err.print(f"  {error.hint}")
