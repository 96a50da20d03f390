"""The conversation of `branchwise chat`: reads lines, shows answers, obeys the slash commands.

What a conversation is belongs to agent.chat; this is its terminal. Tested in tests/surfaces/terminal/test_cli.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from branchwise.agent.chat import COMMANDS, Chat
from branchwise.agent.surfaces.cli.show import cost, draw_answer, who
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.agent.surfaces.shapes import answer_json
from branchwise.agent.surfaces.tree_view import plain
from branchwise.agent.sync import run
from branchwise.stores.errors import BranchwiseError, InputError

if TYPE_CHECKING:
    from branchwise.agent.engine import Engine
    from branchwise.agent.surfaces.settings import Settings

OWN: Mapping[str, str] = {
    "/save FILE": "write the conversation to a file",
    "/load FILE": "go on with one from a file",
    "/help": "this list",
    "/quit": "leave, as Ctrl-D does",
}


def talk(terminal: Terminal, engine: Engine, settings: Settings) -> None:
    """Converse until the input ends. With --json the lines of stdin are the questions, and all answers one object."""
    chat = Chat(engine=engine, k=settings.k, budget=settings.budget)
    alone = sys.stdin.isatty() and not terminal.json
    terminal.say(who(engine.judge_name, settings.base_url), style="dim")
    if alone:
        terminal.say("Ask, or /help. Ctrl-D leaves.", style="dim")
    while (line := _read(terminal, alone)) is not None:
        if line in ("/quit", "/exit"):
            break
        if not line:
            continue
        try:
            _obey(terminal, chat, line) if line.startswith("/") else _answer(terminal, chat, line)
        except BranchwiseError as error:
            if not alone:
                raise
            terminal.fail(error)
        except KeyboardInterrupt:
            if not alone:
                raise
            terminal.note("Stopped. What was said before is kept.")
    terminal.give({"turns": [{"asked": one.asked, **answer_json(one.answer)} for one in chat.exchanges]})


def _read(terminal: Terminal, alone: bool) -> str | None:
    """The next line, None at the end of the input."""
    if not alone:
        line = sys.stdin.readline()
        return line.strip() if line else None
    _enable_editing()
    try:
        return input("\n> ").strip()
    except (EOFError, KeyboardInterrupt):
        terminal.say("")
        return None


def _answer(terminal: Terminal, chat: Chat, text: str) -> None:
    answer = run(chat.ask(text))
    if not sys.stdin.isatty():
        terminal.say(f"\n> {plain(text)}", style="bold")
    for part in draw_answer(answer):
        terminal.say(part)
    for note in answer.notes:
        terminal.note(note, style="yellow")
    terminal.say(cost(answer.usage), style="dim")


def _obey(terminal: Terminal, chat: Chat, line: str) -> None:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    files: Mapping[str, Callable[[str], None]] = {"/save": chat.save, "/load": chat.load}
    if name == "/help":
        for command, purpose in {**COMMANDS, **OWN}.items():
            terminal.say(f"{command:<12}{purpose}")
    elif name in files:
        if not rest:
            raise InputError(f"{name} needs the name of a file.")
        try:
            files[name](rest)
        except OSError as error:
            raise InputError(f"{rest} cannot be written: {error.strerror}.") from error
        terminal.say(f"{len(chat.exchanges)} exchanges, {rest}.", style="dim")
    elif name not in COMMANDS:
        raise InputError(f"There is no command {name!r}.", hint="/help lists them.")
    else:
        for shown in chat.command(line).split("\n"):
            indent = len(shown) - len(shown.lstrip())
            terminal.say(" " * indent + plain(shown))


def _enable_editing() -> None:
    """Arrow keys and history in the prompt, where the platform has them."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
