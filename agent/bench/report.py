"""The report of an evaluation: one self-contained HTML page and the same in Markdown, drawn from runs on disk.

Nothing is fetched, no script runs; every figure names the run folder that it comes from. Simulated judges are called
simulated in every heading. `python -m branchwise.agent.bench.report DIR` draws the finished runs of a folder again.
Tested in tests/bench/test_report.py.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from branchwise.agent.bench import plots, tables
from branchwise.agent.bench.methods import METHODS
from branchwise.agent.bench.runs import Run, read_finished
from branchwise.agent.bench.tables import Group, Table

FOLDED = ("Significance", "What each part is worth", "Where gold was lost", "Cost and time")
"""Sections with a table for each collection and judge, too long to show at once."""
PAGE, TEXT = "report.html", "report.md"


def write_report(
    runs: Sequence[Run], folder: Path, *, title: str = "Branchwise: evaluation", command: str = ""
) -> Path:
    """Write `folder`/report.html and report.md; the path of the page."""
    found = tables.groups(runs)
    (folder / TEXT).write_text(as_markdown(found, runs, title=title, command=command), encoding="utf-8")
    page = folder / PAGE
    page.write_text(as_html(found, runs, title=title, command=command, folder=folder), encoding="utf-8")
    return page


def as_markdown(found: Sequence[Group], runs: Sequence[Run], *, title: str, command: str = "") -> str:
    """The tables and notes of the report, without plots."""
    blocks = [f"# {title}", *_preface(found, command)]
    for heading, here in _sections(found, runs):
        blocks.append(f"## {heading}")
        blocks += [markdown_table(table) for table in here]
    return "\n\n".join(blocks) + "\n"


def as_html(
    found: Sequence[Group], runs: Sequence[Run], *, title: str, command: str = "", folder: Path | None = None
) -> str:
    """The whole report as one page, plots inline."""
    figures = {
        "Quality at equal budgets": (plots.quality_curves(found), plots.token_curves(found)),
        "Where gold was lost": (plots.fates_of_gold(found),),
        "What the judge's scores mean": (plots.reliability_diagram(found),),
    }
    body = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(line)}</p>" for line in _preface(found, command))]
    for heading, here in _sections(found, runs):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body += [f'<figure class="plot">{figure}</figure>' for figure in figures.get(heading, ())]
        body += [html_table(table, folded=heading in FOLDED and len(here) > 2) for table in here]
    if folder is not None:
        body += _links(runs, folder)
    frame = files("branchwise.agent.bench").joinpath("frame.html").read_text(encoding="utf-8")
    return frame.replace("{{title}}", html.escape(title)).replace("{{body}}", "\n".join(body))


def markdown_table(table: Table) -> str:
    """A pipe table under its caption."""
    lines = ["| " + " | ".join(_piped(cell) for cell in table.head) + " |", "|" + " --- |" * len(table.head)]
    for number, row in enumerate(table.rows):
        cells = [f"**{_piped(c)}**" if (number, at) in table.strong and c else _piped(c) for at, c in enumerate(row)]
        lines.append("| " + " | ".join(cells) + " |")
    if not table.rows:
        return f"{table.caption}: nothing."
    return f"{table.caption}.\n\n" + "\n".join(lines)


def html_table(table: Table, *, folded: bool = False) -> str:
    """A table under its caption; every cell is escaped. `folded`: only the caption shows until it is clicked."""
    caption = html.escape(table.caption)
    if not table.rows:
        return f"<p>{caption}: nothing.</p>"
    wordy = [any(row[at][:1].isalpha() for row in table.rows) for at in range(len(table.head))]
    head = "".join(
        f'<th scope="col"{" class=words" if words else ""}>{html.escape(cell)}</th>'
        for cell, words in zip(table.head, wordy, strict=True)
    )
    body = []
    for number, row in enumerate(table.rows):
        cells = []
        for at, cell in enumerate(row):
            classes = " ".join(["words"] * wordy[at] + ["strong"] * ((number, at) in table.strong))
            cells.append(
                f'<td class="{classes}">{html.escape(cell)}</td>' if classes else f"<td>{html.escape(cell)}</td>"
            )
        body.append(f"<tr>{''.join(cells)}</tr>")
    drawn = f'<div class="wide"><table><tr>{head}</tr>{"".join(body)}</table></div>'
    if folded:
        return f"<details><summary>{caption}</summary>{drawn}</details>"
    return f'<p class="caption">{caption}.</p>{drawn}'


def _sections(found: Sequence[Group], runs: Sequence[Run]) -> list[tuple[str, list[Table]]]:
    def each(make: Callable[[Group], Table | None]) -> list[Table]:
        return [table for group in found if (table := make(group)) is not None]

    sections = [
        ("Overview", tables.overview(found)),
        ("Quality at equal budgets", each(tables.quality)),
        ("Where ours does not win", [tables.not_won(found)]),
        ("What each part is worth", each(tables.ablations)),
        ("Significance", each(tables.significance)),
        ("Where gold was lost", each(tables.losses)),
        ("What the judge's scores mean", []),
        ("Cost and time", each(tables.costs)),
        ("Methods", [_methods(found)]),
        ("Failures", [table for table in [tables.failures(runs)] if table is not None]),
    ]
    with_plots = ("What the judge's scores mean",)
    return [(heading, here) for heading, here in sections if here or heading in with_plots]


def _preface(found: Sequence[Group], command: str) -> list[str]:
    judges = sorted({group.judge for group in found if group.judge != "none"})
    lines = []
    if any(judge.startswith("simulated") for judge in judges):
        lines.append(
            "SIMULATION. Judges called simulated are no language models: they draw scores from known gold as recorded "
            "models scored. What they show is how methods compare under a judge of that kind, not what a model would "
            "reach. They are kind to trees: a cluster that holds gold is taken to show it, however well its summary is "
            "written, so expect less of every walk over the tree from a real model."
        )
    budgets = sorted({calls for group in found for calls in group.budgets})
    lines.append(
        f"Every method had the same judge and the same budget ({', '.join(map(str, budgets)) or 'no'} calls a query). "
        "A query that failed or is missing counts as zero. Metrics by ir-measures; p values by a paired randomisation "
        "test with 10,000 rounds, intervals by the bootstrap."
    )
    if command:
        lines.append(f"Made by: {command}")
    return lines


def _methods(found: Sequence[Group]) -> Table:
    names = dict.fromkeys(run.spec.method for group in found for run in (*group.free, *group.runs))
    rows = [[name, METHODS[name].what] for name in names if name in METHODS]
    return Table(caption="What was run", head=["method", "what it does"], rows=rows)


def _links(runs: Iterable[Run], folder: Path) -> list[str]:
    """Where each run lies, with its traces, relative to the page."""
    items = []
    for run in runs:
        if run.folder is None:
            continue
        try:
            place = run.folder.relative_to(folder).as_posix()
        except ValueError:
            continue
        links = [
            f'<a href="{html.escape(place)}/{name}">{name}</a>' for name in ("run.trec", "queries.jsonl", "run.json")
        ]
        links += [
            f'<a href="{html.escape(page.relative_to(folder).as_posix())}">{html.escape(page.stem)}</a>'
            for page in sorted((run.folder / "traces").glob("*.html"))
        ]
        items.append(f"<li>{html.escape(run.spec.name)}: {', '.join(links)}</li>")
    return ["<h2>Runs</h2>", f"<ul class=small>{''.join(items)}</ul>"] if items else []


def _piped(cell: str) -> str:
    return cell.replace("|", "\\|")


def main() -> None:
    """Draw the report of all finished runs in the folder that the command line names."""
    folder = Path(sys.argv[1] if len(sys.argv) == 2 else ".")
    print(write_report([read_finished(path.parent) for path in sorted(folder.glob("*/metrics.json"))], folder))


if __name__ == "__main__":
    main()
