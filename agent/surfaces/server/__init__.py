"""`branchwise serve`: an index over HTTP, for programs, chat clients and people.

    __init__.py    serve(): check the access rules, bind, run until told to stop
    app.py         REST routes, event streams, the page, errors
    openai_api.py  OpenAI's chat protocol
    desk.py        where every question is served, whatever the door
    events.py      a run: what it told, who follows, stop and cancel
    shelf.py       the indexes, always in their newest generation
    gate.py        how many at once, and 429 beyond
    security.py    Host, Origin, token, sizes, headers
    uploads.py     documents taken from clients, where that is allowed
    metrics.py     counters          wire.py  requests, checked
    web/           the page: no framework, no build step, nothing from elsewhere

Needs the [serve] extra. Tested in tests/surfaces/server and, in a real browser, in tests/browser.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from branchwise.stores.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from branchwise.agent.engine import Engine
    from branchwise.agent.surfaces.server.app import Limits

PORT = 8321
SHUTDOWN_SECONDS = 20  # how long searches under way may take to end when the server is told to


def serve(
    indexes: Mapping[str, Path],
    *,
    open_engine: Callable[[Path], Engine] | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    limits: Limits | None = None,
    log: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the named indexes until interrupted; requests under way are finished first.

    `open_engine` opens an index with the models it is to use (embedded, without one), and is called again for every
    new generation. Port 0 takes a free one. `log` writes a line of JSON a request to standard error: method, route,
    status and milliseconds, nothing of what was asked. `on_ready` is told the address when the server listens.

    Raises InputError where the extra is missing, nothing is to be served, the port is taken, or a bind beyond loopback
    has no token, and StoreError where an index cannot be opened.
    """
    if not indexes:
        raise InputError("there is no index to serve", hint="branchwise serve --index DIR")
    try:
        import uvicorn  # noqa: F401  # needed only later, but missed best here

        from branchwise.agent.surfaces.server.app import create_app
    except ImportError as error:
        raise InputError(f"the server needs {error.name}", hint="pip install 'branchwise[serve]'") from error
    from branchwise.agent.surfaces.server.security import access_for
    from branchwise.agent.surfaces.server.shelf import Shelf
    from branchwise.stores.linear_algebra import one_thread

    access = access_for(host, token=token, allowed_hosts=allowed_hosts)
    shelf = Shelf(indexes, open_engine or open_embedded)
    listening = listen(host, port)
    asyncio.run(shelf.open())  # here, where an index that cannot be opened is an error with a hint and no traceback
    app = create_app(shelf, access=access, limits=limits)
    if log:
        log_to_stderr()
    if on_ready:
        on_ready(url_of(listening))
    with one_thread():  # searches run side by side already
        run_app(app, listening)


def log_to_stderr() -> None:
    """Show the server's own log: a JSON object a line."""
    logger = logging.getLogger("branchwise.server")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises InputError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another --port") from error


def url_of(listening: socket.socket) -> str:
    """The address of a listening socket, for a browser."""
    address, port = listening.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def run_app(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until told to stop (SIGINT, SIGTERM), then finish what is under way."""
    import uvicorn

    config = uvicorn.Config(
        app,
        access_log=False,  # it would log what is asked; security.Guard logs what may be logged
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listening])


def open_embedded(path: Path) -> Engine:
    """The engine of the index at `path`, with no model."""
    from branchwise.agent.engine import Engine
    from branchwise.stores.index import Index

    return Engine(Index.open(path))
