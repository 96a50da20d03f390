"""What all tests share: where the real data lies, if it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("BRANCHWISE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real collections, recorded runs and attack texts; tests that want it skip without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared data at {SHARED} (set BRANCHWISE_SHARED)")
    return SHARED
