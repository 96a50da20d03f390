"""The measuring command runs on a small collection and reports what it says it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from branchwise.agent.bench.rewriting import STEPS, main


def _rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_step_is_measured_on_every_leg(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each step and leg, in [0, 1]; the vectors are what they were where only words change."""
    main(["legs", str(shared / "data" / "adi")])
    rows = _rows(capsys)
    assert {(row["step"], row["leg"]) for row in rows} == {
        (s, leg) for s in STEPS for leg in ("bm25", "dense", "fused")
    }
    assert all(0 <= row["nDCG@10"] <= 1 for row in rows)  # type: ignore[operator]
    dense = {row["step"]: row["nDCG@10"] for row in rows if row["leg"] == "dense"}
    assert dense["as asked"] == dense["content words"] == dense["content words, 20 terms of 5 leaves"]


@pytest.mark.slow
def test_hops_reader_and_retriever_are_measured(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All citations verify, and the index is built once for all three."""
    data = str(shared / "data" / "adi")
    for what in ("hops", "reader", "retriever"):
        main([what, data, "--work", str(tmp_path), *(["--foreign", data] if what == "reader" else [])])
    rows = _rows(capsys)
    assert {row["way"] for row in rows if "way" in row} == {"one search", "two hops", "two hops, 4 slates"}
    assert all(row["verified"] == 1.0 for row in rows if "verified" in row)
    assert (tmp_path / "adi" / "manifest.json").exists()
