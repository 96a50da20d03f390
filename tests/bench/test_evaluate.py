"""An evaluation from end to end, its estimate, and the comparison of runs on disk."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from branchwise.agent.bench.evaluate import choose_queries, compare_runs, estimate_eval, run_eval
from branchwise.agent.bench.methods import method
from branchwise.agent.bench.testbed import Bench
from branchwise.agent.bench.world import World
from branchwise.prompts.prices import Price
from branchwise.stores.errors import InputError
from branchwise.stores.records import Budget, Event


def evaluate(world: World, index: Path, **options: Any) -> Any:
    """Run an evaluation of the world."""
    return asyncio.run(run_eval(world.dataset, index=index, **options))


def test_an_evaluation_gives_runs_a_report_and_plain_json(world: World, world_index: Path, tmp_path: Path) -> None:
    """Two methods: both measured, both on disk, one report, and a result that JSON can hold."""
    budget = Budget(max_calls=3)
    done = evaluate(world, world_index, methods=["hybrid", "branchwise"], simulate="flash", budget=budget, out=tmp_path)
    assert [run.spec.method for run in done.runs] == ["hybrid", "branchwise"]
    assert done.report == tmp_path / "report.html"
    assert "SIMULATION" in (tmp_path / "report.md").read_text()
    told = json.loads(json.dumps(done.as_dict()))
    assert told["runs"][1]["judge"] == "simulated:2.5-flash"
    assert told["runs"][1]["calls"] <= 3


def test_the_default_judge_is_the_embedded_one(world: World, world_index: Path) -> None:
    """No model and no simulation asked for: none is used, and the run says so."""
    done = evaluate(world, world_index, methods=["branchwise"], budget=Budget(max_calls=2), limit=2)
    assert done.runs[0].spec.judge == "embedded"
    assert done.runs[0].failed == ()


def test_an_index_is_built_where_there_is_none(world: World, tmp_path: Path) -> None:
    """A dataset and an output folder are enough."""
    done = asyncio.run(run_eval(world.dataset, methods=["bm25"], out=tmp_path, limit=3))
    assert done.runs[0].measured.mean["R@100"] > 0
    assert (tmp_path / "index" / world.dataset.name / "manifest.json").exists()


def test_traces_become_pages_that_the_report_links(world: World, world_index: Path, tmp_path: Path) -> None:
    """Each search is kept as events and drawn with its gold."""
    seen: list[tuple[list[Event], frozenset[str]]] = []

    def draw(events: Any, gold: frozenset[str]) -> str:
        seen.append((list(events), gold))
        return "<p>a trace</p>"

    done = evaluate(
        world,
        world_index,
        methods=["branchwise"],
        simulate="flash",
        budget=Budget(max_calls=2),
        out=tmp_path,
        draw=draw,
    )
    assert len(seen) == len(world.dataset.queries)
    assert all(
        gold == set(world.dataset.qrels[q.query_id]) for (_, gold), q in zip(seen, world.dataset.queries, strict=True)
    )
    assert [event.seq for event in seen[0][0]] == list(range(len(seen[0][0])))
    assert "traces/q0.html" in done.report.read_text()


class _Priced:
    """As much of an asker as an estimate reads."""

    price: Price | None = Price(input=1e-6, output=4e-6, cached=0.0)


def test_the_estimate_is_an_upper_bound_that_limits_lower(bench: Bench) -> None:
    """Calls are queries times budget times judged methods; an unknown price is unknown; a cap of money holds."""
    methods = [method("bm25"), method("rerank"), method("branchwise")]
    asker: Any = _Priced()
    found = estimate_eval(bench, methods, Budget(max_calls=10), asker)
    assert (found.queries, found.calls) == (6, 120)
    assert found.cost is not None
    assert found.cost > 0
    capped = estimate_eval(bench, methods, Budget(max_calls=10, max_cost=0.0001), asker)
    assert capped.cost == pytest.approx(2 * 6 * 0.0001)
    asker.price = None
    assert estimate_eval(bench, methods, Budget(), asker).cost is None
    assert "price unknown" in str(estimate_eval(bench, methods, Budget(), asker))
    assert estimate_eval(bench, methods, Budget(), None).cost == 0.0


def test_limits_draw_the_same_queries_by_seed(world: World) -> None:
    """The same seed draws the same, in the order of the dataset; halves do not mix."""
    data = world.dataset
    ids = [query.query_id for query in data.queries]
    one, two = (choose_queries(data, limit=3, seed=7) for _ in range(2))
    assert one == two
    drawn = [query.query_id for query in one.queries]
    assert drawn == sorted(drawn, key=ids.index)
    assert {q.query_id for q in choose_queries(data, part="odd").queries} == {"q1", "q3", "q5"}
    with pytest.raises(InputError, match="at least 1"):
        choose_queries(data, limit=0)


def test_runs_on_disk_are_compared(world: World, world_index: Path, tmp_path: Path) -> None:
    """By folder or as TREC files with qrels: the same difference."""
    done = evaluate(world, world_index, methods=["bm25", "hybrid"], out=tmp_path)
    one, two = (run.folder for run in done.runs)
    by_folder = compare_runs(one, two)
    qrels = tmp_path / "qrels.txt"
    rows = [
        f"{query}\t0\t{doc}\t{grade}" for query, grades in world.dataset.qrels.items() for doc, grade in grades.items()
    ]
    qrels.write_text("\n".join(rows))
    assert compare_runs(one / "run.trec", two / "run.trec", qrels=qrels) == by_folder
    assert by_folder[0].metric == "nDCG@10"


def test_runs_of_different_queries_are_not_compared(world: World, world_index: Path, tmp_path: Path) -> None:
    """A half against the whole is no comparison."""
    whole = evaluate(world, world_index, methods=["bm25"], out=tmp_path).runs[0]
    half = evaluate(world, world_index, methods=["bm25"], out=tmp_path, part="odd").runs[0]
    with pytest.raises(InputError, match="different queries"):
        compare_runs(whole.folder, half.folder)
    with pytest.raises(InputError, match="needs the judgements"):
        compare_runs(whole.folder / "run.trec", half.folder / "run.trec")


def test_a_refused_estimate_starts_nothing(world: World, world_index: Path, tmp_path: Path) -> None:
    """Saying no to the estimate ends it before any call."""

    class Never:
        name, price, context_window = "paid", None, 1000

    with pytest.raises(InputError, match="not started"):
        evaluate(world, world_index, asker=Never(), out=tmp_path, confirm=lambda estimate: False)
    assert not list(tmp_path.glob("*/queries.jsonl"))


def test_impossible_wishes_are_refused(world: World, world_index: Path) -> None:
    """No place for an index, and two judges at once."""
    with pytest.raises(InputError, match="needs an index"):
        asyncio.run(run_eval(world.dataset, methods=["bm25"]))
    with pytest.raises(InputError, match="both asked for"):
        evaluate(world, world_index, asker=_Priced(), simulate="flash")


def test_missing_gold_is_carried_into_the_result(world: World, world_index: Path) -> None:
    """A dataset's notes are not lost on the way."""
    noted = replace(world.dataset, notes=("1 of 2 relevant documents are not in the corpus",))
    done = asyncio.run(run_eval(noted, index=world_index, methods=["bm25"]))
    assert done.as_dict()["notes"] == ["1 of 2 relevant documents are not in the corpus"]
