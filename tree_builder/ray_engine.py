"""The same build on Ray Data: passages embedded and branches clustered wherever there is a free processor.

What is done, and in which order results are put together, is the local engine's: the same functions on the same
blocks, so the tree is the same for the same seed. Connects to the cluster that RAY_ADDRESS names, else starts Ray on
this machine. The only home of ray. Tested in tests/tree_builder/test_ray_engine.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from branchwise.stores.embedding import Embedder, load_embedder
from branchwise.stores.errors import InputError
from branchwise.tree_builder.cluster import FloatMatrix

A = TypeVar("A")
B = TypeVar("B")

TEXTS = 2_048
"""Texts embedded as one piece of work."""


def each_on_ray(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """`[function(item) for item in items]`, on Ray Data, results in order; what is one piece is done here."""
    rows = [{"place": place, "item": item} for place, item in enumerate(items)]
    if len(rows) < 2:
        return [function(row["item"]) for row in rows]  # type: ignore[arg-type]

    def work(row: dict[str, Any]) -> dict[str, Any]:
        return {"place": row["place"], "result": function(row["item"])}

    with _connected() as data:
        done = data.from_items(rows, override_num_blocks=len(rows)).map(work).take_all()
    return [row["result"] for row in sorted(done, key=lambda row: int(row["place"]))]


def embed_on_ray(embedder: Embedder, texts: Sequence[str], progress: Callable[[int], None]) -> FloatMatrix:
    """The vectors of `texts` (n, d), pieces of them embedded side by side.

    The embedder travels as the files that it saves, as it would with an index.
    """
    with TemporaryDirectory() as folder:
        embedder.save(Path(folder))
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    pieces = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
    found = each_on_ray(partial(_embed, files), pieces)
    progress(len(texts))
    return np.concatenate(found) if found else np.zeros((0, embedder.dimension), dtype=np.float32)


def _embed(files: Mapping[str, bytes], texts: Sequence[str]) -> FloatMatrix:
    """The vectors of one piece, wherever this runs."""
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return load_embedder(Path(folder)).embed_texts(texts)


@contextmanager
def _connected() -> Iterator[Any]:
    """ray.data, connected. Raises InputError where the extra is not installed.

    A Ray that was started here is stopped again: it would die with the thread that started it, and take the process
    along.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("The ray engine needs the [ray] extra.", hint="pip install 'branchwise[ray]'") from error
    if ray.is_initialized():
        yield ray.data
        return
    ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray.data
    finally:
        ray.shutdown()
