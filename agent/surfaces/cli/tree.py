"""`branchwise tree show | stats | check | export`: look at the tree, measure it, prove it sound, take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from branchwise.agent.surfaces.cli.opening import open_index
from branchwise.agent.surfaces.cli.options import INDEX, command
from branchwise.agent.surfaces.cli.terminal import Terminal
from branchwise.stores.errors import IndexCorrupt, InputError

if TYPE_CHECKING:
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.stores.index import Index

NodeId = Annotated[str | None, typer.Option("--node", metavar="ID", help="Begin at this node [the root].")]
Depth = Annotated[int | None, typer.Option("--depth", "-d", metavar="N", help="Levels to show [what fits a screen].")]
OutFile = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A .json, .graphml or .html file.")]
Format = Annotated[str | None, typer.Option("--format", metavar="KIND", help="json, graphml or html [by the ending].")]


def register(app: typer.Typer) -> None:
    """Add `tree` and its commands."""
    group = typer.Typer(help="Look at the tree: show, stats, check, export.", no_args_is_help=True)
    command(group, "show", INDEX)(show)
    command(group, "stats", INDEX)(stats)
    command(group, "check", INDEX)(check)
    command(group, "export", INDEX)(export)
    app.add_typer(group, name="tree")


def show(terminal: Terminal, settings: Settings, node: NodeId = None, depth: Depth = None) -> None:
    """Titles, sizes and short descriptions, as deep as a screen holds."""
    from branchwise.agent.surfaces.tree_view import count, draw_tree, fitting_depth, plain

    if depth is not None and depth < 0:
        raise InputError(f"--depth is {depth}; it counts levels from 0.")
    with open_index(settings) as opened:
        tree = opened.tree
        if tree.root_id is None or not tree.leaf_ids:
            terminal.say("This index holds no passages.")
            terminal.give({"root": None, "depth": 0, "nodes": []})
            return
        top = node or tree.root_id
        levels = fitting_depth(opened, top) if depth is None else depth
        if terminal.json:
            terminal.give({"root": top, "depth": levels, "nodes": _nodes(opened, top, levels)})
            return
        writer = opened.manifest.models.get("summarise", "nobody")
        terminal.say(
            f"{plain(opened.manifest.title) or opened.path}: {count(len(tree.leaf_ids), 'passage')}, "
            f"{count(len(tree.inner_ids), 'inner node')}, texts by {writer}",
            style="dim",
        )
        terminal.say(draw_tree(opened, top, depth=levels))
        hidden = tree.height(top) - levels
        if hidden > 0:
            more = f"{count(hidden, 'more level')} below: --depth {levels + 1} shows another, --node ID one branch."
            terminal.say(more, style="dim")


def stats(terminal: Terminal, settings: Settings) -> None:
    """Balance, fan-out, depth, lengths of summaries, and how hard siblings are to tell apart."""
    from branchwise.agent.surfaces.health_view import draw_health, health_json
    from branchwise.tree_builder.health import measure

    with open_index(settings) as opened:
        health = measure(opened)
        terminal.give(health_json(health))
        for part in draw_health(health, opened.tree):
            terminal.say(part)


def check(terminal: Terminal, settings: Settings) -> None:
    """Read everything back: files, database, tree and vectors. Exit code 3 where something is broken."""
    with open_index(settings) as opened:
        broken = opened.verify()
        nodes = len(opened.tree)
    if broken:
        for line in broken[:-1]:
            terminal.note(line, style="red")
        raise IndexCorrupt(
            broken[-1] if len(broken) == 1 else f"{broken[-1]} ({len(broken)} faults in all)",
            hint=f'branchwise build SOURCE --index "{settings.index_path()}"  (model replies are kept)',
        )
    terminal.give({"sound": True, "nodes": nodes, "faults": []})
    terminal.say(f"Sound: {nodes:,} nodes, every file, edge and vector read back.")


def export(terminal: Terminal, settings: Settings, out: OutFile, format: Format = None) -> None:
    """Write the tree to a file: JSON, GraphML, or one HTML page that folds and searches."""
    from branchwise.agent.surfaces.export import export_tree

    with open_index(settings) as opened:
        kind = export_tree(opened, out, format)
    size = out.stat().st_size
    terminal.give({"path": str(out), "format": kind, "bytes": size})
    terminal.say(f"{out}: {kind}, {size:,} bytes.")


def _nodes(index: Index, top: str, depth: int) -> list[dict[str, object]]:
    """The nodes shown, parents first, each once."""
    tree = index.tree
    shown, level = [top], [top]
    for _ in range(depth):
        level = [child for node_id in level for child in tree.children(node_id)]
        shown.extend(level)
    shown = list(dict.fromkeys(shown))
    texts = index.texts(shown)
    return [
        {
            "node_id": node_id,
            "parents": list(tree.parents(node_id)),
            "title": tree.node(node_id).title,
            "text": texts[node_id],
            "leaves": len(tree.leaf_rows(node_id)),
            "passage_id": tree.node(node_id).passage_id,
        }
        for node_id in shown
    ]
