"""`branchwise eval | trace`: measure methods on a dataset, and look at one search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from branchwise.agent.surfaces.cli.opening import open_asker, open_index
from branchwise.agent.surfaces.cli.options import INDEX, LIMITS, MODEL, Yes, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from branchwise.agent.bench.evaluate import EvalEstimate
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.stores.records import Event

AGAIN = "Run the same command again: it continues at the query where it stopped, and repeats no call."

DatasetDir = Annotated[
    Path | None, typer.Option("--dataset", metavar="DIR", help="A BEIR, TREC or BRIGHT folder.", show_default=False)
]
MethodNames = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="What to run; repeatable; a wrong name lists all."),
]
OutDir = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Runs, traces and the report go here.")]
RunFile = Annotated[Path | None, typer.Option("--run", metavar="FILE", help="Write the ranking as a TREC run file.")]
Simulate = Annotated[
    str | None, typer.Option("--simulate", metavar="JUDGE", help="A simulated judge, labelled as such in every output.")
]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="Which qrels.")]
Subset = Annotated[str, typer.Option("--subset", metavar="NAME", help="Which subset of BRIGHT.")]
Part = Annotated[str, typer.Option("--part", metavar="HALF", help="all, even or odd queries: tune on one, report one.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="So many queries, drawn by --seed.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of all that is drawn.")]
Concurrency = Annotated[int, typer.Option("--concurrency", metavar="N", help="Queries at a time.")]
Traces = Annotated[bool, typer.Option("--traces", help="Keep a trace and a picture of every search.")]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="RUN RUN", help="Compare two finished runs: differences and their significance."),
]
TraceFile = Annotated[Path, typer.Argument(metavar="FILE", help="Written by: branchwise search --trace FILE.")]
PageOut = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The picture [FILE.html].")]
Gold = Annotated[
    list[str] | None, typer.Option("--gold", metavar="ID", help="Passage or document known to be relevant; repeatable.")
]
Qrels = Annotated[Path | None, typer.Option("--qrels", metavar="FILE", help="Relevant documents by query.")]
QueryId = Annotated[str | None, typer.Option("--query-id", metavar="ID", help="Which query of --qrels this was.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "eval", {**INDEX, **MODEL, **LIMITS}, again=AGAIN)(evaluate)
    command(app, "trace", INDEX)(trace)


def evaluate(
    terminal: Terminal,
    settings: Settings,
    dataset: DatasetDir = None,
    method: MethodNames = None,
    out: OutDir = None,
    run: RunFile = None,
    simulate: Simulate = None,
    split: Split = "test",
    subset: Subset = "",
    part: Part = "all",
    limit: Limit = None,
    seed: Seed = 0,
    concurrency: Concurrency = 4,
    traces: Traces = False,
    compare: Compare = None,
    qrels: Qrels = None,
    yes: Yes = False,
) -> None:
    """Run methods on a dataset under one budget a query (40 calls, unless a limit is given) and measure them."""
    from branchwise.agent.bench.evaluate import run_eval
    from branchwise.agent.bench.measure import provider

    if compare is not None:
        _compare(terminal, compare, qrels, seed)
        return
    provider()  # what is not installed is missed before anything is indexed
    if dataset is None:
        raise InputError("Which dataset?", hint="Give --dataset DIR: a BEIR, TREC or BRIGHT folder.")
    if run is not None and len(method or ()) > 1:
        raise InputError("--run holds one method's ranking.", hint="Give one --method, or --out DIR for all.")
    home = out or Path("bench-results")
    index = settings.index or home / "index" / "-".join(filter(None, [dataset.resolve().name, subset]))
    terminal.say(_judged_by(settings, simulate), style="dim")

    def agree(estimate: EvalEstimate) -> bool:
        terminal.note(str(estimate), style="")
        return yes or settings.is_limited or terminal.confirm("Go on?", instead="Give --yes, or a limit a query.")

    found = asyncio.run(
        run_eval(
            dataset,
            index=index,
            methods=method or ("branchwise",),
            asker=open_asker(settings, index),
            simulate=simulate,
            budget=settings.budget if settings.is_limited else None,
            out=home,
            split=split,
            subset=subset,
            part=part,
            limit=limit,
            seed=seed,
            concurrency=concurrency,
            console=terminal.err if terminal.err.is_terminal else None,
            confirm=agree,
            draw=_drawer(settings, index) if traces else None,
        )
    )
    if run is not None and (folder := found.runs[0].folder) is not None:
        run.write_bytes((folder / "run.trec").read_bytes())
    facts = found.as_dict()
    terminal.give(facts)
    for note in found.notes:
        terminal.note(note, style="yellow")
    terminal.say(_table(facts["runs"]))
    for row in facts["runs"]:
        for query_id, error in row["failed"].items():
            terminal.say(f"failed  {row['method']}  {query_id}: {error}", style="red")
    if found.report:
        terminal.say(f"Report: {found.report}", style="dim")


def _drawer(settings: Settings, path: Path) -> Callable[[Sequence[Event], frozenset[str]], str]:
    """What draws a search of the evaluation as a page; the index is opened when the first one is drawn."""
    from branchwise.agent.surfaces.trace_view import draw_search
    from branchwise.stores.index import Index

    @cache
    def index() -> Index:
        return Index.open(path, chroma_url=settings.chroma_url)

    return lambda events, gold: draw_search(events, index(), gold=gold)


def _compare(terminal: Terminal, runs: tuple[Path, Path], qrels: Path | None, seed: int) -> None:
    """The differences of two runs, with intervals and significance."""
    from branchwise.agent.bench.evaluate import compare_runs

    found = compare_runs(*runs, qrels=qrels, seed=seed)
    terminal.give({"a": str(runs[0]), "b": str(runs[1]), "comparisons": [asdict(one) for one in found]})
    terminal.say(f"a: {runs[0]}   b: {runs[1]}", style="dim")
    for one in found:
        terminal.say(
            f"{one.metric:<12}{one.mean_a:.3f} to {one.mean_b:.3f}, {one.difference:+.3f} ({one.low:+.3f} to "
            f"{one.high:+.3f}), p {one.p_value:.3f}; b wins {one.wins}, ties {one.ties}, loses {one.losses}"
        )


def _judged_by(settings: Settings, simulate: str | None) -> str:
    """The first line: whose scores these are. A simulation is never called a model."""
    if simulate is not None and not settings.model:
        return f"No LLM is used: simulated judge ({simulate}). Its figures say nothing of a real model."
    return f"Judge: {settings.model}." if settings.model else "No LLM is used: embedded judge."


def _table(rows: list[Mapping[str, Any]]) -> Table:
    """One row a method: metrics, then what a query took on average; columns of nothing are left out."""
    from rich.table import Table

    metrics = list(rows[0]["metrics"]) if rows else []
    spent = {"calls": "calls", "input_tokens": "in", "output_tokens": "out", "seconds": "s", "cost": "money"}
    spent = {key: name for key, name in spent.items() if any(row[key] is None or row[key] for row in rows)}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("method", "judge"):
        table.add_column(name, no_wrap=True)
    for name in (*metrics, *spent.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        measured = [f"{row['metrics'][name]:.3f}" for name in metrics]
        table.add_row(row["method"], row["judge"], *measured, *(_number(row[key]) for key in spent))
    return table


def _number(value: float | None) -> str:
    """A mean a query; a question mark where it is not known."""
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


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
    from branchwise.agent.surfaces.trace_view import draw_search, gold_leaves

    events = read_trace(file)
    relevant = {*(gold or ()), *_relevant(qrels, query_id)}
    page = out or file.with_suffix(".html")
    with open_index(settings) as opened:
        if unknown := next((given for given in gold or () if not gold_leaves(opened, [given])), None):
            raise InputError(
                f"{opened.path} has no passage or document {unknown!r}.", hint="--gold takes an id of either."
            )
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
