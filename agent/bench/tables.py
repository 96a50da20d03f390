"""Tables of the report, as rows of text: quality at equal budgets, ablations, significance, where we do not win.

Works on finished runs alone. Tested in tests/bench/test_report.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from branchwise.agent.bench.compare import Comparison, compare
from branchwise.agent.bench.diagnose import FATES
from branchwise.agent.bench.methods import ABLATIONS, METHODS
from branchwise.agent.bench.runs import Run

OURS = "branchwise"
METRIC = "nDCG@10"
SIGNIFICANT = 0.05
ABLATED = frozenset(f"{OURS}-no-{part}" for part in ABLATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A captioned table; cells are plain text, `strong` marks (row, column) of cells to stand out."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that may be compared: one dataset, one judge, the same queries. `free` are the runs without a judge."""

    dataset: str
    part: str
    judge: str
    runs: tuple[Run, ...]
    free: tuple[Run, ...]

    @property
    def title(self) -> str:
        """Dataset, half and judge in words."""
        count = (*self.runs, *self.free)[0].spec.queries
        half = "" if self.part == "all" else f"{self.part} "
        return f"{self.dataset} ({count} {half}queries), judge: {self.judge}"

    @property
    def budgets(self) -> list[int]:
        """Calls a query that were set, ascending."""
        return sorted({calls for run in self.runs if (calls := calls_of(run)) is not None})

    def find(self, method: str, calls: int | None) -> Run | None:
        """The run of this method at this budget; one without a judge serves every budget."""
        for run in (*self.runs, *self.free):
            if run.spec.method == method and (calls_of(run) == calls or run in self.free):
                return run
        return None

    @property
    def methods(self) -> list[str]:
        """Methods in the order in which they were run, those without a judge first."""
        return list(dict.fromkeys(run.spec.method for run in (*self.free, *self.runs)))

    @property
    def rivals(self) -> list[str]:
        """Methods that are neither ours nor parts of it."""
        return [name for name in self.methods if not name.startswith(OURS)]

    @property
    def ablations(self) -> list[str]:
        """Ours with a part switched off."""
        return [name for name in self.methods if name in ABLATED]


def groups(runs: Iterable[Run]) -> list[Group]:
    """Runs by dataset, half and judge, in a fixed order."""
    everything = sorted(runs, key=_place)
    found = []
    for (dataset, part), here in groupby(everything, key=lambda run: (run.spec.dataset, run.spec.part)):
        together = list(here)
        free = tuple(run for run in together if run.spec.judge == "none")
        judges = dict.fromkeys(run.spec.judge for run in together if run.spec.judge != "none")
        for judge in judges or ["none"]:
            judged = tuple(run for run in together if run.spec.judge == judge and judge != "none")
            found.append(Group(dataset=dataset, part=part, judge=judge, runs=judged, free=free))
    return found


def calls_of(run: Run) -> int | None:
    """Calls a query that the run was allowed; None where no such limit was set."""
    limit = run.spec.budget.get("max_calls")
    return None if limit is None else int(limit)


def overview(all_groups: Sequence[Group]) -> list[Table]:
    """For each judge with more than one collection: mean nDCG@10 over them, each counting the same, by budget.

    A method that lacks a run in a collection has no mean there.
    """
    seen = Counter(group.judge for group in all_groups if group.runs)
    return [_mean_table([g for g in all_groups if g.judge == judge]) for judge, count in seen.items() if count > 1]


def _mean_table(here: Sequence[Group]) -> Table:
    budgets = sorted({calls for group in here for calls in group.budgets})
    methods = [name for name in dict.fromkeys(name for group in here for name in group.methods) if name not in ABLATED]
    rows, best = [], dict.fromkeys(budgets, 0.0)
    means: dict[tuple[int, int], float] = {}
    for row, name in enumerate(methods):
        texts = [name]
        for column, calls in enumerate(budgets, start=1):
            runs = [run for group in here if (run := group.find(name, calls)) is not None]
            if len(runs) < len(here):
                texts.append("")
                continue
            mean = sum(run.measured.mean[METRIC] for run in runs) / len(runs)
            used = sum(run.mean("judged_slates") or 0.0 for run in runs) / len(runs)
            means[row, column], best[calls] = mean, max(best[calls], mean)
            texts.append(f"{mean:.3f} ({used:.1f})" if 0 < used < calls - 0.05 else f"{mean:.3f}")
        rows.append(texts)
    strong = frozenset(place for place, mean in means.items() if mean == best[budgets[place[1] - 1]])
    caption = f"Mean {METRIC} over {len(here)} collections (calls really used, where fewer), judge: {here[0].judge}"
    return Table(caption=caption, head=["method", *(f"{calls} calls" for calls in budgets)], rows=rows, strong=strong)


def quality(group: Group) -> Table:
    """nDCG@10 and Recall@100 of every method but the ablations at every budget, with the calls really used."""
    methods = [name for name in group.methods if name not in group.ablations]
    budgets = group.budgets or [0]
    cells: dict[tuple[int, int], float] = {}
    rows = []
    for row, name in enumerate(methods):
        texts = [name]
        for column, calls in enumerate(budgets, start=1):
            run = group.find(name, calls)
            if run is None:
                texts.append("")
                continue
            cells[row, column] = run.measured.mean[METRIC]
            texts.append(_quality_cell(run, calls))
        rows.append(texts)
    best = {
        max((cell for cell in cells if cell[1] == column), key=lambda cell: cells[cell])
        for column in {column for _, column in cells}
    }
    head = ["method", *(f"{calls} calls" if calls else "no judge" for calls in budgets)]
    caption = f"{METRIC} / Recall@100 (calls really used, where fewer) on {group.title}"
    return Table(caption=caption, head=head, rows=rows, strong=frozenset(best))


def ablations(group: Group) -> Table | None:
    """What each part is worth: ours without it, at every budget, as a difference with its p value."""
    tried = {calls_of(run) for run in group.runs if run.spec.method in group.ablations}
    budgets = [calls for calls in group.budgets if calls in tried and group.find(OURS, calls) is not None]
    rows: list[list[str]] = []
    strong: set[tuple[int, int]] = set()
    for name in group.ablations:
        texts = [name.removeprefix(f"{OURS}-")]
        for calls in budgets:
            found = _against_ours(group, name, calls)
            if found is not None and found.p_value < SIGNIFICANT:
                strong.add((len(rows), len(texts)))
            texts.append("" if found is None else f"{_change(-found.difference)} (p {_p(found.p_value)})")
        rows.append(texts)
    if not rows:
        return None
    whole = [f"{run.measured.mean[METRIC]:.3f}" for calls in budgets if (run := group.find(OURS, calls))]
    rows.insert(0, ["ours, whole", *whole])
    strong = {(row + 1, column) for row, column in strong}
    caption = f"Change of {METRIC} when a part of ours is switched off, on {group.title}; bold: p < {SIGNIFICANT}"
    head = ["part", *(f"{calls} calls" for calls in budgets)]
    return Table(caption=caption, head=head, rows=rows, strong=frozenset(strong))


def significance(group: Group) -> Table | None:
    """Ours against every rival at the same budget: difference, 95 % interval, p, queries won, tied and lost."""
    rows: list[list[str]] = []
    strong: set[tuple[int, int]] = set()
    for calls in group.budgets:
        for name in group.rivals:
            found = _against_ours(group, name, calls)
            if found is None:
                continue
            if found.p_value < SIGNIFICANT:
                strong.add((len(rows), 2))
            interval = f"{_change(found.low)} to {_change(found.high)}"
            counted = f"{found.wins} / {found.ties} / {found.losses}"
            rows.append([str(calls), name, _change(found.difference), interval, _p(found.p_value), counted])
    head = ["calls", "ours against", METRIC, "95 % interval", "p", "won / tied / lost"]
    caption = f"Paired randomisation test and bootstrap over queries, {group.title}; bold: p < {SIGNIFICANT}"
    return Table(caption=caption, head=head, rows=rows, strong=frozenset(strong)) if rows else None


def not_won(all_groups: Sequence[Group]) -> Table:
    """Every budget, judge and dataset at which a rival's mean is above ours, in nDCG@10 or Recall@100."""
    rows = []
    for group in all_groups:
        for calls in group.budgets:
            for name in group.rivals:
                for metric in (METRIC, "R@100"):
                    found = _against_ours(group, name, calls, metric)
                    if found is not None and found.difference < -0.0005:
                        means = f"{found.mean_b:.3f} against {found.mean_a:.3f}"
                        row = [group.title, str(calls), name, metric, means, f"{found.difference:+.3f}"]
                        rows.append([*row, _p(found.p_value)])
    head = ["where", "calls", "who is above ours", "metric", "ours against theirs", "difference", "p"]
    return Table(caption="Where ours does not win", head=head, rows=rows)


def costs(group: Group) -> Table:
    """What a query takes on average: slates judged, tokens, money, seconds of wall time."""
    keys = ("judged_slates", "input_tokens", "cached_tokens", "output_tokens", "cost", "seconds")
    rows = []
    for run in (*group.free, *group.runs):
        calls = calls_of(run)
        values = [_amount(run.mean(key), key) for key in keys]
        rows.append([run.spec.method, "" if calls is None else str(calls), *values, str(len(run.failed))])
    head = [
        "method",
        "calls allowed",
        "slates",
        "tokens in",
        "of them cached",
        "tokens out",
        "cost",
        "seconds",
        "failed",
    ]
    note = "; tokens are assumed sizes and seconds are our own work alone" if "simulated" in group.judge else ""
    return Table(caption=f"A query on average, {group.title}{note}", head=head, rows=rows)


def fate_shares(run: Run) -> dict[str, float]:
    """Share of the relevant documents by what became of them; "never read" is split by the level it was lost at."""
    counts: dict[str, int] = dict.fromkeys(FATES, 0)
    for line in run.lines:
        for loss in line.losses:
            counts[loss["fate"]] += 1
    total = sum(counts.values()) or 1
    return {fate: count / total for fate, count in counts.items()}


def losses(group: Group) -> Table | None:
    """What became of the relevant documents, and how far the search had come to those that were never read."""
    calls = group.budgets[-1] if group.budgets else None
    runs = [run for run in group.runs if calls_of(run) == calls and run.spec.method not in group.ablations]
    if not runs:
        return None
    rows = []
    for run in runs:
        depths = Counter(loss["level"] for line in run.lines for loss in line.losses if loss["fate"] == "never read")
        lost = [f"{count} at level {level}" for level, count in sorted(depths.items())]
        shares = [f"{share:.1%}" for share in fate_shares(run).values()]
        read = [line.first_read for line in run.lines if line.first_read is not None]
        first = f"{sum(read) / len(read):.1f}" if read else ""
        rows.append([run.spec.method, first, *shares, ", ".join(lost)])
    head = ["method", "gold first read at call", *FATES, "never read: the deepest judged node of its path lay at"]
    return Table(caption=f"Where gold was lost at {calls} calls, {group.title}", head=head, rows=rows)


def failures(runs: Iterable[Run]) -> Table | None:
    """Queries that ended in an error, one by one; each counts as zero in every table."""
    rows = [[run.spec.name, line.query_id, line.error] for run in runs for line in run.failed]
    return Table(caption="Queries that failed", head=["run", "query", "error"], rows=rows) if rows else None


def _against_ours(group: Group, name: str, calls: int, metric: str = METRIC) -> Comparison | None:
    ours, theirs = group.find(OURS, calls), group.find(name, calls)
    if ours is None or theirs is None:
        return None
    return compare(theirs.measured.per_query, ours.measured.per_query, metric)


def _quality_cell(run: Run, calls: int) -> str:
    used = run.mean("judged_slates") or 0.0
    text = f"{run.measured.mean[METRIC]:.3f} / {run.measured.mean['R@100']:.3f}"
    return f"{text} ({used:.1f})" if calls and used and used < calls - 0.05 else text


def _change(value: float) -> str:
    return f"{value:+.3f}" if abs(value) >= 0.0005 else "0.000"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


_FORMATS: Mapping[str, Callable[[float], str]] = {
    "judged_slates": lambda value: f"{value:.1f}",
    "seconds": lambda value: f"{value:.3f}",
    "cost": lambda value: f"{value:.4f}",
}


def _amount(value: float | None, key: str) -> str:
    if value is None:
        return "unknown"
    return _FORMATS[key](value) if key in _FORMATS else f"{value:,.0f}"


def _place(run: Run) -> tuple[str, str, str, int, str, int]:
    order = {name: place for place, name in enumerate(METHODS)}
    spec = run.spec
    return (spec.dataset, spec.part, spec.judge, order.get(spec.method, len(order)), spec.method, calls_of(run) or 0)
