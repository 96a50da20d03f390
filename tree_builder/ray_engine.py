"""The same build on Ray Data: passages embedded, branches clustered and nodes written wherever a processor is free.

What is done, and in which order results are put together, is the local engine's: the same functions on the same
blocks, so the tree is the same for the same seed. What a model writes is no Ray work: it waits for a network and not
for a processor, and every reply is kept in one journal, on the driver. Connects to the cluster that RAY_ADDRESS names,
else starts Ray on this machine, once a process. The only home of ray. Tested in tests/tree_builder/test_ray_engine.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from branchwise.stores.embedding import Embedder, load_embedder
from branchwise.stores.errors import InputError
from branchwise.stores.records import Passage
from branchwise.tree_builder.cluster import FloatMatrix
from branchwise.tree_builder.outline import NodeSummary, RowArray
from branchwise.tree_builder.summarise import ChildText, ExtractiveSummariser, Levels
from branchwise.tree_builder.terms import TermTable

A = TypeVar("A")
B = TypeVar("B")
Node = tuple[Sequence[ChildText], RowArray]
"""A node to be written: its children, and the leaves of its parent."""

TEXTS = 2_048
"""Texts embedded, or passages put in a few words, as one piece of work."""
NODES = 512
"""Nodes written as one piece of work: about a second."""
AT_ONCE = 64
"""Pieces of work that are in memory at once: a piece is 8 MB at most."""
_STARTING = threading.Lock()


def each_on_ray(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """`[function(item) for item in items]`, on Ray Data, results in order; what is one piece is done here.

    At most AT_ONCE items are taken from `items` before their results are there.
    """
    found: list[B] = []
    waiting = iter(items)
    while wave := list(islice(waiting, AT_ONCE)):
        found += [function(wave[0])] if len(wave) == 1 else _wave_on_ray(function, wave)
    return found


def _wave_on_ray(function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    rows = [{"place": place, "kept": _Kept(item)} for place, item in enumerate(items)]

    def work(row: dict[str, Any]) -> dict[str, Any]:
        return {"place": row["place"], "kept": _Kept(function(row["kept"].value))}

    done = _connected().data.from_items(rows, override_num_blocks=len(rows)).map(work).take_all()
    return [row["kept"].value for row in sorted(done, key=lambda row: int(row["place"]))]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A value that comes out as it went in: by itself, Arrow would make lists of tuples."""

    value: Any


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


class RaySummariser(ExtractiveSummariser):
    """The embedded summariser, whose nodes are written on Ray: all that are asked for at the same time, in pieces.

    The same functions on the same table, which is sent once: the texts are the same. Worth its while from some ten
    thousand nodes on (2 ms a node here, against seconds for each round of Ray); few are written here.
    """

    wishes = 16 * NODES
    """Nodes that may be asked for at the same time."""

    def __init__(self, table: TermTable, embed: Callable[[Sequence[str]], FloatMatrix]) -> None:
        """See ExtractiveSummariser; `embed` is asked on the driver, for topics are few."""
        super().__init__(table, embed)
        self._sent: Any = None
        self._asked: list[tuple[Node, asyncio.Future[NodeSummary]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def levels(self, passages: Sequence[Passage]) -> list[Levels]:
        """See Summariser."""
        if len(passages) <= TEXTS:
            return await super().levels(passages)
        pieces = (passages[start : start + TEXTS] for start in range(0, len(passages), TEXTS))
        return list(chain.from_iterable(await asyncio.to_thread(each_on_ray, self._work(_levels), pieces)))

    async def summarise(self, children: Sequence[ChildText], company: RowArray) -> NodeSummary:
        """See Summariser."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[NodeSummary] = loop.create_future()
        self._asked.append(((children, company), answer))
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write_asked())
        return await answer

    async def _write_asked(self) -> None:
        """Write all that was asked for before the event loop came round to this, and what was asked for meanwhile."""
        while self._asked:
            asked, self._asked = self._asked, []
            nodes = [node for node, _ in asked]
            try:
                if len(nodes) <= NODES:
                    written = await _summaries(self._table, nodes)
                else:
                    pieces = [nodes[start : start + NODES] for start in range(0, len(nodes), NODES)]
                    found = await asyncio.to_thread(each_on_ray, self._work(_summarise), pieces)
                    written = list(chain.from_iterable(found))
            except Exception as error:
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), summary in zip(asked, written, strict=True):
                if not answer.done():
                    answer.set_result(summary)
            await asyncio.sleep(0)

    def _work(self, function: Callable[[Any, A], B]) -> Callable[[A], B]:
        """`function` of the term table and a piece, as a function of the piece."""
        if self._sent is None:
            self._sent = _connected().put(self._table)
        return partial(_with_table, function, self._sent)


def _with_table(function: Callable[[TermTable, A], B], sent: Any, piece: A) -> B:
    """On Ray: the function, given the table that was sent."""
    import ray

    return function(ray.get(sent), piece)


def _levels(table: TermTable, passages: Sequence[Passage]) -> list[Levels]:
    return asyncio.run(ExtractiveSummariser(table, _no_topics).levels(passages))


def _summarise(table: TermTable, nodes: Sequence[Node]) -> list[NodeSummary]:
    return asyncio.run(_summaries(table, nodes))


async def _summaries(table: TermTable, nodes: Sequence[Node]) -> list[NodeSummary]:
    summariser = ExtractiveSummariser(table, _no_topics)
    return [await summariser.summarise(children, company) for children, company in nodes]


def _no_topics(strings: Sequence[str]) -> FloatMatrix:
    raise AssertionError("topics are made on the driver")


def require_ray() -> None:
    """Raise InputError where the extra is not installed; costs nothing and starts nothing."""
    if find_spec("ray") is None:
        raise InputError("The ray engine needs the [ray] extra.", hint="pip install 'branchwise[ray]'")


def _connected() -> Any:
    """The module ray, connected, with ray.data. Raises InputError where the extra is not installed.

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
    return ray


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
