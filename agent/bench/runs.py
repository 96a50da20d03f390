"""A run: one method, one judge, one budget over the queries of a dataset, written down query by query.

A run is a folder: run.json (what was run, with what), queries.jsonl (one line a query as it ends: ranking, calls,
tokens, seconds, money, why it stopped, what became of the gold) and, when it is complete, run.trec and metrics.json.
Starting the same run again continues after the last line that was written whole; replies paid for in the query that
was cut off are in the index's reply cache. Queries that fail are listed and count as zero.
Tested in tests/bench/test_runs.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from branchwise.agent.bench.datasets import Query
from branchwise.agent.bench.diagnose import fates, first_read, reliability
from branchwise.agent.bench.measure import Measured, measure
from branchwise.agent.bench.methods import Judges, Method
from branchwise.agent.bench.testbed import Bench
from branchwise.agent.bench.trec import write_run
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import BranchwiseError, InputError, ModelRefused
from branchwise.stores.records import Budget, Usage

Progress = Callable[["QueryLine", int, int], None]
"""Called after each query with its line, how many are done and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What decides a run's outcome. `judge` is "none" for methods that ask nobody; `budget` holds the limits set."""

    dataset: str
    method: str
    judge: str
    budget: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    part: str = "all"
    queries: int = 0
    index: str = ""

    @property
    def name(self) -> str:
        """A file name that tells runs of a suite apart."""
        limits = [f"{key.removeprefix('max_')}{value:g}" for key, value in self.budget.items()]
        parts = [self.dataset, self.method, re.sub(r"[^\w.+]+", "-", self.judge), *limits, self.part]
        return "_".join([*parts, f"s{self.seed}"] if self.seed else parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLine:
    """What became of one query; `error` is set, and all else empty, where it failed.

    `first_read` is the slate, counted from 1, that first showed the judge a relevant passage (None: none did), `losses`
    are the fates of its relevant documents, `reliability` the judge's scores against the truth (agent.bench.diagnose).
    """

    query_id: str
    ranking: Sequence[tuple[str, float]] = ()
    stopped: str = ""
    judged_slates: int = 0
    usage: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    notes: Sequence[str] = ()
    first_read: int | None = None
    losses: Sequence[Mapping[str, Any]] = ()
    reliability: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run with its metrics. `failed` are queries that ended in an error: each counts as zero in the metrics."""

    spec: RunSpec
    lines: tuple[QueryLine, ...]
    measured: Measured
    folder: Path | None = None

    @property
    def failed(self) -> tuple[QueryLine, ...]:
        """Queries that ended in an error."""
        return tuple(line for line in self.lines if line.error)

    def mean(self, key: str) -> float | None:
        """Mean of a usage field, "seconds" or "judged_slates" over the queries that ended well; None if unknown."""
        done = [line for line in self.lines if not line.error]
        values = [_value(line, key) for line in done]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None


async def run_method(
    bench: Bench,
    method: Method,
    judges: Judges,
    budget: Budget,
    *,
    folder: Path | None = None,
    part: str = "all",
    seed: int = 0,
    concurrency: int = 4,
    on_query: Progress | None = None,
) -> Run:
    """Run `method` on every query of the bench, `concurrency` at a time, and measure it.

    With a `folder` every finished query is on disk at once, and a run that is there already is continued: only queries
    without a line, and those that failed, are run. Raises InputError where the folder holds another run, and at once
    what would fail for every query alike (ModelRefused).
    """
    spec = spec_of(bench, method, judges, budget, part=part, seed=seed)
    log = _Log(folder, spec)
    done = log.lines
    todo = [query for query in bench.dataset.queries if query.query_id not in done]
    gate = asyncio.Semaphore(concurrency)

    async def one(query: Query) -> None:
        async with gate:
            line = await _run_query(bench, method, judges, budget, query)
        done[query.query_id] = line
        log.append(line)
        if on_query is not None:
            on_query(line, len(done), len(bench.dataset.queries))

    try:
        async with asyncio.TaskGroup() as group:
            for query in todo:
                group.create_task(one(query))
    except* ModelRefused as refused:
        raise refused.exceptions[0] from None
    finally:
        log.close()
    lines = tuple(done[query.query_id] for query in bench.dataset.queries)
    run = Run(spec=spec, lines=lines, measured=measure_lines(lines, bench), folder=folder)
    if folder is not None:
        write_run(folder / "run.trec", {line.query_id: line.ranking for line in lines}, tag=method.name)
        _replace(folder / "metrics.json", json.dumps(asdict(run.measured), indent=1) + "\n")
    return run


def spec_of(bench: Bench, method: Method, judges: Judges, budget: Budget, *, part: str, seed: int) -> RunSpec:
    """The run that these would make."""
    limits = {key: value for key, value in asdict(budget).items() if value is not None} if method.judged else {}
    manifest = bench.index.manifest
    return RunSpec(
        dataset=bench.dataset.name,
        method=method.name,
        judge=judges(Meter(budget)).name if method.judged else "none",
        budget=limits,
        seed=seed,
        part=part,
        queries=len(bench.dataset.queries),
        index=f"{manifest.index_id}:{manifest.generation}",
    )


def measure_lines(lines: Sequence[QueryLine], bench: Bench) -> Measured:
    """Metrics of what the lines rank; a failed query ranks nothing and counts as zero."""
    return measure({line.query_id: [doc for doc, _ in line.ranking] for line in lines}, bench.dataset.qrels)


async def _run_query(bench: Bench, method: Method, judges: Judges, budget: Budget, query: Query) -> QueryLine:
    began = time.perf_counter()
    try:
        ranked = await method.rank(bench, query, judges, budget)
    except ModelRefused:
        raise  # a wrong key or model fails for every query alike
    except BranchwiseError as error:
        return QueryLine(query_id=query.query_id, error=f"{type(error).__name__}: {error.message}")
    seconds = time.perf_counter() - began
    ranking = bench.as_documents(ranked.leaves, query)
    gold = {
        doc_id: bench.leaves_of.get(doc_id, ())
        for doc_id, grade in bench.dataset.qrels.get(query.query_id, {}).items()
        if grade > 0
    }
    relevant = [leaf for leaves in gold.values() for leaf in leaves]
    return QueryLine(
        query_id=query.query_id,
        ranking=ranking,
        stopped=ranked.stopped,
        judged_slates=len(ranked.judgements),
        usage=_usage(ranked.usage),
        seconds=round(seconds, 6),
        notes=ranked.notes,
        first_read=first_read(ranked.judgements, relevant),
        losses=[asdict(loss) for loss in fates(bench.tree, ranked.judgements, [d for d, _ in ranking], gold)],
        reliability=reliability(bench.tree, ranked.judgements, relevant) if ranked.judgements else {},
    )


def _usage(usage: Usage) -> dict[str, float | None]:
    counted = asdict(usage)
    counted.pop("seconds")
    return counted


def _value(line: QueryLine, key: str) -> float | None:
    if key in ("seconds", "judged_slates"):
        return float(getattr(line, key))
    return line.usage.get(key)


class _Log:
    """queries.jsonl, open for appending; `lines` are the finished queries that it already holds."""

    def __init__(self, folder: Path | None, spec: RunSpec) -> None:
        self.lines: dict[str, QueryLine] = {}
        self._file = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        header, log = folder / "run.json", folder / "queries.jsonl"
        if header.exists():
            _same_run(json.loads(header.read_text(encoding="utf-8")), spec, folder)
        else:
            header.write_text(json.dumps(asdict(spec), indent=2) + "\n", encoding="utf-8")
        if log.exists():
            whole = _whole_lines(log)
            self.lines = {line.query_id: line for line in whole if not line.error}
            _rewrite(log, self.lines.values())
        self._file = log.open("a", encoding="utf-8", newline="\n")

    def append(self, line: QueryLine) -> None:
        """Write one query's line and force it to disk."""
        if self._file is not None:
            self._file.write(json.dumps(asdict(line)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_run_folder(folder: Path) -> tuple[RunSpec, tuple[QueryLine, ...]]:
    """Spec and lines of a run on disk. Raises InputError where there is none."""
    header = folder / "run.json"
    if not header.exists():
        raise InputError(f"{folder}: no run.json, so no run", hint="branchwise eval --out FOLDER writes one")
    return RunSpec(**json.loads(header.read_text(encoding="utf-8"))), tuple(_whole_lines(folder / "queries.jsonl"))


def read_finished(folder: Path) -> Run:
    """A run that is on disk whole, with its metrics. Raises InputError where it is not finished."""
    spec, lines = read_run_folder(folder)
    path = folder / "metrics.json"
    if not path.exists():
        raise InputError(f"{folder}: the run is not finished", hint="start the same command again: it continues")
    return Run(spec=spec, lines=lines, measured=Measured(**json.loads(path.read_text(encoding="utf-8"))), folder=folder)


def _same_run(found: Mapping[str, Any], spec: RunSpec, folder: Path) -> None:
    wanted = asdict(spec)
    for key, value in wanted.items():
        if found.get(key) != value:
            raise InputError(
                f"{folder} holds another run: its {key} is {found.get(key)!r}, not {value!r}",
                hint="give another --run folder, or remove this one",
            )


def _whole_lines(log: Path) -> list[QueryLine]:
    """The lines that were written whole; the last one may have been cut off by a crash."""
    lines = []
    rows = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            lines.append(QueryLine(**json.loads(row)))
        except (json.JSONDecodeError, TypeError) as error:
            if number < len(rows):
                raise InputError(f"{log}:{number}: not a line of a run ({error})") from error
    return lines


def _rewrite(log: Path, lines: Iterable[QueryLine]) -> None:
    _replace(log, "".join(json.dumps(asdict(line)) + "\n" for line in lines))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)
