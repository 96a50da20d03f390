"""`branchwise doctor | backup | restore | repair | reembed`: is all well, and how to keep it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from branchwise.agent.surfaces.cli.opening import open_asker
from branchwise.agent.surfaces.cli.options import EMBEDDER, INDEX, MODEL, Yes, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.agent.surfaces.progress import counting
from branchwise.stores.errors import InputError
from branchwise.stores.manifest import read_manifest

if TYPE_CHECKING:
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.prompts.doctor import Probe

MARKS = {"ok": ("ok", "green"), "note": ("note", "cyan"), "warning": ("warning", "yellow"), "fault": ("fault", "red")}

BackupOut = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the backup goes, one file.")]
ToServer = Annotated[
    str | None, typer.Option("--to-server", metavar="URL", help="Fill this Chroma server instead of the folder.")
]
BackupIn = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "doctor", {**INDEX, **MODEL})(doctor)
    command(app, "backup", INDEX)(backup)
    command(app, "restore", INDEX)(restore)
    command(app, "repair", INDEX)(repair)
    command(app, "reembed", {**INDEX, **EMBEDDER})(reembed)


def doctor(terminal: Terminal, settings: Settings) -> None:
    """Check the installation, the disk, Chroma, an index, and what a model server can really do."""
    from branchwise.agent.surfaces.doctor import examine

    checks = []
    for check in examine(settings):
        checks.append(check)
        _draw(terminal, check.name, check.status, check.detail, check.hint)
    found = asyncio.run(_probe(terminal, settings)) if settings.model else []
    terminal.give({"checks": [asdict(check) for check in checks], "model": [asdict(probe) for probe in found]})
    if faults := [check.exit_code for check in checks if check.status == "fault"]:
        raise typer.Exit(faults[0])
    if any(probe.status == "fault" for probe in found):
        raise typer.Exit(4)


async def _probe(terminal: Terminal, settings: Settings) -> list[Probe]:
    """What the model's server can do, told as it is found out."""
    from branchwise.prompts.doctor import probes

    found: list[Probe] = []
    if (asker := open_asker(settings, None)) is not None:
        async for probe in probes(asker):
            found.append(probe)
            _draw(terminal, probe.name, probe.status, probe.detail, probe.hint)
        await asker.aclose()
    return found


def backup(terminal: Terminal, settings: Settings, out: BackupOut) -> None:
    """Put an index into one file, paid model replies included."""
    from branchwise.stores.backup import backup as write_backup

    path = write_backup(settings.index_path(), out)
    size = path.stat().st_size
    terminal.give({"path": str(path), "bytes": size})
    terminal.say(f"{path}: {size:,} bytes. branchwise restore {path} --index DIR brings it back.")


def restore(terminal: Terminal, settings: Settings, file: BackupIn, yes: Yes = False) -> None:
    """Bring an index back from a backup."""
    from branchwise.stores.backup import restore as read_backup

    target = settings.index_path()
    if not file.is_file():
        raise InputError(f"There is no backup at {file}.")
    if (target / "manifest.json").exists() and not yes and not terminal.confirm(f"Replace the index at {target}?"):
        raise InputError(f"{target} was left as it is.")
    read_backup(file, target)
    terminal.give({"path": str(target)})
    terminal.say(f"Restored to {target}.")


def repair(terminal: Terminal, settings: Settings, to_server: ToServer = None) -> None:
    """Build what is derived anew, Chroma from the tree file; or fill a Chroma server with an index."""
    from branchwise.stores.repair import rebuild_vectors

    path = settings.index_path()
    manifest = read_manifest(path)
    nodes = manifest.counts["leaves"] + manifest.counts["inner"]
    with counting(terminal.err, "Storing", nodes) as progress:
        rebuild_vectors(path, chroma_url=to_server, progress=progress)
    terminal.give({"path": str(path), "nodes": nodes, "chroma_url": to_server})
    terminal.say(f"{nodes:,} nodes stored {f'at {to_server}' if to_server else 'anew'}; the tree is as it was.")


def reembed(terminal: Terminal, settings: Settings) -> None:
    """Make all vectors anew with another embedder; tree and summaries are kept."""
    from branchwise.stores.embedding import make_embedder
    from branchwise.stores.index import Index
    from branchwise.stores.repair import reembed as embed_again
    from branchwise.stores.rows import titled

    path = settings.index_path()
    manifest = read_manifest(path)
    texts = []
    if settings.embedder == "embedded":  # the only one that is fitted on the corpus
        with Index.open(path, chroma_url=settings.chroma_url) as index:
            texts = [titled(passage.title, passage.text) for passage in index.iter_passages()]
    embedder = make_embedder(settings.embedder, texts=texts, base_url=settings.base_url)
    leaves = manifest.counts["leaves"]
    with counting(terminal.err, "Embedding", 2 * leaves + manifest.counts["inner"]) as progress:
        embed_again(path, embedder, progress=progress)
    terminal.give({"path": str(path), "embedder": embedder.name, "leaves": leaves})
    terminal.say(f"{leaves:,} passages embedded by {embedder.name}; the tree is as it was.")


def _draw(terminal: Terminal, name: str, status: str, detail: str, hint: str) -> None:
    from rich.text import Text

    mark, style = MARKS[status]
    line = Text(f"{mark:<8}", style=style)
    line.append(f"{name:<10}", style="bold")
    line.append(detail)
    terminal.say(line)
    if hint and status != "ok":
        terminal.say(f"{'':<18}{hint}", style="dim")
