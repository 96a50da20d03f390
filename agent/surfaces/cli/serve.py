"""`branchwise serve | mcp`: the same searches for browsers, programs and agents."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from branchwise.agent.surfaces.cli.opening import open_asker
from branchwise.agent.surfaces.cli.options import MODEL, Interrupted, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import IndexMissing, InputError

if TYPE_CHECKING:
    from branchwise.agent.engine import Engine
    from branchwise.agent.surfaces.server.app import Limits
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.stores.index import Index

PORT = 8321
TOKEN_VARIABLE = "BRANCHWISE_TOKEN"  # noqa: S105 (the name of a variable, not a token)

Indexes = Annotated[
    list[str] | None,
    typer.Option("--index", "-i", metavar="[NAME=]DIR", help="An index to serve; repeatable [BRANCHWISE_INDEX]."),
]
Host = Annotated[str, typer.Option("--host", metavar="HOST", help="Where to listen; beyond loopback needs a token.")]
Port = Annotated[int, typer.Option("--port", metavar="N", help="Port; 0 takes a free one.")]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        envvar="BRANCHWISE_ALLOW_HOST",
        show_envvar=False,
        help="A name that the server goes by; repeatable [BRANCHWISE_ALLOW_HOST, apart by spaces].",
    ),
]
Uploads = Annotated[
    int,
    typer.Option(
        "--max-upload",
        metavar="BYTES",
        envvar="BRANCHWISE_MAX_UPLOAD",
        show_envvar=False,
        help="Take documents up to this size; 0: none [BRANCHWISE_MAX_UPLOAD].",
    ),
]
Log = Annotated[bool, typer.Option("--log", help="One JSON line a request on stderr, without what was asked.")]
Http = Annotated[bool, typer.Option("--http", help="Streamable HTTP instead of stdin and stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "serve", MODEL)(serve)
    command(app, "mcp", MODEL)(mcp)


def serve(
    terminal: Terminal,
    settings: Settings,
    index: Indexes = None,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    allow_host: AllowedHosts = None,
    max_upload: Uploads = 0,
    log: Log = False,
) -> None:
    """Serve indexes over HTTP: a web page with the live tree, REST, events, OpenAI's chat protocol.

    The token for a bind beyond loopback is read from BRANCHWISE_TOKEN. A new generation of an index is served as soon
    as it is published, and where the vectors are in a Chroma server, as soon as that was filled.
    """
    from branchwise.agent.surfaces.server import serve as serve_indexes

    indexes = read_indexes(index, settings)

    def tell(url: str) -> None:
        terminal.give({"url": url, "indexes": {name: str(path) for name, path in indexes.items()}})
        terminal.say(_judge_line(settings), style="dim")
        terminal.say(f"{', '.join(indexes)} at {url}   (Ctrl-C ends)")

    try:
        serve_indexes(
            indexes,
            open_engine=opener(settings),
            host=host,
            port=port,
            token=os.environ.get(TOKEN_VARIABLE) or None,
            allowed_hosts=allow_host or (),
            limits=_limits(max_upload),
            log=log,
            on_ready=tell,
        )
    except KeyboardInterrupt:  # how a server ends: it has said its one thing already
        raise typer.Exit(Interrupted.exit_code) from None


def mcp(
    terminal: Terminal,
    settings: Settings,
    index: Indexes = None,
    http: Http = False,
    host: Host = "127.0.0.1",
    port: Port = PORT + 1,
    allow_host: AllowedHosts = None,
) -> None:
    """Offer search, fetch and browse_tree to agents by the Model Context Protocol, on stdin and stdout."""
    from branchwise.agent.surfaces.mcp import run

    indexes = read_indexes(index, settings)
    terminal.note(_judge_line(settings))  # stdout belongs to the protocol
    run(
        indexes,
        open_engine=opener(settings),
        transport="http" if http else "stdio",
        host=host,
        port=port,
        token=os.environ.get(TOKEN_VARIABLE) or None,
        allowed_hosts=allow_host or (),
        on_ready=lambda url: terminal.note(f"{', '.join(indexes)} at {url}   (Ctrl-C ends)"),
    )


def read_indexes(given: list[str] | None, settings: Settings) -> dict[str, Path]:
    """{"peps": Path("peps-index")} from ["peps=peps-index"]; an index without a name is called after its folder."""
    from branchwise.stores.manifest import read_manifest

    indexes: dict[str, Path] = {}
    for entry in given or [str(settings.index_path())]:
        name, equals, path = entry.partition("=")
        folder = Path(path if equals else entry)
        name = name if equals else folder.resolve().name
        if not name or name in indexes:
            raise InputError(f"Two indexes are called {name!r}.", hint="Name them: --index NAME=DIR.")
        read_manifest(folder)
        indexes[name] = folder
    return indexes


def opener(settings: Settings) -> Callable[[Path], Engine]:
    """What opens an index for serving, with the model of the settings."""

    def open_engine(path: Path) -> Engine:
        from branchwise.agent.engine import Engine
        from branchwise.stores.index import Index

        index = Index.open(path, chroma_url=settings.chroma_url)
        try:
            if settings.chroma_url:
                _refuse_unfilled(index, settings.chroma_url)
            return Engine(index, asker=open_asker(settings, path))
        except BaseException:
            index.close()
            raise

    return open_engine


def _refuse_unfilled(index: Index, chroma_url: str) -> None:
    """Found when a generation is opened, not by the first search: the server keeps the last one that it can serve."""
    wanted = len(index.tree)
    try:
        held = index.vectors.count()
    except IndexMissing:
        held = 0
    if held != wanted:
        raise IndexMissing(
            f"The Chroma server at {chroma_url} holds {held:,} of {wanted:,} nodes of this generation.",
            hint=f'branchwise repair --index "{index.path}" --to-server {chroma_url}',
        )


def _judge_line(settings: Settings) -> str:
    from branchwise.agent.surfaces.cli.show import who

    return who(settings.model or "embedded", settings.base_url)


def _limits(max_upload: int) -> Limits | None:
    if not max_upload:
        return None
    from branchwise.agent.surfaces.server.app import Limits

    return Limits(max_upload=max_upload)
