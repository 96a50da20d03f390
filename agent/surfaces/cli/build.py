"""`branchwise build | add | remove | demo`: make an index, keep it up to date, see one at work."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from branchwise.agent.surfaces.cli.opening import open_asker, open_index
from branchwise.agent.surfaces.cli.options import INDEX, LIMITS, MODEL, TREE, Interrupted, Yes, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import InputError, StoreError

if TYPE_CHECKING:
    from branchwise.agent.facade import OnEvent
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.prompts.ask import Asker
    from branchwise.prompts.budget import Meter
    from branchwise.tree_builder.build import BuildReport
    from branchwise.tree_builder.config import BuildConfig

    Change = Callable[[Asker | None, Meter, OnEvent], Coroutine[Any, Any, BuildReport]]

AGAIN = "Run the same command again: it continues, and buys nothing twice. The old index is as it was."
INSTEAD = "Give --yes, or a limit: --max-calls, --max-tokens, --max-cost. build --dry-run tells the price."
FORMATS = ".txt .md .rst .html .jsonl .csv, with [files] .pdf and Office; or a BEIR folder"

Sources = Annotated[list[Path], typer.Argument(metavar="SOURCE...", help=f"Folders and files: {FORMATS}.")]
DocIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Document ids, as search shows them.")]
Placing = Annotated[
    str,
    typer.Option("--place", metavar="HOW", help="vectors (no call) or search (a walk of the tree each) [vectors]."),
]
Title = Annotated[str, typer.Option("--title", metavar="TEXT", help="What the collection is called.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what it would cost; no network.", rich_help_panel="Limits")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    flags = {**INDEX, **MODEL, **LIMITS}
    command(app, "demo", INDEX)(demo)
    command(app, "build", {**flags, **TREE}, again=AGAIN)(build)
    command(app, "add", flags, again=AGAIN)(add)
    command(app, "remove", flags, again=AGAIN)(remove)


def demo(terminal: Terminal, settings: Settings) -> None:
    """Index the documentation that came with the dependencies, and ask it three questions. No key, no network."""
    from branchwise.agent.surfaces.demo import run_demo

    run_demo(terminal, settings.index or Path("branchwise-demo"))


def build(
    terminal: Terminal,
    settings: Settings,
    sources: Sources,
    title: Title = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Build an index of documents: cut, embed, cluster, summarise. With a model, the price is told first."""
    from branchwise.agent.surfaces.progress import watch
    from branchwise.prompts.budget import Meter
    from branchwise.tree_builder.build import build as build_index
    from branchwise.tree_builder.config import BuildConfig

    path = settings.index_path()
    config = BuildConfig(
        tree=settings.tree, max_children=settings.max_children, soft_membership=settings.soft_membership,
        embedder=settings.embedder, seed=settings.seed, title=title or _named(sources), engine=settings.engine,
    )  # fmt: skip
    check_sources(sources)
    if settings.engine == "ray":
        from branchwise.tree_builder.ray_engine import require_ray

        require_ray()
    if dry_run:
        _tell_price(terminal, settings, sources, config)
        return
    if settings.model and not (yes or settings.is_limited):
        _agree(terminal, settings, sources, config)
    _warn_of_another(terminal, path, config.title)
    asker = open_asker(settings, path)
    terminal.say(_writer(settings), style="dim")
    if settings.engine == "ray":
        terminal.say("Embedding and clustering on Ray.", style="dim")
    with watch(terminal.err) as on_event:
        report = run_to_the_end(
            terminal,
            build_index(
                sources, path, config, asker=asker, base_url=settings.base_url, chroma_url=settings.chroma_url,
                meter=Meter(settings.budget), on_event=on_event,
            )
        )  # fmt: skip
    _tell(terminal, report, "Built")


def add(terminal: Terminal, settings: Settings, sources: Sources, place: Placing = "vectors", yes: Yes = False) -> None:
    """Add documents to an index, or replace those with the same id; only the touched branches are written anew."""
    check_sources(sources)

    async def add_documents(asker: Asker | None, meter: Meter, on_event: OnEvent) -> BuildReport:
        from branchwise.agent.engine import Engine
        from branchwise.agent.facade import add_to

        with open_index(settings) as index:
            return await add_to(
                Engine(index, asker=asker), sources,
                place=place, chroma_url=settings.chroma_url, meter=meter, on_event=on_event,
            )  # fmt: skip

    _update(terminal, settings, add_documents, "Added", yes=yes, searching=place == "search")


def remove(terminal: Terminal, settings: Settings, doc_ids: DocIds, yes: Yes = False) -> None:
    """Remove documents: no text of theirs is left in store, summaries or cache."""

    async def remove_documents(asker: Asker | None, meter: Meter, on_event: OnEvent) -> BuildReport:
        from branchwise.tree_builder.update import remove as remove_from

        return await remove_from(
            settings.index_path(), doc_ids,
            asker=asker, chroma_url=settings.chroma_url, meter=meter, on_event=on_event,
        )  # fmt: skip

    _update(terminal, settings, remove_documents, "Removed", yes=yes)


def check_sources(sources: list[Path]) -> None:
    """Raise InputError for the first source that is not there."""
    for source in sources:
        if not source.exists():
            raise InputError(f"There is nothing at {source}.", hint="Check the path; quote it if it has spaces.")


def run_to_the_end(terminal: Terminal, work: Coroutine[Any, Any, BuildReport]) -> BuildReport:
    """The result of `work`. After Ctrl-C it cleans up, and the process ends at once.

    Otherwise Python would wait for threads that may embed for minutes yet. What they have done is on disk.
    """

    async def watched() -> BuildReport:
        try:
            return await work
        except asyncio.CancelledError:
            terminal.fail(Interrupted("Interrupted.", hint=AGAIN))
            sys.stdout.flush()
            os._exit(Interrupted.exit_code)

    return asyncio.run(watched())


def _update(
    terminal: Terminal, settings: Settings, change: Change, done: str, *, yes: bool, searching: bool = False
) -> None:
    """Run an addition or a removal; with a model, it asks first like a build."""
    from branchwise.agent.surfaces.progress import watch
    from branchwise.prompts.budget import Meter
    from branchwise.stores.manifest import read_manifest

    path = settings.index_path()
    read_manifest(path)  # an index that is not there is said before a model is asked for
    asker = open_asker(settings, path)
    if asker is not None and not (yes or settings.is_limited):
        terminal.note(f"{asker.name} will write the touched branches anew: about one call a branch and level.")
        if searching:
            terminal.note("It will also find the place of every new document: about one call a level.")
        if not terminal.confirm("Go on?", instead=INSTEAD):
            raise InputError("Nothing was changed.", hint="--max-calls, --max-tokens and --max-cost set a limit.")
    terminal.say(_writer(settings), style="dim")
    with watch(terminal.err) as on_event:
        report = run_to_the_end(terminal, change(asker, Meter(settings.budget), on_event))
    _tell(terminal, report, done)


def _warn_of_another(terminal: Terminal, path: Path, title: str) -> None:
    """Say that an index of something else is about to be replaced; what a model wrote for it stays in its cache."""
    from branchwise.stores.manifest import read_manifest

    try:
        there = read_manifest(path)
    except StoreError:
        return
    if there.title != title:
        terminal.note(
            f"This takes the place of the index of {there.title or 'something else'} at {path} "
            f"({there.counts.get('passages', 0):,} passages). To put documents into it: branchwise add.",
            style="yellow",
        )


def _writer(settings: Settings) -> str:
    """The first line of a build: who writes the tree's texts."""
    if settings.model:
        return f"Model: {settings.model}{f' at {settings.base_url}' if settings.base_url else ''}."
    return "No LLM is used: extractive summaries."


def _named(sources: list[Path]) -> str:
    """A collection is called after what it was made of; BEIR's corpus.jsonl after its folder."""
    paths = [source.resolve() for source in sources]
    return ", ".join(dict.fromkeys(p.parent.name if p.name == "corpus.jsonl" else p.name for p in paths))


def _agree(terminal: Terminal, settings: Settings, sources: list[Path], config: BuildConfig) -> None:
    """Tell the price and ask. Raises InputError where the answer is no, or nobody can give one."""
    from branchwise.agent.surfaces.cli.show import draw_estimate
    from branchwise.tree_builder.estimate import estimate

    for line in draw_estimate(estimate(sources, config, asker=open_asker(settings, None)), settings.model):
        terminal.note(line, style="")
    if not terminal.confirm("Build?", instead=INSTEAD):
        raise InputError("Nothing was built.", hint="--max-calls, --max-tokens and --max-cost set a limit.")


def _tell_price(terminal: Terminal, settings: Settings, sources: list[Path], config: BuildConfig) -> None:
    """--dry-run: what a build would cost, found out with no network and no key."""
    from branchwise.agent.surfaces.cli.show import draw_estimate
    from branchwise.agent.surfaces.progress import watch
    from branchwise.tree_builder.estimate import estimate

    with watch(terminal.err) as on_event:
        asker = open_asker(settings, None, key="not needed to reckon")
        found = estimate(sources, config, asker=asker, on_event=on_event)
    terminal.give({"dry_run": True, "model": settings.model, "engine": settings.engine, **asdict(found)})
    terminal.say(_writer(settings), style="dim")
    for line in draw_estimate(found, settings.model):
        terminal.say(line)


def _changed(report: BuildReport) -> str:
    """Which documents an update brought, replaced or took away, the first few by name; "" for a build."""
    lists = {"new": report.came, "in place of an earlier one": report.replaced, "removed": report.gone}
    return "; ".join(
        f"{len(ids):,} {what}: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
        for what, ids in lists.items()
        if ids
    )


def _tell(terminal: Terminal, report: BuildReport, done: str) -> None:
    """What a build, an addition or a removal did."""
    from branchwise.agent.surfaces.cli.show import cost
    from branchwise.agent.surfaces.shapes import usage_json

    counts = dict(report.counts)
    terminal.give(
        {
            "path": str(report.path),
            "generation": report.generation,
            "counts": counts,
            "came": list(report.came),
            "replaced": list(report.replaced),
            "gone": list(report.gone),
            "skipped": [{"where": skipped.where, "why": skipped.why} for skipped in report.skipped],
            "written_by": dict(report.written_by),
            "usage": usage_json(report.usage),
            "seconds": round(report.seconds, 3),
            "partial": report.partial,
            "unchanged": report.unchanged,
            "notes": list(report.notes),
        }
    )
    for note in report.notes:
        terminal.note(note, style="yellow")
    if report.skipped:
        terminal.say(f"Skipped {len(report.skipped):,}: see above.", style="yellow")
    if report.unchanged:
        terminal.say(f"{report.path} holds exactly this already: nothing to do.")
        return
    if changed := _changed(report):
        terminal.say(changed)
    terminal.say(
        f"{done} in {report.seconds:.1f} s: {counts['documents']:,} documents, {counts['passages']:,} passages, "
        f"{counts['leaves']:,} leaves under {counts['inner']:,} inner nodes, {counts['depth']} levels deep."
    )
    if report.usage.calls:
        terminal.say(cost(report.usage), style="dim")
    if report.partial:
        terminal.say(
            "A limit was reached: the embedded summariser wrote the rest. The same command continues.", style="yellow"
        )
    terminal.say(
        f'Next: branchwise ask --index {report.path} "..."   branchwise tree show --index {report.path}', style="dim"
    )
