"""The report: every table and plot there, nothing fetched, nothing executed, losses told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from branchwise.agent.bench import tables
from branchwise.agent.bench.methods import method
from branchwise.agent.bench.report import as_html, html_table, markdown_table, write_report
from branchwise.agent.bench.runs import Run, run_method
from branchwise.agent.bench.tables import Table
from branchwise.agent.bench.testbed import Bench, simulated
from branchwise.agent.bench.world import World
from branchwise.stores.index import Index
from branchwise.stores.records import Budget


@pytest.fixture(scope="module")
def runs(world: World, world_index: Path) -> list[Run]:
    """Four methods at two budgets and one ablation, under a simulated judge."""
    names = ("rerank", "lattice", "branchwise", "branchwise-no-tree")
    wanted = [("hybrid", 3), *((name, calls) for name in names for calls in (3, 6))]
    with Index.open(world_index) as index:
        bench = Bench(index, world.dataset)
        judge = simulated(bench, "flash")
        return [
            asyncio.run(run_method(bench, method(name), lambda meter: judge, Budget(max_calls=calls)))
            for name, calls in wanted
        ]


def test_the_page_is_self_contained(runs: list[Run], tmp_path: Path) -> None:
    """One file with plots inline, no script, no outside reference, and the word simulation on top."""
    page = write_report(runs, tmp_path, command="made by a test").read_text()
    assert page.count("<svg") == 4
    assert "SIMULATION" in page
    assert "made by a test" in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert 'href="http' not in page.replace('xlink:href="http', 'href="http')
    for heading in ("Quality at equal budgets", "Where ours does not win", "What each part is worth", "Significance"):
        assert heading in page


def test_the_report_is_the_same_bytes_each_time(runs: list[Run]) -> None:
    """No date and no random id: the same runs give the same page."""
    found = tables.groups(runs)
    assert as_html(found, runs, title="t") == as_html(found, runs, title="t")


def test_every_budget_has_its_cell(runs: list[Run]) -> None:
    """A method without a judge serves every budget; the best of a budget stands out; ablations have their own table."""
    (group,) = tables.groups(runs)
    table = tables.quality(group)
    assert table.head == ["method", "3 calls", "6 calls"]
    assert [row[0] for row in table.rows] == ["hybrid", "rerank", "lattice", "branchwise"]
    assert table.rows[0][1] == table.rows[0][2]
    assert {column for _, column in table.strong} == {1, 2}
    parts = tables.ablations(group)
    assert parts is not None
    assert [row[0] for row in parts.rows] == ["ours, whole", "no-tree"]


def test_where_ours_does_not_win_is_told(runs: list[Run]) -> None:
    """Against a rival that was given better metrics, the loss stands in the table, with both means."""
    from dataclasses import replace

    ours = next(run for run in runs if run.spec.method == "branchwise")
    better = {query: dict.fromkeys(values, 1.0) for query, values in ours.measured.per_query.items()}
    measured = replace(ours.measured, mean=dict.fromkeys(ours.measured.mean, 1.0), per_query=better)
    rival = replace(ours, spec=replace(ours.spec, method="rerank"), measured=measured)
    table = tables.not_won(tables.groups([ours, rival]))
    assert [row[2] for row in table.rows] == ["rerank", "rerank"] or table.rows[0][2] == "rerank"
    assert "against 1.000" in table.rows[0][4]


def test_shares_of_fates_are_shares(runs: list[Run]) -> None:
    """They add up to one for every run that judged."""
    for run in runs:
        assert sum(tables.fate_shares(run).values()) == pytest.approx(1.0)


def test_cells_are_escaped() -> None:
    """What a file names itself cannot become markup."""
    table = Table(caption="<b>", head=["a|b"], rows=[["<script>alert(1)</script>"]], strong=frozenset({(0, 0)}))
    assert "<script>" not in html_table(table)
    assert "a\\|b" in markdown_table(table)
    assert "**<script>alert(1)</script>**" in markdown_table(table)
