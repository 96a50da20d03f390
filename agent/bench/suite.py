"""The benchmark suite: `python -m branchwise.agent.bench.suite --out DIR`, one report of everything (`make bench`).

On the real collections where they lie beside the repository (or where BRANCHWISE_SHARED points), else on a
synthetic world alone, whose name the report carries. Judges are simulated; only odd queries
are reported, since ours was tuned on even ones. Tested in tests/bench/test_suite.py.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from branchwise.agent.bench.datasets import read_dataset
from branchwise.agent.bench.evaluate import choose_queries, make_judges
from branchwise.agent.bench.methods import ABLATIONS, BASELINES, METHODS, Judges
from branchwise.agent.bench.replay import ReplayJudge, read_recorded_queries, read_recorded_tree
from branchwise.agent.bench.report import write_report
from branchwise.agent.bench.runs import Run, run_method, spec_of
from branchwise.agent.bench.testbed import Bench, build_bench, simulated
from branchwise.agent.bench.world import World, synthetic_world, write_index
from branchwise.stores.records import Budget

COLLECTIONS = (
    "scifact",
    "theoremqa_theorems",
    "bright_theoremqa_questions_r",
    "dorismae_best1",
    "bright_pony_long_x",
)
JUDGES = ("frontier", "flash", "32b")
BUDGETS = (5, 10, 20, 40)
ABLATION_JUDGES = ("frontier", "flash")
ABLATION_BUDGETS = (10,)
ABLATED = tuple(f"branchwise-no-{part}" for part in ABLATIONS)
RECORDED = "theoremqa_theorems"
"""The collection whose tree and slates were recorded; all of its 20 questions are reported."""
METHODS_REPORTED = (*BASELINES, "branchwise", *ABLATED)
WORLD_LEAVES = 20_000
QUERIES = 100
"""Queries of a collection at most, drawn from its odd half by seed 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A bench, and who judges on it where that is not simulated."""

    bench: Bench
    judges: Judges | None = None


def shared_data() -> Path | None:
    """Where the real collections lie; None where there are none."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("BRANCHWISE_SHARED", beside)) / "data"
    return folder if folder.is_dir() else None


async def run_suite(
    out: Path,
    *,
    collections: Sequence[str] = COLLECTIONS,
    judges: Sequence[str] = JUDGES,
    budgets: Sequence[int] = BUDGETS,
    queries: int = QUERIES,
    world_leaves: int = WORLD_LEAVES,
    part: str = "odd",
    methods: Sequence[str] = METHODS_REPORTED,
) -> Path:
    """Run everything that is not yet in `out`, and write the report; its path."""
    runs: list[Run] = []
    async for stage in _stages(out, collections, world_leaves):
        bench = stage.bench
        half = part if stage.judges is None else "all"
        bench.dataset = choose_queries(bench.dataset, part=half, limit=queries)
        for method, judge, calls in _plan(judges if stage.judges is None else judges[:1], budgets, methods):
            made = stage.judges or make_judges(bench, simulate=judge)
            budget = Budget(max_calls=calls)
            folder = out / spec_of(bench, METHODS[method], made, budget, part=half, seed=0).name
            run = await run_method(bench, METHODS[method], made, budget, folder=folder, part=half, concurrency=1)
            runs.append(run)
            used = run.mean("judged_slates") or 0.0
            line = (
                f"{folder.name:70} nDCG@10 {run.measured.mean['nDCG@10']:.3f}  R@100 {run.measured.mean['R@100']:.3f}"
            )
            print(f"{line}  calls {used:.1f}  failed {len(run.failed)}", flush=True)
    command = "python -m branchwise.agent.bench.suite " + " ".join(sys.argv[1:])
    return write_report(runs, out, command=command.strip())


def _plan(judges: Sequence[str], budgets: Sequence[int], methods: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Method, judge and calls of every run: once without a judge, ablations under fewer judges and budgets."""
    for name in methods:
        ablated = name in ABLATED
        if not METHODS[name].judged:
            yield name, judges[0], 0
            continue
        for judge in (judge for judge in judges if not ablated or judge in ABLATION_JUDGES):
            for calls in (calls for calls in budgets if not ablated or calls in ABLATION_BUDGETS):
                yield name, judge, calls


async def _stages(out: Path, collections: Sequence[str], world_leaves: int) -> AsyncIterator[Stage]:
    """The collections that are there and the recorded tree, each simulated; then the synthetic world."""
    shared = shared_data()
    for path in () if shared is None else (shared / name for name in collections):
        yield Stage(bench=await build_bench(read_dataset(path), out / "index" / path.name))
    if shared is not None and (shared / "llm_slates").is_dir() and RECORDED in collections:
        yield recorded_stage(shared, out / "index" / f"{RECORDED}-recorded")
    if world_leaves:
        world = synthetic_world(n_leaves=world_leaves, n_queries=2 * QUERIES)
        yield Stage(bench=_world_bench(world, out / "index" / world.dataset.name))


def recorded_stage(shared: Path, folder: Path) -> Stage:
    """The recorded tree with a frontier model's real scores of its inner nodes; its leaves are simulated."""
    dataset = read_dataset(shared / RECORDED)
    tree = read_recorded_tree(shared / "llm_slates", {d.doc_id: (d.title, d.text) for d in dataset.documents})
    texts = {query.query_id: query.text for query in dataset.queries}
    recorded = [q for q in read_recorded_queries(shared / "llm_slates", RECORDED, texts) if q.gold_clusters]
    bench = _world_bench(World(dataset=dataset, tree=tree), folder)
    known = {query.query_id for query in recorded}
    kept = dataset.only(query for query in dataset.queries if query.query_id in known)
    bench.dataset = replace(kept, name=f"{RECORDED}-recorded")
    judge = ReplayJudge({query.text: query for query in recorded}, leaves=simulated(bench, "frontier"))
    return Stage(bench=bench, judges=lambda meter: judge)


def _world_bench(world: World, folder: Path) -> Bench:
    from branchwise.stores.index import Index

    if not (folder / "manifest.json").exists():
        write_index(world, folder)
    return Bench(Index.open(folder), world.dataset)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Run the benchmark suite and write its report.")
    parser.add_argument("--out", type=Path, default=Path("bench-report"), help="folder of runs, indexes and report")
    parser.add_argument("--collections", nargs="*", default=list(COLLECTIONS), help="folders of the shared data")
    parser.add_argument("--judges", nargs="*", default=list(JUDGES), help="simulated judges")
    parser.add_argument("--budgets", nargs="*", type=int, default=list(BUDGETS), help="calls a query")
    parser.add_argument("--queries", type=int, default=QUERIES, help="queries a collection at most")
    parser.add_argument("--world", type=int, default=WORLD_LEAVES, help="leaves of the synthetic world, 0 for none")
    parser.add_argument("--part", choices=("all", "even", "odd"), default="odd", help="which half of the queries")
    parser.add_argument("--methods", nargs="*", default=list(METHODS_REPORTED), help="methods to run and report")
    asked = parser.parse_args()
    page = asyncio.run(
        run_suite(
            asked.out,
            collections=asked.collections,
            judges=asked.judges,
            budgets=asked.budgets,
            queries=asked.queries,
            world_leaves=asked.world,
            part=asked.part,
            methods=asked.methods,
        )
    )
    print(page)


if __name__ == "__main__":
    main()
