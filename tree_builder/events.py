"""Steps of a build, numbered as they happen: the same events draw the progress bar, the web page and the tests.

Kinds and payloads (plain JSON; `done` and `total` count the same thing, `total` is None where it is not yet known):

    source     {done}                                   a document was read
    skipped    {where, why}                             a file or line that could not be used
    chunked    {documents, passages, duplicates}        passages are cut, duplicates merged
    embedded   {done, total}                            passages embedded
    level      {height, nodes, done, total}             a level of the tree begins to be written
    node       {node_id, title, written_by, done, total}  a node's text is written
    note       {text}                                   something the user should know (a fallback, a spent budget)
    stored     {done, total, what}                      a part of the index is on disk
    published  {path, generation, passages, nodes}      readers see the new index
    unchanged  {path, generation}                       the index already holds exactly this

Knows nothing of what happens. Tested in tests/tree_builder/test_build.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from branchwise.stores.records import Event

OnEvent = Callable[[Event], None]


class EventStream:
    """Numbers events from 0 without gaps and hands them on, always in the thread that made the stream.

    Made inside a running event loop, it may be told of steps by worker threads too.
    """

    def __init__(self, on_event: OnEvent | None = None) -> None:
        self._on_event = on_event
        self._next = 0
        self._loop = _running_loop()

    def emit(self, kind: str, **payload: Any) -> None:
        """Hand on one event; without a listener nothing happens."""
        if self._on_event is None:
            return
        if self._loop is None or _running_loop() is self._loop:
            self._deliver(kind, payload)
        else:
            self._loop.call_soon_threadsafe(self._deliver, kind, payload)

    def _deliver(self, kind: str, payload: dict[str, Any]) -> None:
        if self._on_event is not None:
            self._on_event(Event(seq=self._next, kind=kind, payload=payload))
            self._next += 1


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
