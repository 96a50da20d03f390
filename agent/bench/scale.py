"""How long a build takes, what it needs, and how fast the index opens and seeds a search, at any size.

    python -m branchwise.agent.bench.scale --passages 100000 [--dimension 384] [--json]

The passages are made up: words drawn by Zipf's law, a fifth of them from the passage's own topic. Their vectors are
given (topic plus noise), so that the figures are those of our own work and of Chroma, not of an embedder. Documents are
made while they are read and vectors lie on disk: a million passages are never in memory here. Building, and opening and
seeding, are measured in a process of their own. Tested in tests/stores/test_scale.py.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
import typer

from branchwise.stores.embedding import FloatMatrix, FloatVector, Progress, unit_rows
from branchwise.stores.index import Index, new_matrix
from branchwise.stores.lexical import top_rows
from branchwise.stores.records import Document, Event
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig

WORDS = 50_000
TOPIC_SIZE = 100  # passages a topic, on average
SEEDS = 100  # leaves that each leg gives a search
ROUNDS = 50
BLOCK = 10_000  # passages made at once
SAMPLED_EVERY = 0.2  # seconds between two looks at the memory

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class World:
    """Made-up passages of `dimension`; the same every time."""

    passages: int
    dimension: int

    def documents(self) -> Iterator[Document]:
        """Documents of 40 to 160 words, one passage each."""
        weights = 1 / np.arange(1, WORDS + 1)
        for start, size in self._blocks():
            chance = np.random.default_rng((0, start))
            lengths = chance.integers(40, 160, size)
            common = chance.choice(WORDS, int(lengths.sum()), p=weights / weights.sum())
            own = np.repeat(self._topics(start, size), lengths) * 7 % WORDS + chance.integers(0, 30, len(common))
            drawn = np.where(chance.random(len(common)) < 0.2, own, common).tolist()
            bounds = np.concatenate([[0], np.cumsum(lengths)]).tolist()
            for i in range(size):
                text = " ".join(f"w{word:x}" for word in drawn[bounds[i] : bounds[i + 1]])
                yield Document(doc_id=f"d{start + i}", text=text, metadata={"year": 2000 + i % 20})

    def vectors(self, path: Path) -> FloatMatrix:
        """(passages, dimension) unit rows, in a new file."""
        matrix = new_matrix(path, self.passages, self.dimension)
        topics = max(1, self.passages // TOPIC_SIZE)
        centres = np.random.default_rng(3).standard_normal((topics, self.dimension), dtype=np.float32)
        for start, size in self._blocks():
            noise = np.random.default_rng((1, start)).standard_normal((size, self.dimension), dtype=np.float32)
            matrix[start : start + size] = unit_rows(centres[self._topics(start, size)] + 0.7 * noise)
        return matrix

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.passages, BLOCK):
            yield start, min(BLOCK, self.passages - start)

    def _topics(self, start: int, size: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((2, start)).integers(0, max(1, self.passages // TOPIC_SIZE), size)


class GivenEmbedder:
    """Stands for an embedder whose vectors are known already: a text's direction is a sum over its words'."""

    name = "given"

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.fingerprint = f"given/{dimension}"
        self._words = np.random.default_rng(1).standard_normal((1_024, dimension), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatMatrix:
        """(n, d) float32 with unit rows."""
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            found[row] = self._words[[sum(map(ord, word)) % 1_024 for word in text.split()]].sum(axis=0)
        return unit_rows(found)

    def embed_query(self, text: str) -> FloatVector:
        """(d,) float32."""
        vector: FloatVector = self.embed_texts([text])[0]
        return vector

    def save(self, folder: Path) -> None:
        """Write the name alone; nothing will open it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "embedder.json").write_text(json.dumps({"kind": "given"}), encoding="utf-8")


def measure_build(world: World, path: Path) -> dict[str, Any]:
    """What building an index of `world` at `path` takes: seconds and processor seconds a phase, and memory in MB.

    Phases are told apart by the events that end them. Of the memory, what is mapped from files can be given back at any
    time; "own" leaves it out.
    """
    ends: dict[str, tuple[float, float]] = {}

    def note(event: Event) -> None:
        ends[event.kind] = now()
        ends.setdefault(f"first {event.kind}", ends[event.kind])

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        vectors = world.vectors(Path(folder) / "vectors.npy")
        embedder, config = GivenEmbedder(world.dimension), BuildConfig(title="Scale")
        started = now()
        with own_memory() as largest:
            asyncio.run(build(world.documents(), path, config, embedder=embedder, vectors=vectors, on_event=note))
    marks = [
        ("read, cut and merge", ends["chunked"]),
        ("count terms and group", ends["first level"]),
        ("write node texts", ends["node"]),
        ("database and BM25", ends["first stored"]),
        ("Chroma", ends["stored"]),
        ("verify and publish", now()),
    ]
    begins = [started, *(end for _, end in marks)]
    took = {name: np.subtract(end, begin).tolist() for (name, end), begin in zip(marks, begins, strict=False)}
    return {
        "phases (s)": {name: wall for name, (wall, _) in took.items()},
        "phases, all processors (s)": {name: processor for name, (_, processor) in took.items()},
        "build, peak memory (MB)": peak_memory(),
        "build, peak memory of its own (MB)": largest[0] or None,
    }


def now() -> tuple[float, float]:
    """Seconds on the clock, and seconds of all processors that this process has used."""
    return time.perf_counter(), time.process_time()


def measure_use(path: Path, queries: Sequence[str], vectors: npt.NDArray[np.float32]) -> dict[str, float | None]:
    """Seconds to open the index, milliseconds of a seed search (BM25 and cosine, best 100 of each), memory in MB."""
    base = peak_memory()
    started = time.perf_counter()
    index = Index.open(path)
    opened = time.perf_counter() - started
    after = peak_memory()
    bm25, dense = [], []
    for query, vector in zip(queries, vectors, strict=True):
        started = time.perf_counter()
        index.lexical.top(query, SEEDS)
        halfway = time.perf_counter()
        top_rows(index.leaf_matrix @ vector, SEEDS)
        bm25.append(halfway - started)
        dense.append(time.perf_counter() - halfway)
    started = time.perf_counter()
    index.texts(index.tree.leaf_ids[:20])
    texts = time.perf_counter() - started
    index.close()
    return {
        "open (s)": opened,
        "open, memory (MB)": None if after is None else after,
        "open, memory of the index alone (MB)": None if after is None or base is None else after - base,
        "BM25 top 100 (ms)": 1_000 * statistics.median(bm25),
        "dense top 100 (ms)": 1_000 * statistics.median(dense),
        "first 20 texts from Chroma (s)": texts,
    }


def peak_memory() -> float | None:
    """Largest resident size of this process so far, in MB; None where the system does not say.

    Not by getrusage, which on Linux counts what the parent had before this program began.
    """
    return _status("VmHWM")


@contextmanager
def own_memory() -> Iterator[list[float]]:
    """The largest memory of this process that is not mapped from a file while the block lasts, in MB; 0 if unknown."""
    largest = [0.0]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLED_EVERY):
            largest[0] = max(largest[0], _status("RssAnon") or 0.0)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield largest
    finally:
        ended.set()
        watcher.join()


def _status(name: str) -> float | None:
    """A size that Linux keeps of this process, in MB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith(f"{name}:")), None)
    return None if line is None else int(line.split()[1]) / 1e3


def measure(passages: int, dimension: int, path: Path) -> dict[str, Any]:
    """All figures for one size; the index is left at `path`."""
    world = World(passages, dimension)
    built = _in_fresh_process(measure_build, world, path)
    texts = [document.text for document in islice(world.documents(), ROUNDS)]
    queries = [" ".join(text.split()[:8]) for text in texts]
    with Index.open(path) as index:
        vectors = np.array(index.leaf_matrix[: len(queries)])
    use = _in_fresh_process(measure_use, path, queries, vectors)
    seconds, processor = built["phases (s)"], built["phases, all processors (s)"]
    return {
        "passages": passages,
        "dimension": dimension,
        "build (s)": sum(seconds.values()),
        "build, all processors (s)": sum(processor.values()),
        "build without Chroma, all processors (s)": sum(processor.values()) - processor["Chroma"],
        **built,
        **use,
        "on disk (MB)": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
    }


def _in_fresh_process(function: Callable[..., R], *given: Any) -> R:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(function, *given).result()


def main(
    passages: Annotated[int, typer.Option(min=20, help="How many passages.")] = 100_000,
    dimension: Annotated[int, typer.Option(min=2, help="Length of a vector.")] = 384,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure building, opening and seeding an index of made-up passages."""
    with tempfile.TemporaryDirectory(prefix="branchwise-scale-") as folder:
        found = measure(passages, dimension, Path(folder) / "index")
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=f"{passages:,} passages of {dimension} dimensions")
    for name, value in _flat(found):
        table.add_row(name, value)
    Console().print(table)


def _flat(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from ((f"  {phase}", f"{seconds:,.2f}") for phase, seconds in value.items())
        elif value is None:
            yield name, "unknown"
        elif not name.endswith(")"):
            yield name, f"{value:,}"
        else:
            yield name, f"{value:,.2f}"


if __name__ == "__main__":
    typer.run(main)
