"""kill -9 at any moment of a publication: the index that readers open is always whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from branchwise.stores.index import Index
from branchwise.stores.staging import stage
from tests.stores.conftest import write_index

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a thing of POSIX")]

KILLS = 30
ROOT = Path(__file__).resolve().parents[2]


def read_whole(path: Path) -> int:
    """Open, compare every text with what this generation holds, and give its number."""
    with Index.open(path) as index:
        count = 6 if index.manifest.generation == 1 else int(index.manifest.title)
        texts = index.texts(index.tree.leaf_ids)
        assert len(texts) == index.leaf_matrix.shape[0] == count
        if index.manifest.generation > 1:
            assert all(text.endswith(f"of {count} in all") for text in texts.values())
        assert len(list(index.iter_documents())) == count
        return index.manifest.generation


def test_killed_writers_leave_a_whole_index(tmp_path: Path) -> None:
    """30 writers are killed at random moments while a reader opens the index again and again."""
    path = write_index(tmp_path / "index")
    chance = random.Random(4)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(Path(__file__).with_name("publisher.py")), str(path)]
    last, reads = 1, 0
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, cwd=ROOT, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(KILLS):
            nursery.stdin.write("\n")
            nursery.stdin.flush()
            writer = int(nursery.stdout.readline())
            end = time.monotonic() + chance.uniform(0.05, 2.0)
            while time.monotonic() < end:
                generation = read_whole(path)
                assert generation >= last
                last, reads = generation, reads + 1
            os.kill(writer, signal.SIGKILL)
            generation = read_whole(path)
            assert generation >= last
            last = generation
        nursery.stdin.close()
    print(f"{KILLS} kills, {reads + KILLS} reads, {last} generations")
    assert last > 5
    assert reads > KILLS
    with stage(path) as staging:  # the lock of a dead writer is free, and what it left is swept
        left = {entry.name for entry in (path / "generations").iterdir()} - {staging.folder.name}
        assert left <= {str(last), str(last - 1)}
    with Index.open(path) as index:
        assert index.verify() == []
