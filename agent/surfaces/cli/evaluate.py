"""`branchwise eval | trace`: measure a method on a dataset, and look at one search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from branchwise.agent.surfaces.cli.opening import open_index
from branchwise.agent.surfaces.cli.options import INDEX, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import InputError

if TYPE_CHECKING:
    from branchwise.agent.surfaces.settings import Settings

TraceFile = Annotated[Path, typer.Argument(metavar="FILE", help="Written by: branchwise search --trace FILE.")]
PageOut = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The picture [FILE.html].")]
Gold = Annotated[
    list[str] | None, typer.Option("--gold", metavar="ID", help="Passage or document known to be relevant; repeatable.")
]
Qrels = Annotated[Path | None, typer.Option("--qrels", metavar="FILE", help="Relevant documents by query.")]
QueryId = Annotated[str | None, typer.Option("--query-id", metavar="ID", help="Which query of --qrels this was.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "trace", INDEX)(trace)


def trace(
    terminal: Terminal,
    settings: Settings,
    file: TraceFile,
    out: PageOut = None,
    gold: Gold = None,
    qrels: Qrels = None,
    query_id: QueryId = None,
) -> None:
    """Draw one recorded search as an HTML page: what was opened, every score, and what was not opened and why."""
    from branchwise.agent.search.trace import read_trace
    from branchwise.agent.surfaces.export import write_text
    from branchwise.agent.surfaces.trace_view import draw_search

    events = read_trace(file)
    relevant = {*(gold or ()), *_relevant(qrels, query_id)}
    page = out or file.with_suffix(".html")
    with open_index(settings) as opened:
        write_text(page, draw_search(events, opened, gold=relevant))
    terminal.give({"path": str(page), "bytes": page.stat().st_size, "gold": sorted(relevant)})
    terminal.say(f"{page}: open it in a browser.")


def _relevant(qrels: Path | None, query_id: str | None) -> set[str]:
    """Ids that a qrels file marks as relevant to the query. Raises InputError."""
    if qrels is None:
        return set()
    if query_id is None:
        raise InputError("--qrels holds many queries.", hint="Give --query-id ID as well.")
    from branchwise.agent.bench.trec import read_qrels

    grades = read_qrels(qrels).get(query_id)
    if grades is None:
        raise InputError(f"{qrels} has no query {query_id!r}.")
    return {doc_id for doc_id, grade in grades.items() if grade > 0}
