"""What the tests of the stores share: small indexes, made by the real parts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from branchwise.stores.embedding import Embedder, make_embedder
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.manifest import Manifest
from branchwise.stores.records import Document, Part, Passage, TreeNode
from branchwise.stores.staging import Staging, stage
from branchwise.stores.tree import SemanticTree

TEXTS = (
    "The cat sleeps on the warm stove.",
    "Dogs bark at the postman every morning.",
    "A stove burns wood and warms the kitchen.",
    "The postman brings letters and parcels.",
    "Letters were once sealed with wax.",
    "Bees make wax and honey in a hive.",
)


def documents_of(texts: Sequence[str]) -> list[Document]:
    """A document a text, with a year and a language as metadata."""
    return [
        Document(doc_id=f"d{i}", text=text, title=f"Text {i}", metadata={"year": 2020 + i % 2, "draft": i == 0})
        for i, text in enumerate(texts)
    ]


def passages_of(documents: Sequence[Document]) -> list[Passage]:
    """Each document as one passage."""
    return [
        Passage(passage_id=d.doc_id, doc_id=d.doc_id, text=d.text, start=0, end=len(d.text), metadata=d.metadata)
        for d in documents
    ]


def tree_of(passages: Sequence[Passage], *, max_children: int = 3) -> SemanticTree:
    """A balanced tree in the order of the passages."""
    nodes = [TreeNode(node_id=f"p:{p.passage_id}", passage_id=p.passage_id, title=p.title) for p in passages]
    level, children, inner = [node.node_id for node in nodes], {}, []
    while len(level) > max_children:
        above = []
        for start in range(0, len(level), max_children):
            node_id = f"n:{len(inner):012x}"
            children[node_id] = level[start : start + max_children]
            parts = tuple(Part(child_id=child, text=f"about {child}") for child in children[node_id])
            inner.append(TreeNode(node_id=node_id, title="A group", text=f"Group {node_id}.", parts=parts))
            above.append(node_id)
        level = above
    children["n:root"] = level
    inner.append(TreeNode(node_id="n:root", title="All", text="Everything."))
    return SemanticTree.from_nodes(nodes + inner, children, max_children=max_children)


def fill(staging: Staging, texts: Sequence[str], *, embedder: Embedder | None = None) -> None:
    """Write all parts of a generation, short of publishing it."""
    documents = documents_of(texts)
    passages = passages_of(documents)
    tree = tree_of(passages)
    embedder = embedder or make_embedder("embedded", texts=texts)
    staging.add_documents(documents)
    staging.add_passages(passages)
    staging.write_tree(tree)
    staging.write_vectors(
        embedder.embed_texts(texts), embedder.embed_texts([tree.node(node_id).text for node_id in tree.inner_ids])
    )
    staging.write_embedder(embedder)
    staging.write_lexical(LexicalIndex.build(texts))


def write_index(path: Path, texts: Sequence[str] = TEXTS, **how: Embedder) -> Path:
    """A published generation."""
    with stage(path) as staging:
        fill(staging, texts, **how)
        return staging.publish(Manifest(title="Test"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of six texts; read it, do not change it."""
    return write_index(tmp_path_factory.mktemp("index") / "built index ü")


@pytest.fixture
def index_path(built: Path, tmp_path: Path) -> Path:
    """A copy of that index for a test to change."""
    return Path(shutil.copytree(built, tmp_path / "index"))
