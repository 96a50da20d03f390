"""A synthetic world: a corpus of invented words with a true topic tree, and questions whose gold is known.

For tests and measurements that need size (20,000 leaves and more) or no data at all. Questions borrow few of the words
of their gold and some of a topic that misleads, so lexical and dense search find part of the gold and no more. Invented
from end to end: figures on it say how methods compare here, not how they do on real questions.
Tested in tests/bench/test_world.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from branchwise.agent.bench.datasets import Dataset, Query
from branchwise.stores.errors import InputError
from branchwise.stores.records import Document, Part, Passage, TreeNode
from branchwise.stores.tree import SemanticTree

WORDS_OF_TOPIC = 12
WORDS_OF_LEAF = 6
COMMON_WORDS = 600
LEAF_LENGTH = 60
"""Words in a passage: about half from its cluster and the topics above, a fifth its own, the rest common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A dataset and the tree its documents were written from; leaf ids are "p:<doc_id>"."""

    dataset: Dataset
    tree: SemanticTree


@dataclass(slots=True)
class _Topic:
    node_id: str
    depth: int
    words: tuple[str, ...]
    children: tuple[str, ...] = ()


def synthetic_world(
    *, n_leaves: int = 20_000, n_queries: int = 100, max_children: int = 16, overlap: float = 0.15, seed: int = 0
) -> World:
    """Make a world. The same arguments give the same world, word for word.

    `overlap` in [0, 1] is the share of a question's words taken from its gold's own cluster: 0 leaves lexical search
    with the broad topic alone. A question has 1 to 5 gold leaves, from one or two clusters of the same branch.
    """
    if n_leaves < 1 or max_children < 2 or not 0 <= overlap <= 1:
        raise InputError("a synthetic world needs a leaf, at least 2 children a node and an overlap in [0, 1]")
    draw = np.random.default_rng(seed)
    words = _Words(draw)
    common = [words.new() for _ in range(COMMON_WORDS)]
    topics: dict[str, _Topic] = {}
    documents: list[Document] = []
    leaf_words: dict[str, tuple[str, ...]] = {}

    def grow(node_id: str, count: int, depth: int, above: tuple[_Topic, ...]) -> None:
        topic = _Topic(node_id, depth, tuple(words.new() for _ in range(WORDS_OF_TOPIC)))
        topics[node_id] = topic
        way = (*above, topic)
        if count <= max_children:
            children = []
            for _ in range(count):
                doc_id = f"d{len(documents)}"
                own = tuple(words.new() for _ in range(WORDS_OF_LEAF))
                leaf_words[doc_id] = own
                documents.append(Document(doc_id=doc_id, text=_passage(draw, own, way, common)))
                children.append(f"p:{doc_id}")
        else:
            height = 1
            while max_children ** (height + 1) < count:
                height += 1
            parts = min(max_children, -(-count // max_children**height))
            sizes = [len(part) for part in np.array_split(np.arange(count), max(2, parts))]
            children = [f"{node_id if depth else 'n:'}{number:x}." for number in range(len(sizes))]
            for child, size in zip(children, sizes, strict=True):
                grow(child, size, depth + 1, way)
        topic.children = tuple(children)

    grow("n:root", n_leaves, 0, ())
    tree = _tree(topics, documents, leaf_words, max_children)
    queries, qrels = _questions(draw, tree, topics, leaf_words, common, n_queries, overlap)
    name = f"synthetic-{n_leaves}"
    dataset = Dataset(name=name, queries=queries, qrels=qrels, documents=tuple(documents), notes=("invented words",))
    return World(dataset=dataset, tree=tree)


class _Words:
    """Invented words of two or three syllables, each made once."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self._made: set[str] = set()
        self._syllables = [
            first + last for first in "bcdfghjklmnprstvwz" for last in ("a", "e", "i", "o", "u", "an", "or")
        ]

    def new(self) -> str:
        while True:
            picks = self._draw.integers(len(self._syllables), size=int(self._draw.integers(2, 5)))
            word = "".join(self._syllables[pick] for pick in picks)
            if word not in self._made:
                self._made.add(word)
                return word


def _passage(draw: np.random.Generator, own: Sequence[str], way: Sequence[_Topic], common: Sequence[str]) -> str:
    """Words of the leaf (20 %), its cluster (30 %), the topics above (20 %) and common ones (30 %, Zipf)."""
    above = [word for topic in way[1:-1] for word in topic.words] or list(way[-1].words)
    sources = (list(own), list(way[-1].words), above)
    counts = (LEAF_LENGTH // 5, LEAF_LENGTH * 3 // 10, LEAF_LENGTH // 5)
    picked = [source[i] for source, n in zip(sources, counts, strict=True) for i in draw.integers(len(source), size=n)]
    picked += _common(draw, common, LEAF_LENGTH - len(picked))
    draw.shuffle(picked)
    return " ".join(picked) + "."


def _common(draw: np.random.Generator, common: Sequence[str], count: int) -> list[str]:
    weights = 1 / np.arange(1, len(common) + 1)
    return [common[i] for i in draw.choice(len(common), size=count, p=weights / weights.sum())]


def _tree(
    topics: dict[str, _Topic], documents: Sequence[Document], leaf_words: dict[str, tuple[str, ...]], max_children: int
) -> SemanticTree:
    nodes = [
        TreeNode(node_id=f"p:{document.doc_id}", text=document.text, passage_id=document.doc_id)
        for document in documents
    ]
    for topic in topics.values():
        parts = tuple(
            Part(
                child_id=child, text=" ".join((leaf_words[child[2:]] if child[:2] == "p:" else topics[child].words)[:4])
            )
            for child in topic.children
        )
        text = " ".join((*topic.words, *(part.text for part in parts)))
        title = " ".join(topic.words[:3])
        nodes.append(TreeNode(node_id=topic.node_id, title=title, text=text, parts=parts, written_by="synthetic"))
    children = {topic.node_id: topic.children for topic in topics.values()}
    return SemanticTree.from_nodes(nodes, children, max_children=max_children)


def _questions(
    draw: np.random.Generator,
    tree: SemanticTree,
    topics: dict[str, _Topic],
    leaf_words: dict[str, tuple[str, ...]],
    common: Sequence[str],
    count: int,
    overlap: float,
) -> tuple[tuple[Query, ...], dict[str, dict[str, int]]]:
    """Each question: 24 words, of its gold and its cluster (`overlap`), its branch, a misleading one, common ones."""
    clusters = [topic for topic in topics.values() if topic.children and topic.children[0][:2] == "p:"]
    queries, qrels = [], {}
    for number in range(count):
        cluster, misleading = (clusters[int(draw.integers(len(clusters)))] for _ in range(2))
        gold = list(
            draw.choice(cluster.children, size=min(len(cluster.children), int(draw.integers(1, 4))), replace=False)
        )
        parent = next(iter(tree.parents(cluster.node_id)), None)
        if parent is not None and draw.random() < 0.4:
            sibling = topics[str(draw.choice(tree.children(parent)))]
            cousins = draw.choice(sibling.children, size=min(len(sibling.children), 2), replace=False)
            gold.extend(cousin for cousin in cousins if cousin in tree.leaf_row)  # a sibling may hold clusters
        near = [*cluster.words, *(word for leaf in gold for word in leaf_words[leaf[2:]][:2])]
        branch = [word for node in tree.path_to(cluster.node_id)[1:-1] for word in topics[node].words] or list(
            cluster.words
        )
        said = [
            (near if kind < overlap else branch if kind < 0.45 else list(misleading.words) if kind < 0.6 else [])
            for kind in draw.random(24)
        ]
        text = " ".join(str(draw.choice(source)) if source else _common(draw, common, 1)[0] for source in said)
        queries.append(Query(query_id=f"q{number}", text=f"{text} ({number})?"))
        qrels[f"q{number}"] = {str(leaf)[2:]: 1 for leaf in dict.fromkeys(gold)}
    return tuple(queries), qrels


def write_index(world: World, folder: Path) -> Path:
    """Make an index at `folder` of the world's documents under its own, true tree; whole documents are passages."""
    from branchwise.stores.embedding import make_embedder
    from branchwise.stores.lexical import LexicalIndex
    from branchwise.stores.manifest import Manifest
    from branchwise.stores.staging import stage

    documents, tree = world.dataset.documents, world.tree
    texts = {f"p:{document.doc_id}": document.text for document in documents}
    leaf_texts = [texts[leaf] for leaf in tree.leaf_ids]
    embedder = make_embedder("embedded", texts=leaf_texts)
    with stage(folder) as staging:
        staging.add_documents(documents)
        staging.add_passages(
            Passage(passage_id=d.doc_id, doc_id=d.doc_id, text=d.text, start=0, end=len(d.text)) for d in documents
        )
        staging.write_tree(tree)
        staging.write_vectors(
            embedder.embed_texts(leaf_texts), embedder.embed_texts([tree.node(node).text for node in tree.inner_ids])
        )
        staging.write_embedder(embedder)
        staging.write_lexical(LexicalIndex.build(leaf_texts))
        staging.publish(Manifest(title=world.dataset.name, models={"summarise": "synthetic"}))
    return folder
