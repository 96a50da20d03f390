"""What rewriting, feedback, hops and reading are worth, measured each by itself with no model.

    python -m branchwise.agent.bench.rewriting legs    DATASET...             BM25 and vectors, each step on and off
    python -m branchwise.agent.bench.rewriting hops    DATASET --work DIR     recall of one search and of two hops
    python -m branchwise.agent.bench.rewriting reader  DATASET --work DIR --foreign DATASET...   quotes and refusals
    python -m branchwise.agent.bench.rewriting retriever DATASET --work DIR   what the LlamaIndex surface adds

`--half odd` (the default) reports on the queries that nothing was tuned on; `--work` is a folder for indexes, kept for
the next run. Prints one JSON object a line. Tested in tests/bench/test_rewriting.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from branchwise.agent.bench.datasets import Dataset, Query, read_dataset
from branchwise.agent.bench.measure import measure
from branchwise.agent.citations import verify
from branchwise.agent.engine import Engine
from branchwise.agent.feedback import Feedback, feed_back
from branchwise.agent.multihop import search_in_hops
from branchwise.agent.read_extractive import ExtractiveReader
from branchwise.agent.rewrite import EmbeddedRewriter, Probe, make_probe
from branchwise.agent.search.seeds import Prior, make_prior
from branchwise.stores.embedding import Embedder, FloatMatrix, make_embedder
from branchwise.stores.index import Index
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.records import Budget, Question, Rewrite, SearchResult

Row = dict[str, Any]

STEPS: Mapping[str, Feedback | None] = {
    "as asked": None,
    "content words": None,
    "content words, vector of 3 leaves": Feedback(leaves=3, share=0.2),
    "content words, vector of 10 leaves": Feedback(leaves=10, share=0.2),
    "content words, 5 terms of 5 leaves": Feedback(leaves=5, share=0.0, terms=5),
    "content words, 20 terms of 5 leaves": Feedback(leaves=5, share=0.0, terms=20),
    "content words, vector and 20 terms": Feedback(leaves=5, share=0.2, terms=20),
}


def measure_legs(dataset: Dataset, half: str) -> Iterator[Row]:
    """nDCG@10 and R@100 of BM25, the vectors and both fused, for each of STEPS; documents are ranked whole."""
    legs = _Legs.over(dataset)
    asked = dataset.half(half)
    for step, feedback in STEPS.items():
        runs: dict[str, dict[str, list[str]]] = {"bm25": {}, "dense": {}, "fused": {}}
        for query in asked.queries:
            prior = legs.prior(query, rewritten=step != "as asked", feedback=feedback)
            for leg, scores in (("bm25", prior.lexical), ("dense", prior.dense), ("fused", prior.fused)):
                order = np.argsort(-scores, kind="stable")[:100]
                runs[leg][query.query_id] = [legs.doc_ids[row] for row in order if scores[row] >= 0]
        for leg, run in runs.items():
            mean = measure(run, asked.qrels).mean
            means = {name: round(mean[name], 4) for name in ("nDCG@10", "R@100")}
            yield {"dataset": dataset.name, "half": half, "step": step, "leg": leg, **means}


async def measure_hops(dataset: Dataset, half: str, work: Path) -> Iterator[Row]:
    """Recall, and how often all of the gold is there, among the first 5 and 10 documents: one search, two hops."""
    engine = Engine(await _index_of(dataset, work))
    asked = dataset.half(half)
    ways: Mapping[str, Callable[[Question], Any]] = {
        "one search": lambda question: engine.search(question, k=20),
        "two hops": lambda question: search_in_hops(engine, question, k=20),
        "two hops, 4 slates": lambda question: search_in_hops(engine, question, k=20, budget=Budget(max_calls=4)),
    }
    rows = []
    for way, search in ways.items():
        started, found, slates = time.perf_counter(), {}, 0
        for query in asked.queries:
            result: SearchResult = await search(Question(text=query.text, excluded_ids=query.excluded_ids))
            found[query.query_id] = list(dict.fromkeys(hit.passage.doc_id for hit in result.hits))
            slates += len(result.judgements)
        count = len(asked.queries)
        row: Row = {"dataset": dataset.name, "half": half, "way": way, "slates": round(slates / count, 1)}
        row["seconds"] = round((time.perf_counter() - started) / count, 3)
        for k in (5, 10):
            parts = [_recall(found[query.query_id][:k], asked.qrels[query.query_id]) for query in asked.queries]
            row[f"recall@{k}"] = round(statistics.mean(parts), 3)
            row[f"all@{k}"] = round(statistics.mean(part == 1 for part in parts), 3)
        rows.append(row)
    engine.close()
    return iter(rows)


async def measure_reader(dataset: Dataset, half: str, work: Path, foreign: Sequence[Dataset]) -> Iterator[Row]:
    """How often the embedded reader answers, its own questions and those of other collections, and what it cites.

    `verified` is the share of citations that the stored documents bear out, `gold` the share of answers that cite a
    relevant document.
    """
    index = await _index_of(dataset, work)
    engine = Engine(index, reader=ExtractiveReader())
    rows = []
    for other in (dataset, *foreign):
        asked = other.half(half)
        answered = cited = true = gold = 0
        for query in asked.queries[:100]:
            answer = await engine.ask(Question(text=query.text, excluded_ids=query.excluded_ids))
            answered += answer.found
            cited += len(answer.citations)
            true += sum(verify(citation, index.document(citation.doc_id)) for citation in answer.citations)
            relevant = {doc_id for doc_id, grade in asked.qrels.get(query.query_id, {}).items() if grade > 0}
            gold += any(citation.doc_id in relevant for citation in answer.citations)
        count = len(asked.queries[:100])
        row: Row = {"corpus": dataset.name, "questions": other.name, "half": half, "found": round(answered / count, 3)}
        row |= {"citations": cited, "verified": true / cited if cited else None}
        rows.append(row | ({"gold": round(gold / answered, 3)} if other is dataset and answered else {}))
    engine.close()
    return iter(rows)


async def measure_retriever(dataset: Dataset, half: str, work: Path) -> Iterator[Row]:
    """Milliseconds a search takes by itself and through the LlamaIndex retriever, medians over the same questions."""
    from branchwise.agent.facade import Collection
    from branchwise.agent.surfaces.llama_index import BranchwiseRetriever

    collection = Collection(await _index_of(dataset, work))
    retriever = BranchwiseRetriever(collection, k=10)
    took: dict[str, list[float]] = {"engine": [], "retriever": []}
    for query in dataset.half(half).queries[:40]:
        for way, call in (("engine", collection.engine.search), ("retriever", retriever.aretrieve)):
            await call(query.text)
            started = time.perf_counter()
            await call(query.text)
            took[way].append(1000 * (time.perf_counter() - started))
    collection.close()
    medians = {way: round(statistics.median(times), 2) for way, times in took.items()}
    extra = statistics.median(b - a for a, b in zip(took["engine"], took["retriever"], strict=True))
    return iter([{"dataset": dataset.name, "milliseconds": medians, "added": round(extra, 2)}])


@dataclass(frozen=True, slots=True)
class _Legs:
    """Whole documents under BM25 and the embedded embedder, without an index on disk."""

    doc_ids: Sequence[str]
    texts: Sequence[str]
    lexical: LexicalIndex
    embedder: Embedder
    rows: FloatMatrix
    rewriter: EmbeddedRewriter = field(default_factory=EmbeddedRewriter)

    @classmethod
    def over(cls, dataset: Dataset) -> _Legs:
        texts = [f"{document.title}\n{document.text}" for document in dataset.documents]
        embedder = make_embedder("embedded", texts=texts)
        doc_ids = [document.doc_id for document in dataset.documents]
        return cls(doc_ids, texts, LexicalIndex.build(texts), embedder, embedder.embed_texts(texts))

    def prior(self, query: Query, *, rewritten: bool, feedback: Feedback | None) -> Prior:
        """What the legs say of every document, after the given steps."""
        question = Question(text=query.text)
        rewrite: Rewrite | None = asyncio.run(self.rewriter.rewrite(question))[0] if rewritten else None
        allowed = np.array([doc_id not in query.excluded_ids for doc_id in self.doc_ids])
        probe = make_probe(question, rewrite, embedder=self.embedder, lexical=self.lexical)
        prior = self._prior(probe, allowed)
        if feedback is None:
            return prior
        best = prior.ranked[: feedback.leaves]
        weights = [float(prior.fused[row]) for row in best]
        texts = [self.texts[row] for row in best]
        return self._prior(feed_back(probe, texts, self.rows[best], weights, self.lexical, dials=feedback), allowed)

    def _prior(self, probe: Probe, allowed: Any) -> Prior:
        lexical = np.asarray(self.lexical.scores(probe.words), dtype=np.float32)
        return make_prior(lexical, np.asarray(self.rows @ probe.vector, dtype=np.float32), allowed, pool=100)


async def _index_of(dataset: Dataset, work: Path) -> Index:
    """The dataset's index in `work`, built there by the embedded default if it is not there yet."""
    from branchwise.stores.errors import IndexMissing
    from branchwise.tree_builder.build import build

    path = work / dataset.name
    try:
        return Index.open(path)
    except IndexMissing:
        await build(list(dataset.documents), path)
        return Index.open(path)


def _recall(found: Sequence[str], grades: Mapping[str, int]) -> float:
    gold = {doc_id for doc_id, grade in grades.items() if grade > 0}
    return len(gold.intersection(found)) / len(gold)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m branchwise.agent.bench.rewriting", description=__doc__)
    parser.add_argument("what", choices=("legs", "hops", "reader", "retriever"))
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--half", choices=("even", "odd"), default="odd")
    parser.add_argument("--work", type=Path, default=Path("bench-results"))
    parser.add_argument("--foreign", nargs="*", type=Path, default=())
    chosen = parser.parse_args(arguments)
    for path in chosen.datasets:
        dataset = read_dataset(path)
        if chosen.what == "legs":
            rows = measure_legs(dataset, chosen.half)
        elif chosen.what == "hops":
            rows = asyncio.run(measure_hops(dataset, chosen.half, chosen.work))
        elif chosen.what == "reader":
            others = [read_dataset(other) for other in chosen.foreign]
            rows = asyncio.run(measure_reader(dataset, chosen.half, chosen.work, others))
        else:
            rows = asyncio.run(measure_retriever(dataset, chosen.half, chosen.work))
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
