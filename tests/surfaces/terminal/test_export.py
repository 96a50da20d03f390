"""The tree as JSON, GraphML and a page: whole, readable by others, and never half written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import networkx as nx
import pytest

from branchwise.agent.surfaces.export import EXCERPT, export_tree, tree_graphml, tree_html, tree_json, write_text
from branchwise.stores.errors import InputError
from branchwise.stores.index import Index


def test_json_holds_every_node_once(library: Path) -> None:
    """Parents come before children, edges agree in both directions, texts are whole."""
    with Index.open(library) as index:
        whole = tree_json(index)
        place = {node["node_id"]: number for number, node in enumerate(whole["nodes"])}
        assert len(place) == len(whole["nodes"]) == len(index.tree)
        for node in whole["nodes"]:
            assert all(place[parent] < place[node["node_id"]] for parent in node["parents"])
            assert all(node["node_id"] in whole["nodes"][place[child]]["parents"] for child in node["children"])
        (ice,) = [node for node in whole["nodes"] if node["passage_id"] == "ice.txt"]
        assert ice["text"] == index.passage("ice.txt").text


def test_graphml_is_read_by_networkx(library: Path, tmp_path: Path) -> None:
    """Another reader finds the same graph, also where a text holds what XML cannot."""
    with Index.open(library) as index:
        index.manifest = replace(index.manifest, title="a\x00b\ud800<c>&")
        path = tmp_path / "tree.graphml"
        write_text(path, tree_graphml(index))
        graph = nx.read_graphml(path)
        assert graph.number_of_nodes() == len(index.tree)
        assert graph.number_of_edges() == index.tree.graph.number_of_edges()
        assert graph.graph["title"] == "ab<c>&"
        assert graph.nodes["p:ice.txt"]["text"] == index.passage("ice.txt").text


def test_the_page_cuts_passages_and_says_so(library: Path) -> None:
    """The page knows how long its excerpts are."""
    with Index.open(library) as index:
        assert f'"excerpt":{EXCERPT}' in tree_html(index)


def test_an_export_is_whole_or_not_there(library: Path, tmp_path: Path) -> None:
    """What cannot be written leaves the old file as it was, and nothing beside it."""
    target = tmp_path / "tree.json"
    target.write_text("old", "utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "nowhere" / "tree.json", "new")
    with Index.open(library) as index:
        with pytest.raises(InputError, match="no kind"):
            export_tree(index, tmp_path / "tree.pdf")
        assert target.read_text("utf-8") == "old"
        assert export_tree(index, target) == "json"
    assert json.loads(target.read_text("utf-8"))["format"] == "branchwise-tree"
    assert [path.name for path in tmp_path.iterdir()] == ["tree.json"]
