"""The same build on Ray Data: passages embedded and branches clustered wherever there is a free processor.

What is done, and in which order results are put together, is the local engine's: the same functions on the same
blocks, so the tree is the same for the same seed. Connects to the cluster that RAY_ADDRESS names, else starts Ray on
this machine, once a process. The only home of ray. Tested in tests/tree_builder/test_ray_engine.py.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from branchwise.stores.embedding import Embedder, load_embedder
from branchwise.stores.errors import InputError
from branchwise.tree_builder.cluster import FloatMatrix

A = TypeVar("A")
B = TypeVar("B")

TEXTS = 2_048
"""Texts embedded as one piece of work."""
_STARTING = threading.Lock()


def each_on_ray(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """`[function(item) for item in items]`, on Ray Data, results in order; what is one piece is done here."""
    rows = [{"place": place, "item": item} for place, item in enumerate(items)]
    if len(rows) < 2:
        return [function(row["item"]) for row in rows]  # type: ignore[arg-type]

    def work(row: dict[str, Any]) -> dict[str, Any]:
        return {"place": row["place"], "result": function(row["item"])}

    done = _connected().from_items(rows, override_num_blocks=len(rows)).map(work).take_all()
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


def require_ray() -> None:
    """Raise InputError where the extra is not installed; costs nothing and starts nothing."""
    if find_spec("ray") is None:
        raise InputError("The ray engine needs the [ray] extra.", hint="pip install 'branchwise[ray]'")


def _connected() -> Any:
    """ray.data, connected. Raises InputError where the extra is not installed.

    A process connects once, and stays connected until it ends: Ray does not start twice in one process. A caller's own
    connection is used as it is.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    with _STARTING:
        if not ray.is_initialized():
            for name in ("ray", "ray.data"):  # what a build does is told by its own events
                logging.getLogger(name).setLevel(logging.ERROR)
            _start(ray)
            ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data


def _start(ray: ModuleType) -> None:
    """Connect from a thread that lives as long as the process: Ray on this machine ends with the thread it started on.

    Ray shuts itself down at exit, before that thread is gone.
    """
    started: Future[None] = Future()

    def hold() -> None:
        try:
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        threading.Event().wait()

    threading.Thread(target=hold, name="branchwise-ray", daemon=True).start()
    started.result()
