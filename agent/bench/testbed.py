"""A dataset on an index: the questions as the engine takes them, what the cheap legs say, and leaves as documents.

An index holds passages and qrels speak of documents: this is the one place that translates. A leaf stands for its own
document and for those of its duplicates; a document's place in a ranking is that of its first leaf.
Tested in tests/bench/test_methods.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from branchwise.agent.bench.datasets import Dataset, Query
from branchwise.agent.bench.profiles import judge_profile
from branchwise.agent.bench.simulate import SimulatedJudge
from branchwise.stores.errors import InputError
from branchwise.stores.records import Passage, Question

if TYPE_CHECKING:
    from branchwise.agent.search.trace import OnEvent
    from branchwise.stores.index import Index
    from branchwise.stores.tree import SemanticTree

Floats = npt.NDArray[np.float64]
DEPTH = 100
"""Documents that a run keeps for each query: as deep as Recall@100 looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """BM25 scores and cosines of every leaf, shape (leaves,); `allowed` marks those the query may see."""

    lexical: Floats
    dense: Floats
    allowed: npt.NDArray[np.bool_]

    def order(self, scores: Floats, limit: int) -> npt.NDArray[np.intp]:
        """Rows of the best allowed leaves by `scores`, best first; equal scores keep the order of the leaves."""
        rows = np.flatnonzero(self.allowed)
        return rows[np.argsort(-scores[rows], kind="stable")[:limit]]

    def fused(self) -> Floats:
        """Mean of both legs, each scaled to 0..1 over the allowed leaves: the hybrid first stage."""
        return 0.5 * self.scaled(self.lexical) + 0.5 * self.scaled(self.dense)

    def scaled(self, scores: Floats) -> Floats:
        """Min-max over the allowed leaves, as LATTICE++ fuses."""
        seen = scores[self.allowed]
        if not len(seen) or seen.max() <= seen.min():
            return np.zeros_like(scores)
        return np.asarray((scores - seen.min()) / (seen.max() - seen.min()), dtype=np.float64)


class Bench:
    """Everything a method may know of a collection: the index, the questions, never the gold.

    `on_event` gives the listener of a query's search, for traces; none by default.
    """

    def __init__(self, index: Index, dataset: Dataset) -> None:
        """Raises InputError where index and dataset share no document."""
        self.index = index
        self.dataset = dataset
        self.on_event: Callable[[Query], OnEvent | None] = lambda query: None
        self.documents_of: dict[str, tuple[str, ...]] = {}
        self.leaves_of: dict[str, tuple[str, ...]] = {}
        leaves: dict[str, list[str]] = defaultdict(list)
        for passage in index.iter_passages():
            leaf = f"p:{passage.passage_id}"
            self.documents_of[leaf] = _documents(passage)
            for doc_id in self.documents_of[leaf]:
                leaves[doc_id].append(leaf)
        self.leaves_of = {doc_id: tuple(ids) for doc_id, ids in leaves.items()}
        judged = {doc_id for grades in dataset.qrels.values() for doc_id in grades}
        if judged and not judged & leaves.keys():
            raise InputError(
                f"the index at {index.path} holds none of the documents that {dataset.name} judges",
                hint="build the index from the dataset's own corpus.jsonl, so that the ids agree",
            )

    @property
    def tree(self) -> SemanticTree:
        """The tree of the index."""
        return self.index.tree

    def question(self, query: Query) -> Question:
        """The query as the engine takes it: its own words, what it may not see, what counts as relevant."""
        return Question(text=query.text, excluded_ids=query.excluded_ids, relevance=self.dataset.relevance)

    def legs(self, query: Query) -> Legs:
        """What BM25 and the vectors say of every leaf."""
        allowed = self.index.allowed_rows({}, query.excluded_ids)
        count = len(self.tree.leaf_ids)
        return Legs(
            lexical=np.asarray(self.index.lexical.scores(query.text), dtype=np.float64),
            dense=np.asarray(self.index.leaf_matrix @ self.index.embedder.embed_query(query.text), dtype=np.float64),
            allowed=np.ones(count, dtype=np.bool_) if allowed is None else allowed,
        )

    def gold_leaves(self, query: Query) -> dict[str, float]:
        """Grades in (0, 1] of the leaves of relevant documents, relative to the best grade. For simulated judges."""
        grades = {doc_id: grade for doc_id, grade in self.dataset.qrels.get(query.query_id, {}).items() if grade > 0}
        best = max(grades.values(), default=1)
        return {leaf: grade / best for doc_id, grade in grades.items() for leaf in self.leaves_of.get(doc_id, ())}

    def as_documents(self, leaves: Iterable[tuple[str, float]], query: Query) -> list[tuple[str, float]]:
        """Documents with the score of their first leaf, best first, without those the query may not see."""
        ranking: dict[str, float] = {}
        for leaf, score in leaves:
            for doc_id in self.documents_of[leaf]:
                if doc_id not in query.excluded_ids and doc_id not in ranking:
                    ranking[doc_id] = score
        return list(ranking.items())[:DEPTH]


def similarity(bench: Bench) -> Callable[[str], Floats]:
    """Similarity of every leaf to a question's text, (leaves,): a simulated judge's prior. Both legs, standardised."""

    def both_legs(text: str) -> Floats:
        legs = bench.legs(Query(query_id="", text=text))
        lexical, dense = ((leg - leg.mean()) / (leg.std() or 1.0) for leg in (legs.lexical, legs.dense))
        return np.asarray((lexical + dense) / 2, dtype=np.float64)

    return both_legs


def simulated(bench: Bench, dial: str | float, *, seed: int = 0) -> SimulatedJudge:
    """A simulated judge of this bench's questions; `dial` names its profile (agent.bench.profiles)."""
    gold = {query.text: bench.gold_leaves(query) for query in bench.dataset.queries}
    return SimulatedJudge(bench.tree, gold, similarity(bench), judge_profile(dial), seed=seed)


async def build_bench(dataset: Dataset, folder: Path, *, max_children: int = 16) -> Bench:
    """`dataset` on the index at `folder`, which is built by the embedded summariser where there is none yet."""
    from branchwise.stores.index import Index

    if not (folder / "manifest.json").exists():
        from branchwise.tree_builder.build import build
        from branchwise.tree_builder.config import BuildConfig

        if not dataset.documents:
            raise InputError(f"{dataset.name} holds no documents and there is no index at {folder}")
        # Whole documents are the unit that the qrels judge; merged near-duplicates would judge one for another.
        config = BuildConfig(max_children=max_children, max_chars=None, duplicate_similarity=1.0, title=dataset.name)
        await build(dataset.documents, folder, config)
    return Bench(Index.open(folder), dataset)


def _documents(passage: Passage) -> tuple[str, ...]:
    return tuple(dict.fromkeys((passage.doc_id, *(origin.doc_id for origin in passage.duplicates))))
