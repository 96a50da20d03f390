"""Options that several commands share, and the settings that they amount to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from branchwise.agent.surfaces.cli.opening import load_settings
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import BranchwiseError

Flags = Mapping[str, Any]
"""Options by the name of the setting that they override (agent.surfaces.settings.Settings)."""


def _flag(kind: Any, *names: str, help: str, metavar: str | None = None, panel: str | None = None) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)]


INDEX: Flags = {"index": _flag(Path, "--index", "-i", metavar="DIR", help="The index [BRANCHWISE_INDEX].")}
HITS: Flags = {"k": _flag(int, "-k", metavar="N", help="Passages to find [10].")}
MODEL: Flags = {
    "model": _flag(str, "--model", "-m", metavar="NAME", help="Language model; none: embedded.", panel="Model"),
    "base_url": _flag(str, "--base-url", metavar="URL", help="OpenAI-compatible server.", panel="Model"),
    "context_window": _flag(int, "--context-window", metavar="N", help="The model's window, tokens.", panel="Model"),
    "prompts": _flag(Path, "--prompts", metavar="DIR", help="Folder with your own prompts.", panel="Model"),
}
LIMITS: Flags = {
    "max_calls": _flag(int, "--max-calls", metavar="N", help="Calls at most.", panel="Limits"),
    "max_tokens": _flag(int, "--max-tokens", metavar="N", help="Tokens in and out at most.", panel="Limits"),
    "max_seconds": _flag(float, "--max-seconds", metavar="S", help="Seconds at most.", panel="Limits"),
    "max_cost": _flag(float, "--max-cost", metavar="X", help="Money at most.", panel="Limits"),
}
EMBEDDER: Flags = {
    "embedder": _flag(str, "--embedder", metavar="NAME", help="embedded, minilm or openai:MODEL.", panel="Tree"),
    "base_url": MODEL["base_url"],
}
TREE: Flags = {
    "tree": _flag(str, "--tree", metavar="KIND", help="bottom-up, top-down, hybrid or auto [auto].", panel="Tree"),
    "max_children": _flag(int, "--max-children", metavar="N", help="Children of a node at most [16].", panel="Tree"),
    "soft_membership": _flag(bool, "--soft-membership", help="A passage may hang under two nodes.", panel="Tree"),
    **EMBEDDER,
    "seed": _flag(int, "--seed", metavar="N", help="Seed of the clustering [0].", panel="Tree"),
    "engine": _flag(
        str, "--engine", metavar="NAME", help="local, or ray (Ray Data): the same tree [local].", panel="Tree"
    ),
}
COMMON: Flags = {
    "json": Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")],
    "offline": Annotated[bool, typer.Option("--offline", help="Refuse every server not on this machine.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
}

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Interrupted(BranchwiseError):
    """Ctrl-C: what was paid for is kept."""

    exit_code = 130


def command(
    app: typer.Typer, name: str, flags: Flags | None = None, *, again: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as command `name`. It is given the Terminal, the Settings, and its own arguments and options.

    `flags` become settings; the options of COMMON are every command's. `again` says how to go on after Ctrl-C. typer
    reads signatures, so all of these are written into the signature.
    """
    overrides = dict(flags or {})

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, localns={"Settings": Any}, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(inspect.signature(function).parameters.values())[2:]
        ]
        added = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=None if key in overrides else False, annotation=kind
            )
            for key, kind in {**overrides, **COMMON}.items()
        ]

        @wraps(function)
        def run(*, json: bool, offline: bool, debug: bool, **options: Any) -> None:
            given = {key: options.pop(key) for key in overrides}
            settings = load_settings(**given, offline=offline or None)
            try:
                function(Terminal(json=json, debug=debug), settings, **options)
            except KeyboardInterrupt as interrupt:
                raise Interrupted("Interrupted.", hint=again) from interrupt

        parameters = [*own, *added]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name)(run)
        return function

    return register
