"""The suite: one command, one report, with or without the real collections."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from branchwise.agent.bench.suite import run_suite, shared_data


@pytest.mark.slow
def test_the_suite_reports_on_a_synthetic_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without real data the report is made on a synthetic world, named so; a second start runs nothing again."""
    monkeypatch.setenv("BRANCHWISE_SHARED", str(tmp_path / "nowhere"))
    assert shared_data() is None
    options = {"world_leaves": 150, "judges": ["frontier"], "budgets": [10], "queries": 4}
    page = asyncio.run(run_suite(tmp_path / "out", **options))  # type: ignore[arg-type]
    first = page.read_bytes()
    assert b"synthetic-150" in first
    assert b"What each part is worth" in first
    logs = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/run.json")}
    assert len(logs) == 17
    asyncio.run(run_suite(tmp_path / "out", **options))  # type: ignore[arg-type]
    assert logs == {path: path.stat().st_mtime_ns for path in logs}
