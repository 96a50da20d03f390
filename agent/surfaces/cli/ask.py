"""`branchwise search | ask | chat`: questions to an index that is there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from branchwise.agent.surfaces.cli.opening import open_engine, read_filters
from branchwise.agent.surfaces.cli.options import HITS, INDEX, LIMITS, MODEL, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import InputError
from branchwise.stores.records import Question

if TYPE_CHECKING:
    from branchwise.agent.engine import Engine
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.stores.records import Event

Query = Annotated[str, typer.Argument(metavar="QUERY", help="What you want to know; - reads it from stdin.")]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="ID", help="Passage or document not to be seen; repeatable.")
]
Filter = Annotated[
    list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="Only such metadata; repeatable.")
]
Trace = Annotated[Path | None, typer.Option("--trace", metavar="FILE", help="Keep every step; .html draws a picture.")]
Stream = Annotated[bool, typer.Option("--stream", help="Tell each step, and the answer, while it happens.")]
Why = Annotated[bool, typer.Option("--why", help="Every score of every node on the way to a hit.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    flags = {**INDEX, **HITS, **MODEL, **LIMITS}
    command(app, "search", flags)(search)
    command(app, "ask", flags)(ask)
    command(app, "chat", flags)(chat)


def search(
    terminal: Terminal,
    settings: Settings,
    query: Query,
    exclude: Exclude = None,
    filter: Filter = None,
    why: Why = False,
    trace: Trace = None,
    stream: Stream = False,
) -> None:
    """Find the passages that answer a question, and say why each was found."""
    from branchwise.agent.surfaces.cli.show import draw_hits, summary, who
    from branchwise.agent.surfaces.shapes import search_json

    question = read_question(query, filter, exclude)
    with open_engine(settings) as engine:
        terminal.say(who(engine.judge_name, settings.base_url), style="dim")
        steps = Steps(terminal, engine, stream=stream)
        result = asyncio.run(engine.search(question, k=settings.k, budget=settings.budget, on_event=steps))
        if trace:
            steps.keep(trace)
    terminal.give(search_json(result))
    if not result.hits:
        terminal.say("Nothing found.")
    for part in draw_hits(result.hits, why=why):
        terminal.say(part)
    for note in result.notes:
        terminal.note(note, style="yellow")
    terminal.say(summary(result), style="dim")


def ask(
    terminal: Terminal,
    settings: Settings,
    query: Query,
    exclude: Exclude = None,
    filter: Filter = None,
    trace: Trace = None,
    stream: Stream = False,
) -> None:
    """Answer a question from the documents, every citation checked against their text."""
    from branchwise.agent.surfaces.cli.show import draw_answer, summary, who
    from branchwise.agent.surfaces.shapes import answer_json

    question = read_question(query, filter, exclude)
    with open_engine(settings) as engine:
        terminal.say(who(engine.judge_name, settings.base_url), style="dim")
        steps = Steps(terminal, engine, stream=stream)
        answer = asyncio.run(engine.ask(question, k=settings.k, budget=settings.budget, on_event=steps))
        if trace:
            steps.keep(trace)
    terminal.give(answer_json(answer))
    for part in draw_answer(answer, told=steps.told):
        terminal.say(part)
    for note in answer.notes:
        terminal.note(note, style="yellow")
    terminal.say(summary(answer.search, answer.usage), style="dim")


def chat(terminal: Terminal, settings: Settings) -> None:
    """Talk with the documents: follow-up questions, /why, /tree, /sources, /budget, /save, /load, /quit."""
    from branchwise.agent.surfaces.cli.talk import talk

    with open_engine(settings) as engine:
        talk(terminal, engine, settings)


def read_question(query: str, filters: list[str] | None, excluded: list[str] | None) -> Question:
    """The question that the flags ask; "-" reads it from stdin. Raises InputError for an empty one."""
    text = sys.stdin.read() if query == "-" else query
    if not text.strip():
        raise InputError("The question is empty.", hint='For example: branchwise ask "How does it work?"')
    return Question(text=text.strip(), filters=read_filters(filters), excluded_ids=frozenset(excluded or ()))


class Steps:
    """Listens to a search: tells its steps on stderr where asked to, and keeps them for a trace."""

    def __init__(self, terminal: Terminal, engine: Engine, *, stream: bool) -> None:
        self._engine = engine
        self._terminal = terminal
        self._stream = stream
        self._events: list[Event] = []
        self.told = False
        """True once the answer's text has been said, piece by piece."""

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        from rich.text import Text

        from branchwise.agent.surfaces.progress import step_line
        from branchwise.agent.surfaces.tree_view import printable

        self._events.append(event)
        if not self._stream:
            return
        if event.kind == "token":
            self.told = True
            self._terminal.say(Text(printable(event.payload["text"])), end="")
        elif line := step_line(event, self._engine.index.tree):
            self._terminal.note(line)

    def keep(self, path: Path) -> None:
        """Write the trace to `path`: JSON lines, or a picture where it ends in .html."""
        from branchwise.agent.search.trace import to_line
        from branchwise.agent.surfaces.export import write_text
        from branchwise.agent.surfaces.trace_view import draw_search

        if path.suffix.lower() in (".html", ".htm"):
            write_text(path, draw_search(self._events, self._engine.index))
        else:
            write_text(path, "".join(to_line(event) + "\n" for event in self._events))
