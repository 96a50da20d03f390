"""The health of a tree, for people: what is good is said shortly, what is not comes with the reason.

Tested in tests/surfaces/terminal/test_views.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from branchwise.agent.surfaces.tree_view import count, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from branchwise.stores.tree import SemanticTree
    from branchwise.tree_builder.health import Health, Spread

BAR = 40  # characters of the longest bar
PAIRS = 5  # pairs of siblings named
ALIKE = 0.9  # cosine from which two siblings are worth naming


def health_json(health: Health) -> dict[str, Any]:
    """All figures; keys that are numbers become text, as JSON wants it."""
    facts = asdict(health)
    return {**facts, "leaf_depth": {str(depth): number for depth, number in health.leaf_depth.items()}}


def draw_health(health: Health, tree: SemanticTree) -> Iterator[RenderableType]:
    """A picture of the levels, then the figures, then what is wrong."""
    yield _levels(health)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("passages", f"{health.leaves:,} leaves, {health.duplicates:,} duplicates merged into them")
    table.add_row("fan-out", f"{_spread(health.fan_out)} children a node; {_singles(health)}")
    table.add_row("leaf clusters", f"{_spread(health.cluster_size)} passages")
    table.add_row("balance", f"{health.balance:.2f} (1: the children of every node hold equally many passages)")
    table.add_row("depth", ", ".join(f"{number:,} at {depth}" for depth, number in health.leaf_depth.items()) or "none")
    table.add_row("texts", f"{_spread(health.text_length)} characters; titles {_spread(health.title_length)}")
    table.add_row("titles", f"{count(health.untitled, 'node')} without, {health.equal_titles:,} said twice")
    table.add_row("written by", ", ".join(f"{who} {number:,}" for who, number in health.written_by.items()) or "nobody")
    table.add_row("second homes", f"{health.second_homes:,} leaves stand under two parents")
    table.add_row("lost text", f"{health.orphaned_characters:,} characters of documents stand in no passage")
    table.add_row("confusable", f"{health.confusable:.1%} of the leaves lie nearer to a sibling of their cluster")
    yield table
    alike = [pair for pair in health.confusions[:PAIRS] if pair.cosine >= ALIKE]
    if alike:
        yield Text("\nSiblings that are hard to tell apart", style="bold")
    for pair in alike:
        first, second = (plain(tree.node(node_id).title) or node_id for node_id in (pair.first, pair.second))
        yield Text(f"  {pair.cosine:.2f}  {first}  |  {second}", no_wrap=True, overflow="ellipsis")
    for fault in health.faults:
        yield Text(f"fault  {plain(fault)}", style="red")


def _levels(health: Health) -> Text:
    """One bar a level, as long as its share of the largest."""
    picture = Text()
    most = max(health.level_sizes, default=1)
    for depth, size in enumerate(health.level_sizes):
        bar = "█" * max(1, round(BAR * size / most))
        picture.append(f"level {depth:<4}").append(f"{size:>9,}  ", style="cyan").append(f"{bar}\n", style="green")
    return picture


def _spread(spread: Spread) -> str:
    return f"{spread.least:,.0f} to {spread.most:,.0f}, {spread.mean:,.1f} on average"


def _singles(health: Health) -> str:
    if not health.single_children:
        return "no node has one child"
    return f"{count(health.single_children, 'node')} with one child"
