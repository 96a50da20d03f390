"""The indexes that a server offers, each by name, always in its newest generation.

A build publishes a new generation while the server runs. The shelf notices, opens it beside the old one, and hands it
to the next request; requests that hold the old one finish on it, and the last of them closes it. Knows nothing of
HTTP. Tested in tests/surfaces/server/test_shelf.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from branchwise.agent.engine import Engine
from branchwise.stores.errors import BranchwiseError, IndexMissing

log = logging.getLogger("branchwise.server")

OpenEngine = Callable[[Path], Engine]


class _Volume:
    """An open engine, how many requests hold it, and whether a newer one has taken its place."""

    def __init__(self, engine: Engine, mark: tuple[int, int]) -> None:
        self.engine = engine
        self.mark = mark
        self.held = 0
        self.retired = False

    def close_if_idle(self) -> None:
        if self.retired and not self.held:
            self.engine.close()


class Shelf:
    """Named indexes behind engines. `open_engine` opens the newest generation of an index and may take its time."""

    def __init__(self, indexes: Mapping[str, Path], open_engine: OpenEngine) -> None:
        self.paths = {name: path.absolute() for name, path in indexes.items()}
        self.troubles: dict[str, str] = {}
        self._open_engine = open_engine
        self._volumes: dict[str, _Volume] = {}
        self._refreshing = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The names on offer, the first being the default."""
        return tuple(self.paths)

    def name_of(self, wanted: str | None) -> str:
        """`wanted`, or the first name where none is given. Raises IndexMissing for a name that is not on offer."""
        if wanted is None:
            return self.names[0]
        if wanted not in self.paths:
            raise IndexMissing(f"there is no index named {wanted!r} here", hint=f"on offer: {', '.join(self.names)}")
        return wanted

    @asynccontextmanager
    async def lease(self, wanted: str | None) -> AsyncIterator[Engine]:
        """The engine of an index, open until the block ends, whatever is published meanwhile.

        An error that leaves the block speaks of the index by its name: clients have no use for paths of this machine.
        """
        name = self.name_of(wanted)
        volume = self._volumes[name]
        volume.held += 1
        try:
            yield volume.engine
        except BranchwiseError as error:
            path = str(self.paths[name])
            error.message, error.hint = error.message.replace(path, name), error.hint.replace(path, name)
            raise
        finally:
            volume.held -= 1
            volume.close_if_idle()

    async def open(self) -> None:
        """Open every index that is not open yet; the first that cannot be opened is the error."""
        for name, path in self.paths.items():
            if name in self._volumes:
                continue
            mark = _mark(path)
            self._volumes[name] = _Volume(await asyncio.to_thread(self._open_whole, path), mark)

    def _open_whole(self, path: Path) -> Engine:
        """Opened with all that a search needs: the first one need not wait for it, nor find out what is damaged."""
        engine = self._open_engine(path)
        try:
            index = engine.index
            index.texts(index.tree.leaf_ids[:1])
            if index.tree.leaf_ids:
                index.lexical.scores("warm")
            _ = index.embedder
        except BaseException:
            engine.close()
            raise
        return engine

    async def refresh(self) -> None:
        """Swap in what was published since. A generation that cannot be opened leaves the old one in service."""
        async with self._refreshing:
            for name, path in self.paths.items():
                old = self._volumes[name]
                try:
                    mark = _mark(path)
                    if mark == old.mark:
                        continue
                    fresh = _Volume(await asyncio.to_thread(self._open_whole, path), mark)
                except (BranchwiseError, OSError) as error:
                    if self.troubles.get(name) != str(error):
                        self.troubles[name] = str(error)
                        log.warning(
                            json.dumps({"event": "refresh_failed", "index": name, "error": type(error).__name__})
                        )
                    continue
                self.troubles.pop(name, None)
                self._volumes[name] = fresh
                old.retired = True
                old.close_if_idle()
                log.info(json.dumps({"event": "generation_swapped", "index": name}))

    async def keep_fresh(self, every: float) -> None:
        """Refresh every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.refresh()

    def close(self) -> None:
        """Close every engine, at once."""
        for volume in self._volumes.values():
            volume.engine.close()
        self._volumes.clear()


def _mark(path: Path) -> tuple[int, int]:
    """What changes when a generation is published: the manifest is replaced by a rename, so its inode and time do."""
    stat = (path / "manifest.json").stat()
    return stat.st_ino, stat.st_mtime_ns
