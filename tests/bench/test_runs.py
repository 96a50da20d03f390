"""Runs: written as they happen, continued where they broke off, failures listed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from branchwise.agent.bench.methods import method
from branchwise.agent.bench.runs import QueryLine, read_finished, read_run_folder, run_method
from branchwise.agent.bench.simulate import SimulatedJudge
from branchwise.agent.bench.testbed import Bench, simulated
from branchwise.agent.bench.trec import read_run
from branchwise.stores.errors import InputError, ModelRefused, ModelUnavailable
from branchwise.stores.records import Budget, Judgement, Question, Slate

CALLS = Budget(max_calls=4)


class Counting:
    """A simulated judge that counts its calls, and fails on one question if told to."""

    def __init__(self, inner: SimulatedJudge, *, fail_on: str = "", error: type[Exception] = ModelUnavailable) -> None:
        self.name, self.max_slate = inner.name, inner.max_slate
        self.inner, self.fail_on, self.error = inner, fail_on, error
        self.calls = 0

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """As the inner judge, counted."""
        if question.text == self.fail_on:
            raise self.error("no answer")
        self.calls += 1
        return self.inner.judge_now(slate, question)


def test_a_run_is_written_line_by_line_and_as_trec(bench: Bench, tmp_path: Path) -> None:
    """Spec, one line a query with what it took, a TREC run of the same ranking, and the metrics."""
    judge = Counting(simulated(bench, "frontier"))
    run = asyncio.run(run_method(bench, method("rerank"), lambda meter: judge, CALLS, folder=tmp_path / "run"))
    spec, lines = read_run_folder(tmp_path / "run")
    assert spec == run.spec
    assert spec.judge == "simulated:frontier"
    assert {line.query_id for line in lines} == {query.query_id for query in bench.dataset.queries}
    assert sum(line.judged_slates for line in lines) == judge.calls == 4 * len(lines)
    trec = read_run(tmp_path / "run" / "run.trec")
    assert {line.query_id: [doc for doc, _ in line.ranking] for line in lines} == {
        query: [doc for doc, _ in ranking] for query, ranking in trec.items()
    }
    again = read_finished(tmp_path / "run")
    assert (again.measured.mean, again.measured.per_query) == (run.measured.mean, run.measured.per_query)


def test_an_interrupted_run_continues_and_repeats_no_call(bench: Bench, tmp_path: Path) -> None:
    """Broken off after three queries and a half-written line: the rest alone is run, and the result is the same."""
    whole = Counting(simulated(bench, "flash"))
    straight = asyncio.run(
        run_method(bench, method("rerank"), lambda meter: whole, CALLS, folder=tmp_path / "straight")
    )
    lines = (tmp_path / "straight" / "queries.jsonl").read_text().splitlines(keepends=True)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text((tmp_path / "straight" / "run.json").read_text())
    (broken / "queries.jsonl").write_text("".join(lines[:3]) + lines[3][:50])
    rest = Counting(simulated(bench, "flash"))
    resumed = asyncio.run(run_method(bench, method("rerank"), lambda meter: rest, CALLS, folder=broken))
    assert rest.calls == whole.calls - 3 * 4
    assert resumed.measured == straight.measured
    assert (broken / "run.trec").read_bytes() == (tmp_path / "straight" / "run.trec").read_bytes()


def test_a_finished_run_is_not_run_again(bench: Bench, tmp_path: Path) -> None:
    """Starting it once more asks nobody and gives the same."""
    first = asyncio.run(
        run_method(bench, method("rerank"), lambda m: Counting(simulated(bench, "flash")), CALLS, folder=tmp_path / "r")
    )
    again = Counting(simulated(bench, "flash"))
    second = asyncio.run(run_method(bench, method("rerank"), lambda meter: again, CALLS, folder=tmp_path / "r"))
    assert again.calls == 0
    assert second.measured == first.measured


def test_another_run_in_the_folder_is_refused(bench: Bench, tmp_path: Path) -> None:
    """A folder holds one run: another budget there would mix two."""
    judge = Counting(simulated(bench, "flash"))
    asyncio.run(run_method(bench, method("rerank"), lambda meter: judge, CALLS, folder=tmp_path / "r"))
    with pytest.raises(InputError, match="its budget is"):
        asyncio.run(run_method(bench, method("rerank"), lambda m: judge, Budget(max_calls=9), folder=tmp_path / "r"))


def test_a_failed_query_is_listed_counts_as_zero_and_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    """One query fails: it is named, costs its share of the mean, and the next start runs it alone."""
    unlucky = bench.dataset.queries[2]
    failing = Counting(simulated(bench, "oracle"), fail_on=unlucky.text)
    run = asyncio.run(run_method(bench, method("rerank"), lambda meter: failing, CALLS, folder=tmp_path / "r"))
    assert [(line.query_id, line.error) for line in run.failed] == [(unlucky.query_id, "ModelUnavailable: no answer")]
    assert run.measured.per_query[unlucky.query_id]["nDCG@10"] == 0
    assert run.measured.missing == (unlucky.query_id,)
    mended = Counting(simulated(bench, "oracle"))
    again = asyncio.run(run_method(bench, method("rerank"), lambda meter: mended, CALLS, folder=tmp_path / "r"))
    assert again.failed == ()
    assert mended.calls == 4


def test_what_fails_for_every_query_ends_the_run(bench: Bench, tmp_path: Path) -> None:
    """A wrong key is not 6 failed queries but one error."""
    refusing = Counting(simulated(bench, "oracle"), fail_on=bench.dataset.queries[0].text, error=ModelRefused)
    with pytest.raises(ModelRefused):
        asyncio.run(run_method(bench, method("rerank"), lambda meter: refusing, CALLS, folder=tmp_path / "r"))


def test_the_order_of_queries_does_not_matter(bench: Bench) -> None:
    """One at a time or four at once: the same metrics."""
    made = [
        asyncio.run(
            run_method(bench, method("branchwise"), lambda m: simulated(bench, "flash"), CALLS, concurrency=width)
        )
        for width in (1, 4)
    ]
    assert made[0].measured == made[1].measured


def test_a_damaged_line_is_named(bench: Bench, tmp_path: Path) -> None:
    """Damage in the middle is not taken for an interruption."""
    judge = Counting(simulated(bench, "flash"))
    asyncio.run(run_method(bench, method("rerank"), lambda meter: judge, CALLS, folder=tmp_path / "r"))
    log = tmp_path / "r" / "queries.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(lines[0] + "{damaged\n" + "".join(lines[1:]))
    with pytest.raises(InputError, match=r"queries.jsonl:2: not a line of a run"):
        read_run_folder(tmp_path / "r")


def test_unknown_usage_is_not_zero(bench: Bench) -> None:
    """A mean over queries whose cost is unknown is unknown."""
    run = asyncio.run(run_method(bench, method("bm25"), lambda m: simulated(bench, "flash"), CALLS))
    unknown = QueryLine(query_id="x", usage={"cost": None})
    from dataclasses import replace

    assert replace(run, lines=(unknown, *run.lines)).mean("cost") is None
    assert run.mean("cost") == 0.0
