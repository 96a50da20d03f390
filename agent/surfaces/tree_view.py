"""A semantic tree as people read it in a terminal: titles, how much lies beneath, a line of what it is about.

Without a depth it shows as many whole levels as fit a screen. Node texts are data: nothing in them is markup or a
control sequence. Tested in tests/surfaces/terminal/test_views.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from branchwise.stores.index import Index

SCREEN = 40  # nodes: about one terminal full, at two lines a node of the last level shown
SHORT = 300  # characters of a text that a line can need at most
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def plain(text: str) -> str:
    """`text` on one line, without control characters (a terminal obeys some) and bidirectional overrides."""
    return " ".join(_CONTROL.sub(" ", text).split())


def printable(text: str) -> str:
    """`text` with its lines and spaces, without the characters that a terminal would obey."""
    return "".join(letter if letter in "\n\t" else _CONTROL.sub(" ", letter) for letter in text)


def count(number: int, noun: str) -> str:
    """ "1 passage", "2,000 passages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def fitting_depth(index: Index, node_id: str) -> int:
    """The deepest level below the node with which all nodes shown still fit a screen; at least 1."""
    depth, shown, level = 0, 1, [node_id]
    while level := [child for node in level for child in index.tree.children(node)]:
        shown += len(level)
        if depth and shown > SCREEN:
            break
        depth += 1
    return max(depth, 1)


def draw_tree(index: Index, node_id: str, *, depth: int) -> Tree:
    """The node and `depth` levels below it. Raises IndexMissing for an unknown id."""
    shown = [node_id]
    level = [node_id]
    for _ in range(depth):
        level = [child for node in level for child in index.tree.children(node)]
        shown.extend(level)
    texts = index.texts(list(dict.fromkeys(shown)))

    def label(node: str) -> Text:
        return _label(index, node, texts[node])

    root = Tree(label(node_id), guide_style="dim")
    branches = [(node_id, root, 0)]
    while branches:
        node, branch, level_of = branches.pop()
        if level_of < depth:
            branches.extend((child, branch.add(label(child)), level_of + 1) for child in index.tree.children(node))
    return root


def _label(index: Index, node_id: str, text: str) -> Text:
    """Title and size on the first line, the short description on the second, both cut at the terminal's edge."""
    node = index.tree.node(node_id)
    title = plain(node.title)
    said = plain(text[:SHORT]).removeprefix(title).lstrip(" ,.:;-")
    label = Text(no_wrap=True, overflow="ellipsis")
    if node.is_leaf:
        label.append(title or said)
        label.append(f"  {plain(node.passage_id or '')}", style="dim cyan")
    else:
        label.append(title or node_id, style="bold")
        label.append(f"  {count(len(index.tree.leaf_rows(node_id)), 'passage')}", style="cyan")
        label.append(f"  {node_id}", style="dim")
    if said:
        label.append(f"\n{said}", style="dim")
    return label
