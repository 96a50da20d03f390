"""The measuring script measures, at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from branchwise.agent.bench.scale import World, measure
from branchwise.stores.index import Index


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path) -> None:
    """Phases add up to the build, the index it leaves is sound, and the world is the same every time."""
    found = measure(300, 16, tmp_path / "index")
    assert found["build (s)"] == pytest.approx(sum(found["phases (s)"].values()))
    assert all(seconds >= 0 for seconds in found["phases (s)"].values())
    assert found["open (s)"] > 0
    assert found["on disk (MB)"] > 0.1
    assert found["build without Chroma, all processors (s)"] < found["build, all processors (s)"]
    assert list(World(50, 8).documents()) == list(World(50, 8).documents())
    with Index.open(tmp_path / "index") as index:
        assert index.manifest.counts["passages"] == 300
        assert index.verify() == []
