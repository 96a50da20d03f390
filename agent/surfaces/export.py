"""The tree in formats that others read: JSON, GraphML (Gephi, yEd, NetworkX), and a page that folds and searches.

Files are written beside their name and renamed, so that an interrupted export leaves nothing half written. Tested in
tests/surfaces/terminal/test_export.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchwise.agent.surfaces.pages import fill_page
from branchwise.stores.errors import InputError

if TYPE_CHECKING:
    from branchwise.stores.index import Index

EXCERPT = 600  # characters of a passage on the page; JSON and GraphML hold the whole text
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tree_json(index: Index) -> dict[str, Any]:
    """Every node with its whole text, parents before children; `leaves` counts distinct passages beneath."""
    tree = index.tree
    order = [node_id for level in tree.levels() for node_id in level]
    texts = index.texts(order)
    return {
        "format": "branchwise-tree",
        "version": 1,
        "title": index.manifest.title,
        "models": dict(index.manifest.models),
        "max_children": tree.max_children,
        "root": tree.root_id,
        "nodes": [
            {
                "node_id": node_id,
                "parents": list(tree.parents(node_id)),
                "children": list(tree.children(node_id)),
                "depth": tree.depth(node_id),
                "leaves": len(tree.leaf_rows(node_id)),
                "passage_id": tree.node(node_id).passage_id,
                "title": tree.node(node_id).title,
                "text": texts[node_id],
                "written_by": tree.node(node_id).written_by,
            }
            for node_id in order
        ],
    }


def tree_graphml(index: Index) -> str:
    """The tree as GraphML; characters that XML cannot hold are left out."""
    import networkx as nx

    whole = tree_json(index)
    graph = nx.DiGraph(title=_xml(whole["title"]))
    for node in whole["nodes"]:
        facts = {name: node[name] for name in ("depth", "leaves")}
        facts |= {name: _xml(node[name] or "") for name in ("passage_id", "title", "text", "written_by")}
        graph.add_node(_xml(node["node_id"]), **facts)
    for node in whole["nodes"]:
        graph.add_edges_from((_xml(node["node_id"]), _xml(child)) for child in node["children"])
    return "\n".join(nx.generate_graphml(graph)) + "\n"


def tree_html(index: Index) -> str:
    """The tree as one HTML file that folds and searches."""
    whole = tree_json(index)
    place = {node["node_id"]: number for number, node in enumerate(whole["nodes"])}
    nodes = [
        [
            node["node_id"],
            node["title"],
            _excerpt(node["text"]) if node["passage_id"] else node["text"],
            node["leaves"],
            node["passage_id"],
            [place[child] for child in node["children"]],
            place[node["parents"][0]] if node["parents"] else -1,
        ]
        for node in whole["nodes"]
    ]
    title = whole["title"] or "Semantic tree"
    facts = {"title": title, "counts": dict(index.manifest.counts), "models": whole["models"], "excerpt": EXCERPT}
    root = place.get(whole["root"], -1) if whole["root"] else -1
    return fill_page("tree", title=title, data={**facts, "root": root, "nodes": nodes})


WRITERS: Mapping[str, Callable[[Index], str]] = {
    "json": lambda index: json.dumps(tree_json(index), ensure_ascii=False, indent=1) + "\n",
    "graphml": tree_graphml,
    "html": tree_html,
}


def export_tree(index: Index, path: Path, kind: str | None = None) -> str:
    """Write the tree to `path` as `kind` (else by its ending); returns the kind. Raises InputError."""
    kind = kind or path.suffix.removeprefix(".").lower()
    if kind not in WRITERS:
        raise InputError(f"{path} is no kind of file that a tree is written to.", hint=f"End it in {_endings()}.")
    write_text(path, WRITERS[kind](index))
    return kind


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8, or none of it. Raises InputError where that cannot be done."""
    beside = path.with_name(path.name + ".tmp")
    try:
        beside.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True) if beside.parent.is_dir() else None
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + " …"


def _endings() -> str:
    return " or ".join(f".{kind}" for kind in WRITERS)


def _xml(text: str) -> str:
    return _NOT_XML.sub("", text)
