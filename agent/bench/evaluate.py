"""One evaluation from end to end: dataset, index, methods, budget in; runs, metrics, comparisons and a report out.

What `branchwise eval` calls, and what the suite calls many times. Says beforehand what it may cost at most; continues
where it was interrupted. Knows no command line. Tested in tests/bench/test_evaluate.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchwise.agent.bench.compare import Comparison, compare
from branchwise.agent.bench.datasets import Dataset, Query, read_dataset
from branchwise.agent.bench.measure import METRICS, measure
from branchwise.agent.bench.methods import Judges, Method, method
from branchwise.agent.bench.runs import Progress, QueryLine, Run, read_finished, run_method, spec_of
from branchwise.agent.bench.testbed import Bench, build_bench, simulated
from branchwise.agent.bench.trec import read_qrels, read_run
from branchwise.stores.errors import InputError
from branchwise.stores.records import Budget, Event

if TYPE_CHECKING:
    from rich.console import Console

    from branchwise.prompts.ask import Asker

DEFAULT_CALLS = 40
"""Calls a query where no limit is given: LATTICE's 39, rounded."""
PROMPT_TOKENS = 700
SLATE = 20
LONGEST_ITEM = 800
TOKENS_A_SCORE, TOKENS_A_REASON = 8, 24
CHARACTERS_A_TOKEN = 4


Draw = Callable[[Sequence[Event], frozenset[str]], str]
"""A page of one search: its events and the ids of its relevant documents in, HTML out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalEstimate:
    """Upper bounds of an evaluation; `cost` is None where the model's price is not known, 0 without a model."""

    queries: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None

    def __str__(self) -> str:
        money = "price unknown" if self.cost is None else f"{self.cost:.2f}"
        return (
            f"{self.queries} queries, at most {self.calls:,} calls, {self.input_tokens:,} tokens in, "
            f"{self.output_tokens:,} out; cost at most {money}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came out: a run a method, what was estimated, and where the report lies (None if none was wanted)."""

    runs: tuple[Run, ...]
    estimate: EvalEstimate
    report: Path | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: what `branchwise eval --json` prints."""
        return {
            "runs": [
                {
                    **asdict(run.spec),
                    "metrics": dict(run.measured.mean),
                    "calls": run.mean("judged_slates"),
                    "input_tokens": run.mean("input_tokens"),
                    "cached_tokens": run.mean("cached_tokens"),
                    "output_tokens": run.mean("output_tokens"),
                    "seconds": run.mean("seconds"),
                    "cost": run.mean("cost"),
                    "failed": {line.query_id: line.error for line in run.failed},
                    "missing": list(run.measured.missing),
                    "folder": str(run.folder) if run.folder else None,
                }
                for run in self.runs
            ],
            "estimate": asdict(self.estimate),
            "report": str(self.report) if self.report else None,
            "notes": list(self.notes),
        }


async def run_eval(
    dataset: Path | Dataset,
    *,
    index: Path | None = None,
    methods: Sequence[str] = ("branchwise",),
    asker: Asker | None = None,
    simulate: str | float | None = None,
    budget: Budget | None = None,
    out: Path | None = None,
    split: str = "test",
    subset: str = "",
    part: str = "all",
    limit: int | None = None,
    seed: int = 0,
    concurrency: int = 4,
    console: Console | None = None,
    confirm: Callable[[EvalEstimate], bool] | None = None,
    draw: Draw | None = None,
) -> Evaluation:
    """Run `methods` on a dataset, one after the other, every query under the same budget.

    The judge is `asker`'s model, else the simulated one that `simulate` names (agent.bench.profiles), else the embedded
    one. `index` is built, without a model, where there is none; by default it lies in `out`/index/<dataset>. A run is
    a folder of `out` and is continued if it is there; a report of all runs in `out` is written beside them. `part` is
    "all", "even" or "odd", `limit` a number of queries drawn by `seed`. `confirm` is asked before a model is paid: no
    means InputError. `draw` makes a page of a search's events and its relevant documents: with it, each search of ours
    and of LATTICE is kept in the run's folder as JSON lines and as a page that the report links to.
    Raises InputError, IndexMissing and its kin, ModelRefused.
    """
    chosen = [method(name) for name in methods]
    data = dataset if isinstance(dataset, Dataset) else read_dataset(dataset, split=split, subset=subset)
    if index is None and out is None:
        raise InputError("an evaluation needs an index, or a folder to build one in", hint="--index DIR or --out DIR")
    bench = await build_bench(data, index or Path(out or ".") / "index" / data.name)
    bench.dataset = choose_queries(data, part=part, limit=limit, seed=seed)
    judges = make_judges(bench, asker=asker, simulate=simulate, seed=seed)
    allowed = budget or Budget(max_calls=DEFAULT_CALLS)
    estimate = estimate_eval(bench, chosen, allowed, asker)
    if asker is not None and confirm is not None and not confirm(estimate):
        raise InputError(f"not started: {estimate}", hint="--yes starts it; --limit and --max-calls make it smaller")
    runs = []
    for entry in chosen:
        spec = spec_of(bench, entry, judges, allowed, part=part, seed=seed)
        folder = None if out is None else out / spec.name
        if draw is not None and folder is not None:
            keep_traces(bench, folder / "traces")
        with _shown(console, bench, entry) as on_query:
            runs.append(
                await run_method(
                    bench,
                    entry,
                    judges,
                    allowed,
                    folder=folder,
                    part=part,
                    seed=seed,
                    concurrency=concurrency,
                    on_query=on_query,
                )
            )
        if draw is not None and folder is not None:
            draw_traces(bench, folder / "traces", draw)
    report = None
    if out is not None:
        from branchwise.agent.bench.report import write_report

        report = write_report(runs, out)
    return Evaluation(runs=tuple(runs), estimate=estimate, report=report, notes=data.notes)


def choose_queries(dataset: Dataset, *, part: str = "all", limit: int | None = None, seed: int = 0) -> Dataset:
    """The half that `part` names, of it `limit` queries drawn by `seed`, in the order of the dataset."""
    half = dataset if part == "all" else dataset.half(part)
    if limit is None or limit >= len(half.queries):
        return half
    if limit < 1:
        raise InputError(f"--limit is a number of queries, at least 1, not {limit}")
    import random

    drawn = sorted(random.Random(seed).sample(range(len(half.queries)), limit))  # noqa: S311  a sample, no secret
    return half.only(half.queries[place] for place in drawn)


def make_judges(
    bench: Bench, *, asker: Asker | None = None, simulate: str | float | None = None, seed: int = 0
) -> Judges:
    """Who judges: a model, a simulation of one, or the embedded judge."""
    from branchwise.agent.search.judge import EmbeddedJudge

    embedded = EmbeddedJudge(bench.index)
    if asker is not None and simulate is not None:
        raise InputError("a model and a simulated judge were both asked for", hint="give one of --model and --simulate")
    if asker is not None:
        from branchwise.agent.search.judge_model import ModelJudge

        model = asker
        return lambda meter: ModelJudge(model, bench.index, fallback=embedded, meter=meter)
    if simulate is not None:
        pretender = simulated(bench, simulate, seed=seed)
        return lambda meter: pretender
    return lambda meter: embedded


def estimate_eval(bench: Bench, methods: Sequence[Method], budget: Budget, asker: Asker | None) -> EvalEstimate:
    """At most what the methods will ask for, from the budget and the length of the texts. No call is made."""
    queries = len(bench.dataset.queries)
    judged = sum(entry.judged for entry in methods)
    calls = judged * queries * (DEFAULT_CALLS if budget.max_calls is None else budget.max_calls)
    if asker is None:
        return EvalEstimate(queries=queries, calls=calls, input_tokens=0, output_tokens=0, cost=0.0)
    lengths = [len(document.text) for document in bench.dataset.documents] or [4 * LONGEST_ITEM]
    item = min(LONGEST_ITEM, sum(lengths) // len(lengths) // CHARACTERS_A_TOKEN + 10)
    tokens_in, tokens_out = calls * (PROMPT_TOKENS + SLATE * item), calls * SLATE * (TOKENS_A_SCORE + TOKENS_A_REASON)
    if budget.max_tokens is not None:
        tokens_in = min(tokens_in, judged * queries * budget.max_tokens)
    cost = None if asker.price is None else asker.price.cost(input_tokens=tokens_in, output_tokens=tokens_out)
    if budget.max_cost is not None:
        bound = judged * queries * budget.max_cost
        cost = bound if cost is None else min(cost, bound)
    return EvalEstimate(queries=queries, calls=calls, input_tokens=tokens_in, output_tokens=tokens_out, cost=cost)


def compare_runs(a: Path, b: Path, *, qrels: Path | None = None, seed: int = 0) -> list[Comparison]:
    """Compare two runs on disk: run folders, or TREC run files. Run files need `qrels`; folders carry their own.

    Raises InputError where the two are of different datasets or the judgements are missing.
    """
    if a.is_dir() and b.is_dir() and qrels is None:
        left, right = read_finished(a), read_finished(b)
        one, two = left.spec, right.spec
        if (one.dataset, one.part, one.queries) != (two.dataset, two.part, two.queries):
            what = f"{one.dataset} {one.part}, {two.dataset} {two.part}"
            raise InputError(f"{a} and {b} ran on different queries: {what}")
        return [compare(left.measured.per_query, right.measured.per_query, metric, seed=seed) for metric in METRICS]
    if qrels is None:
        raise InputError("comparing run files needs the judgements", hint="--qrels FILE")
    judged = read_qrels(qrels)
    scored = []
    for path in (a, b):
        run = read_run(path / "run.trec" if path.is_dir() else path)
        rankings = {query: [doc for doc, _ in ranking] for query, ranking in run.items()}
        scored.append(measure(rankings, judged).per_query)
    return [compare(scored[0], scored[1], metric, seed=seed) for metric in METRICS]


def keep_traces(bench: Bench, folder: Path) -> None:
    """Write the events of each search to `folder`/<query>.jsonl as they happen."""
    from branchwise.agent.search.trace import to_line

    folder.mkdir(parents=True, exist_ok=True)

    def listener(query: Query) -> Callable[[Event], None]:
        path = folder / f"{_file_name(query.query_id)}.jsonl"
        path.unlink(missing_ok=True)

        def write(event: Event) -> None:
            with path.open("a", encoding="utf-8") as out:
                out.write(to_line(event) + "\n")

        return write

    bench.on_event = listener


def draw_traces(bench: Bench, folder: Path, draw: Draw) -> None:
    """A page beside each trace of `folder`."""
    from branchwise.agent.search.trace import read_trace

    for query in bench.dataset.queries:
        path = folder / f"{_file_name(query.query_id)}.jsonl"
        if path.exists():
            grades = bench.dataset.qrels.get(query.query_id, {})
            relevant = frozenset(doc_id for doc_id, grade in grades.items() if grade > 0)
            path.with_suffix(".html").write_text(draw(read_trace(path), relevant), encoding="utf-8")


def _file_name(query_id: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in query_id)[:100] or "_"


@contextmanager
def _shown(console: Console | None, bench: Bench, entry: Method) -> Iterator[Progress | None]:
    """A progress line with the mean nDCG@10 and the mean number of calls so far."""
    if console is None:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    gains: list[float] = []
    calls: list[int] = []
    failures = 0
    with Bar(*columns, TextColumn("{task.fields[so_far]}"), console=console, transient=True) as bar:
        task = bar.add_task(entry.name, total=len(bench.dataset.queries), so_far="")

        def on_query(line: QueryLine, done: int, total: int) -> None:
            nonlocal failures
            failures += bool(line.error)
            grades = bench.dataset.qrels[line.query_id]
            if any(grade > 0 for grade in grades.values()):
                ranking = {line.query_id: [doc for doc, _ in line.ranking]}
                gains.append(measure(ranking, {line.query_id: grades}).mean["nDCG@10"])
            calls.append(line.judged_slates)
            so_far = f"nDCG@10 {sum(gains) / max(1, len(gains)):.3f}  calls {sum(calls) / len(calls):.1f}"
            bar.update(task, completed=done, total=total, so_far=so_far + (f"  failed {failures}" if failures else ""))

        yield on_query
