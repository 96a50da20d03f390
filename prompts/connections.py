"""Clients of one model server: each belongs to the event loop that made it, and carries so many calls at once.

A client's pool looks at all its connections for every call, so many small pools cost less than a large one: at 256
calls at once, half the CPU of a call. Knows nothing of protocols. Tested in tests/prompts/test_openai_chat.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

POOL = 24  # calls at once that one client carries


class Closable(Protocol):
    """What a client has to offer here."""

    async def close(self) -> None:
        """Release its connections."""
        ...


C = TypeVar("C", bound=Closable)


@dataclass(slots=True)
class _Pool(Generic[C]):
    client: C
    busy: int = 0


class Connections(Generic[C]):
    """The clients that `open_client` makes, for any number of threads and event loops."""

    def __init__(self, open_client: Callable[[], C]) -> None:
        self._open_client = open_client
        self._pools: dict[asyncio.AbstractEventLoop, list[_Pool[C]]] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[C]:
        """A client of the running loop, for one call: the first that has room."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._pools:  # the clients of loops that have ended can be neither used nor closed
                self._pools = {other: pools for other, pools in self._pools.items() if not other.is_closed()}
            pools = self._pools.setdefault(loop, [])
            pool = next((pool for pool in pools if pool.busy < POOL), None)
            if pool is None:
                pool = _Pool(self._open_client())
                pools.append(pool)
            pool.busy += 1
        try:
            yield pool.client
        finally:
            with self._lock:
                pool.busy -= 1

    async def aclose(self) -> None:
        """Close the clients of the running loop; those of other loops go with their loops."""
        with self._lock:
            pools = self._pools.pop(asyncio.get_running_loop(), [])
        for pool in pools:
            await pool.client.close()
