"""All commands together, and what becomes of errors: exit codes, one clear line, no traceback unless asked for.

0 done, 1 internal, 2 your input or configuration, 3 the index, 4 the model or its server, 130 interrupted. A spent
budget and nothing found are no errors. Tested in tests/surfaces/terminal/test_cli.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import typer

from branchwise.agent.surfaces.cli import ask, build, evaluate, keep, serve, tree
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import BranchwiseError, InputError

app = typer.Typer(
    name="branchwise",
    help="Ask hard questions of your documents: a language model navigates a summarised tree of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (build, ask, tree, keep, serve, evaluate):
    group.register(app)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True)) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"branchwise {installed('branchwise')}")
        raise typer.Exit


def main() -> None:
    """Entry point of the command `branchwise`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A pipe gets UTF-8 on every platform, unless told otherwise; what a terminal cannot show becomes "?".
            piped = not stream.isatty() and "PYTHONIOENCODING" not in os.environ
            stream.reconfigure(encoding="utf-8" if piped else None, errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    terminal = Terminal(json="--json" in arguments, debug="--debug" in arguments)
    try:
        code = app(args=list(arguments), prog_name="branchwise", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `branchwise ... | head` is no error
        return 0
    except BranchwiseError as error:
        if terminal.debug:
            _show_traceback()
        terminal.fail(error)
        return error.exit_code
    except Exception as error:
        if (usage := getattr(error, "format_message", None)) is not None:  # typer's own: bad options and arguments
            if usage():
                terminal.fail(InputError(usage(), hint=_help_hint(arguments)))
            return 2
        if terminal.debug:
            _show_traceback()
        said = " ".join(str(error).split()) or "no message"
        bug = BranchwiseError(f"{type(error).__name__}: {said}", hint="This is a bug. --debug shows where it happened.")
        terminal.fail(bug)
        return 1


def _help_hint(arguments: Sequence[str]) -> str:
    names = [word for word in arguments[:2] if word.isalpha()]
    while names and names[0] not in _names():
        names.pop()
    if names[:1] != ["tree"]:
        names = names[:1]
    return " ".join(["branchwise", *names, "--help"])


def _names() -> set[str]:
    named = {command.name or "" for command in app.registered_commands}
    return named | {group.name or "" for group in app.registered_groups}


def _show_traceback() -> None:
    import traceback

    traceback.print_exc()
