"""How long a build takes, what it needs, and how fast the index opens and seeds a search, at any size.

    python -m branchwise.agent.bench.scale --passages 100000 [--dimension 384] [--json]

The passages are made up: words drawn by Zipf's law, a fifth of them from the passage's own topic. Their vectors are
given (topic plus noise), so that the figures are those of our own work and of Chroma, not of an embedder. Opening and
seeding are measured in a process of their own. Tested in tests/stores/test_scale.py.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from branchwise.stores.embedding import FloatMatrix, FloatVector, Progress, unit_rows
from branchwise.stores.index import Index
from branchwise.stores.lexical import top_rows
from branchwise.stores.records import Document, Event
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig

WORDS = 50_000
TOPIC_SIZE = 100  # passages a topic, on average
SEEDS = 100  # leaves that each leg gives a search
ROUNDS = 50


@dataclass(frozen=True, slots=True)
class World:
    """Made-up passages and their vectors, (n, d)."""

    documents: list[Document]
    vectors: FloatMatrix


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


def make_world(passages: int, dimension: int) -> World:
    """`passages` documents of 40 to 160 words; the same every time."""
    chance = np.random.default_rng(0)
    topics = max(1, passages // TOPIC_SIZE)
    topic = chance.integers(0, topics, passages)
    lengths = chance.integers(40, 160, passages)
    weights = 1 / np.arange(1, WORDS + 1)
    common = chance.choice(WORDS, int(lengths.sum()), p=weights / weights.sum())
    own = np.repeat(topic, lengths) * 7 % WORDS + chance.integers(0, 30, len(common))
    drawn = np.where(chance.random(len(common)) < 0.2, own, common)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    documents = [
        Document(
            doc_id=f"d{i}",
            text=" ".join(f"w{word:x}" for word in drawn[bounds[i] : bounds[i + 1]]),
            metadata={"year": 2000 + i % 20},
        )
        for i in range(passages)
    ]
    centres = chance.standard_normal((topics, dimension), dtype=np.float32)
    noise = chance.standard_normal((passages, dimension), dtype=np.float32)
    return World(documents, unit_rows(centres[topic] + 0.7 * noise))


def measure_build(world: World, path: Path) -> dict[str, float]:
    """Seconds a phase of building an index of `world` at `path`, by the events that end each phase."""
    started = time.perf_counter()
    ends: dict[str, float] = {}

    def note(event: Event) -> None:
        ends[event.kind] = time.perf_counter()
        ends.setdefault(f"first {event.kind}", ends[event.kind])

    embedder = GivenEmbedder(world.vectors.shape[1])
    config = BuildConfig(title="Scale")
    asyncio.run(build(world.documents, path, config, embedder=embedder, vectors=world.vectors, on_event=note))
    marks = [
        ("read, cut and merge", ends["chunked"]),
        ("group", ends["first level"]),
        ("write node texts", ends["node"]),
        ("database and BM25", ends["first stored"]),
        ("Chroma", ends["stored"]),
        ("verify and publish", time.perf_counter()),
    ]
    return {name: end - begin for (name, end), begin in zip(marks, [started, *(end for _, end in marks)], strict=False)}


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
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return None if peak is None else int(peak.split()[1]) / 1e3


def measure(passages: int, dimension: int, path: Path) -> dict[str, Any]:
    """All figures for one size; the index is left at `path`."""
    world = make_world(passages, dimension)
    before = time.process_time()
    phases = measure_build(world, path)
    processor = time.process_time() - before
    chance = np.random.default_rng(2)
    rows = chance.integers(0, passages, ROUNDS)
    queries = [" ".join(world.documents[row].text.split()[:8]) for row in rows]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        use = fresh.submit(measure_use, path, queries, world.vectors[rows]).result()
    return {
        "passages": passages,
        "dimension": dimension,
        "build (s)": sum(phases.values()),
        "build without Chroma (s)": sum(seconds for name, seconds in phases.items() if name != "Chroma"),
        "build, all processors (s)": processor,
        "build, peak memory (MB)": peak_memory(),
        "phases (s)": phases,
        **use,
        "on disk (MB)": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
    }


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
