"""Killed builds: nothing paid for is lost, nothing half is seen, and the tree in the end is the same."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.errors import IndexCorrupt, IndexMissing
from branchwise.stores.index import Index
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.checkpoint import JOURNAL, embed_journaled, forget_vectors

resource = pytest.importorskip("resource", reason="limits of files are set as POSIX has them")

SCRIPT = """
import asyncio, sys, time
from pathlib import Path
from branchwise.prompts.ask import Asker
from branchwise.prompts.stand_in import stand_in_model
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig

index, by_model, calls = Path(sys.argv[1]), sys.argv[2] == "model", Path(sys.argv[3])
words = "lava crust pawn keel hive pane magma yeast rook mast queen silica ash dough knight jib comb etch".split()
documents = [
    Document(doc_id=f"d{n}", text=" ".join(words[(n * 7 + k * (1 + n % 5)) % 18] for k in range(30)) + f" {n}.")
    for n in range(int(sys.argv[4]))
]
asker = None
if by_model:
    model = stand_in_model()
    good = model.function
    def counted(request):
        with calls.open("a") as log:
            log.write("x")
        return good(request)
    model.function = counted
    asker = Asker(model)
print("ready", flush=True)
config = BuildConfig(max_children=6, tree="bottom-up", concurrency=3)
asyncio.run(build(documents, index, config, asker=asker))
"""


class Slow:
    """An embedder that counts, and fails when told to."""

    name, dimension, fingerprint = "slow", 3, "slow/3"

    def __init__(self, fail_after: int | None = None) -> None:
        self.embedded = 0
        self.fail_after = fail_after

    def embed_texts(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Unit rows."""
        if self.fail_after is not None and self.embedded >= self.fail_after:
            raise KeyboardInterrupt
        self.embedded += len(texts)
        rows = np.array([[len(text), 1, text.count("e")] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vectors_are_bought_once(tmp_path: Path) -> None:
    """An interrupted run keeps the batches it had; the next embeds the rest, and gets the same vectors."""
    texts = [f"text {'e' * number}" for number in range(700)]
    broken, whole = Slow(fail_after=256), Slow()
    with pytest.raises(KeyboardInterrupt):
        embed_journaled(broken, texts, tmp_path, lambda _: None)  # type: ignore[arg-type]
    vectors = embed_journaled(whole, texts, tmp_path, lambda _: None)  # type: ignore[arg-type]
    assert (broken.embedded, whole.embedded) == (256, 444)
    assert np.array_equal(vectors, Slow().embed_texts(texts))


def test_forgotten_vectors_are_made_again(tmp_path: Path) -> None:
    """What is forgotten is gone from the journal, and only that."""
    embedder = Slow()
    embed_journaled(embedder, ["a", "b", "c"], tmp_path, lambda _: None)  # type: ignore[arg-type]
    forget_vectors(tmp_path, embedder.fingerprint, ["b"])
    embed_journaled(embedder, ["a", "b", "c"], tmp_path, lambda _: None)  # type: ignore[arg-type]
    assert embedder.embedded == 4


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    """A journal that is no database is IndexCorrupt, with the file's name and what to do."""
    (tmp_path / JOURNAL).write_bytes(b"not a database at all" * 100)
    with pytest.raises(IndexCorrupt) as caught:
        embed_journaled(Slow(), ["a"], tmp_path, lambda _: None)  # type: ignore[arg-type]
    assert JOURNAL in str(caught.value)
    assert caught.value.hint


def tree_of(path: Path) -> list[tuple[object, ...]]:
    """Every row of the tree."""
    with Index.open(path) as index:
        assert index.verify() == []
        database = index.generation_path / "tree.sqlite"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return [row for table in ("nodes", "edges", "parts") for row in db.execute(f"SELECT * FROM {table}").fetchall()]


def limited() -> None:
    """No file over 1 GB: a killed Chroma has been seen to write 65."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def run(index: Path, mode: str, calls: Path, count: int, *, kill_after: float | None) -> bool:
    """Run the build in a process of its own; True where it was killed after `kill_after` seconds of building."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(index), mode, str(calls), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=limited,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    if kill_after is not None:
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return False


def kill_again_and_again(folder: Path, mode: str, kills: int, sizes: Sequence[int]) -> None:
    """Builds of these sizes in turn, killed `kills` times in all: readers see the old tree, then the very new one."""
    truth, spent, longest = {}, 0, 0.0
    for size in sizes:
        started = time.monotonic()
        run(folder / f"truth-{size}", mode, folder / f"calls-{size}", size, kill_after=None)
        longest = max(longest, time.monotonic() - started)
        truth[size] = tree_of(folder / f"truth-{size}")
        spent += (folder / f"calls-{size}").stat().st_size if mode == "model" else 0
    rng, killed, finished, before = random.Random(3), 0, 0, None
    index, calls = folder / "index", folder / "calls"
    while killed < kills or finished < len(sizes):
        size = sizes[finished % len(sizes)]
        if run(index, mode, calls, size, kill_after=rng.uniform(0.0, longest) if killed < kills else None):
            killed += 1
            if before is None and not (index / "manifest.json").exists():
                with pytest.raises(IndexMissing):
                    Index.open(index)
            else:
                assert tree_of(index) in (before, truth[size])
        else:
            assert tree_of(index) == truth[size]
            before, finished = truth[size], finished + 1
    if mode == "model":  # at most the calls in flight (3) are bought twice by a kill
        assert calls.stat().st_size <= spent + 3 * killed


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "kills"), [("embedded", 50), ("model", 50)])
def test_a_hundred_kills_change_nothing(mode: str, kills: int, tmp_path: Path) -> None:
    """kill -9 at any moment: the old index opens and answers, and the same command again ends in the same tree."""
    kill_again_and_again(tmp_path, mode, kills, (90, 120))


def test_two_kills_change_nothing(tmp_path: Path) -> None:
    """The same, small enough for every run of the tests."""
    kill_again_and_again(tmp_path, "model", 2, (40,))


async def test_a_paid_embedder_is_journaled_by_the_build(tmp_path: Path) -> None:
    """A build with another embedder than the default leaves its vectors in the journal of the index."""
    embedder = Slow()
    embedder.save = lambda folder: folder.mkdir()  # type: ignore[attr-defined]
    documents = [Document(doc_id=f"d{n}", text=f"text number {n} {'e' * n}.") for n in range(5)]
    await build(documents, tmp_path / "index", embedder=embedder)  # type: ignore[arg-type]
    assert embedder.embedded == 5
    again = Slow()
    embed_journaled(again, [d.text for d in documents], tmp_path / "index", lambda _: None)  # type: ignore[arg-type]
    assert again.embedded == 0
