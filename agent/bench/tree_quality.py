"""How good a tree is to walk, with nothing to help the walk: no seeds, no fusion, one judge.

    python -m branchwise.agent.bench.tree_quality FOLDER... [--kind all] [--queries odd] [--turnover] [--json]

The reference judges every leaf with the embedded judge. A best-first walk with the same judge then opens one node after
the other by path relevance, and at each share of leaves judged it is counted how many of the reference's top ten it has
seen, and its nDCG@10 against the reference's. Compared are the kinds of trees, and a RAPTOR-style collapsed tree, which
opens leaf clusters by their own score whatever stands above them. Documents are kept whole. `--turnover` replaces 30 %
of the documents in small batches, and compares with a rebuild. Tune on even queries, report odd ones. Tested in
tests/bench/test_tree_quality.py.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from branchwise.agent.bench.datasets import Query, read_corpus, read_dataset
from branchwise.agent.bench.measure import Qrels
from branchwise.agent.search.judge import EmbeddedJudge
from branchwise.stores.index import Index
from branchwise.stores.records import Document, Question
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.health import measure
from branchwise.tree_builder.update import add, remove

SHARES = (0.02, 0.05, 0.10, 0.20)
TOP = 10
KINDS = ("bottom-up", "top-down", "hybrid")
BATCHES = 6
TURNOVER = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a walk found, by share of leaves judged: of the reference's top ten, and of its nDCG@10 (None: no qrels).

    `to_all` is the share of leaves judged, and `opened` the number of nodes opened, until the whole top ten was seen.
    """

    name: str
    leaves: int
    inner: int
    depth: int
    fan_out: float
    confusable: float
    seconds: float
    found: Mapping[str, float]
    ndcg: Mapping[str, float] | None
    reference_ndcg: float | None
    to_all: float
    opened: float


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk: after each opened node, the rows of the leaves seen so far, in the order in which they came."""

    seen: npt.NDArray[np.int64]
    after: Sequence[int]


def leaf_scores(index: Index, query: str) -> npt.NDArray[np.float64]:
    """The embedded judge's score of every leaf, (n,): BM25 over its best, and cosine, half and half."""
    lexical = np.asarray(index.lexical.scores(query), dtype=np.float64)
    best = float(lexical.max()) if len(lexical) else 0.0
    cosine = np.clip(np.asarray(index.leaf_matrix @ index.embedder.embed_query(query), dtype=np.float64), 0.0, 1.0)
    return 0.5 * cosine + (0.5 * lexical / best if best > 0 else 0.0)


def walk(index: Index, judge: EmbeddedJudge, query: str, *, alpha: float = 0.5, limit: int) -> Walk:
    """Open nodes best first, by path relevance, until `limit` leaves are seen."""
    tree, question = index.tree, Question(text=query)
    frontier: list[tuple[float, str]] = [(-1.0, tree.root_id or "")]
    seen: dict[int, None] = {}
    after: list[int] = []
    while frontier and len(seen) < limit:
        path, node_id = heapq.heappop(frontier)
        children = tree.children(node_id)
        if children and tree.is_leaf(children[0]):
            seen.update(dict.fromkeys(tree.leaf_row[child] for child in children))
        elif children:
            for child, score in zip(children, judge.score(question, children), strict=True):
                heapq.heappush(frontier, (-(alpha * -path + (1 - alpha) * score), child))
        after.append(len(seen))
    return Walk(np.array(list(seen), dtype=np.int64), after)


def collapsed(index: Index, judge: EmbeddedJudge, query: str, *, limit: int) -> Walk:
    """Open leaf clusters by their own score alone, whatever stands above them."""
    tree = index.tree
    clusters = [node_id for node_id in tree.inner_ids if (below := tree.children(node_id)) and tree.is_leaf(below[0])]
    scores = judge.score(Question(text=query), clusters)
    seen: dict[int, None] = {}
    after: list[int] = []
    for _, cluster in sorted(zip((-score for score in scores), clusters, strict=True)):
        seen.update(dict.fromkeys(tree.leaf_row[child] for child in tree.children(cluster)))
        after.append(len(seen))
        if len(seen) >= limit:
            break
    return Walk(np.array(list(seen), dtype=np.int64), after)


def assess(
    index: Index, queries: Sequence[Query], qrels: Qrels, *, name: str, seconds: float, flat: bool = False
) -> Quality:
    """Walk for every query, and hold it against the reference."""
    judge, leaves = EmbeddedJudge(index), len(index.tree.leaf_ids)
    documents = _documents(index)
    found: dict[float, list[float]] = {share: [] for share in SHARES}
    gains: dict[float, list[float]] = {share: [] for share in SHARES}
    reference, to_all, opened = [], [], []
    for query in queries:
        scores = leaf_scores(index, query.text)
        order = np.argsort(-scores, kind="stable")
        top = set(order[:TOP].tolist())
        limit = leaves if leaves < 2_000 else leaves // 2
        path = collapsed(index, judge, query.text, limit=limit) if flat else walk(index, judge, query.text, limit=limit)
        gold = {row: grade for row, grade in _gold(query, qrels, documents).items() if grade > 0}
        best = _ndcg(order, gold)
        reference.append(best)
        for share in SHARES:
            seen = path.seen[: _within(path, share * leaves)]
            found[share].append(len(top & set(seen.tolist())) / len(top))
            gains[share].append(_ndcg(seen[np.argsort(-scores[seen], kind="stable")], gold))
        missing = np.flatnonzero(np.isin(path.seen, list(top)))
        last = int(missing[-1]) + 1 if len(missing) == len(top) else leaves
        to_all.append(last / leaves)
        opened.append(next((n for n, count in enumerate(path.after, 1) if count >= last), len(path.after)))
    health = measure(index)
    whole = _mean(reference)
    return Quality(
        name=name,
        leaves=leaves,
        inner=health.inner,
        depth=max(health.leaf_depth, default=0),
        fan_out=round(health.fan_out.mean, 2),
        confusable=round(health.confusable, 4),
        seconds=round(seconds, 1),
        found={f"{share:.0%}": round(_mean(found[share]), 4) for share in SHARES},
        ndcg={f"{share:.0%}": round(_mean(gains[share]) / whole, 4) for share in SHARES} if whole else None,
        reference_ndcg=round(whole, 4) if whole else None,
        to_all=round(_mean(to_all), 4),
        opened=round(_mean(opened), 1),
    )


async def compare(folder: Path, *, kinds: Sequence[str], half: str, embedder: str, limit: int) -> list[Quality]:
    """Every kind of tree over one collection; the collapsed tree is that of the first kind."""
    documents, queries, qrels = read_collection(folder, half, limit)
    found = []
    with tempfile.TemporaryDirectory(prefix="branchwise-quality-") as room:
        for kind in kinds:
            started = time.monotonic()
            config = BuildConfig(tree=kind, embedder=embedder, max_chars=None)  # type: ignore[arg-type]
            path = Path(room) / kind
            await build(documents, path, config)
            seconds = time.monotonic() - started
            with Index.open(path) as index:
                found.append(assess(index, queries, qrels, name=kind, seconds=seconds))
                if kind == kinds[0]:
                    name = f"{kind}, collapsed"
                    found.append(assess(index, queries, qrels, name=name, seconds=seconds, flat=True))
    return found


async def turn_over(folder: Path, *, half: str, embedder: str, limit: int) -> list[Quality]:
    """30 % of the documents replaced by others in small batches, against a rebuild of what is there in the end."""
    documents, queries, qrels = read_collection(folder, half, limit)
    shuffled = [documents[place] for place in np.random.default_rng(0).permutation(len(documents))]
    share = round(len(shuffled) * TURNOVER / (1 + TURNOVER))
    first, gone, came = shuffled[:-share], shuffled[:share], shuffled[-share:]
    final = shuffled[share:]
    config = BuildConfig(tree="bottom-up", embedder=embedder, max_chars=None)
    found = []
    with tempfile.TemporaryDirectory(prefix="branchwise-quality-") as room:
        living, rebuilt = Path(room) / "living", Path(room) / "rebuilt"
        await build(first, living, config)
        started = time.monotonic()
        for batch in range(BATCHES):
            await add(living, came[batch::BATCHES])
            await remove(living, [document.doc_id for document in gone[batch::BATCHES]])
        seconds = {living: time.monotonic() - started}
        started = time.monotonic()
        await build(final, rebuilt, config)
        seconds[rebuilt] = time.monotonic() - started
        for path, name in ((living, "after 30 % turnover"), (rebuilt, "rebuilt")):
            with Index.open(path) as index:
                found.append(assess(index, queries, qrels, name=name, seconds=seconds[path]))
    return found


def read_collection(folder: Path, half: str, limit: int) -> tuple[list[Document], list[Query], Qrels]:
    """Documents, queries and judgements; without queries, every n-th title asks for what stands beneath it."""
    if (folder / "queries.jsonl").exists():
        dataset = read_dataset(folder)
        dataset = dataset if half == "all" else dataset.half(half)
        return list(dataset.documents), list(dataset.queries[:limit]), dataset.qrels
    documents = list(read_corpus(folder / "corpus.jsonl"))
    step = max(1, len(documents) // (2 * limit))
    asked = documents[:: 2 * step] if half == "even" else documents[step :: 2 * step]
    return documents, [Query(query_id=d.doc_id, text=d.title) for d in asked if d.title][:limit], {}


def _documents(index: Index) -> dict[str, list[int]]:
    """Rows of the leaves in which each document stands."""
    rows: dict[str, list[int]] = {}
    for passage in index.iter_passages():
        row = index.tree.leaf_row[f"p:{passage.passage_id}"]
        for doc_id in {passage.doc_id, *(origin.doc_id for origin in passage.duplicates)}:
            rows.setdefault(doc_id, []).append(row)
    return rows


def _gold(query: Query, qrels: Qrels, documents: Mapping[str, Sequence[int]]) -> dict[int, int]:
    return {
        row: int(grade)
        for doc_id, grade in qrels.get(query.query_id, {}).items()
        for row in documents.get(doc_id, ())[:1]
    }


def _within(path: Walk, most: float) -> int:
    """Leaves seen before the node that would pass `most`; a walk always sees its first cluster."""
    fitting = [count for count in path.after if 0 < count <= most]
    return fitting[-1] if fitting else next((count for count in path.after if count), 0)


def _ndcg(rows: npt.NDArray[np.int64], gold: Mapping[int, int]) -> float:
    """nDCG@10 of a ranking of rows, linear gains."""
    grades = sorted(gold.values(), reverse=True)[:TOP]
    discount = 1 / np.log2(np.arange(TOP) + 2)
    ideal = float(np.dot(grades, discount[: len(grades)]))
    gains = [gold.get(row, 0) for row in rows[:TOP].tolist()]
    return float(np.dot(gains, discount[: len(gains)])) / ideal if ideal else 0.0


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if numbers else 0.0


def _line(folder: Path, quality: Quality) -> str:
    gains = "" if quality.ndcg is None else " nDCG " + " ".join(f"{v:.3f}" for v in quality.ndcg.values())
    return (
        f"{folder.name:22} {quality.name:22} found {' '.join(f'{v:.3f}' for v in quality.found.values())}{gains}"
        f" | all ten at {quality.to_all:.1%}, {quality.opened:.0f} nodes opened | {quality.leaves:,} leaves,"
        f" {quality.inner:,} inner, depth {quality.depth}, confusable {quality.confusable:.1%}, {quality.seconds:.0f} s"
    )


def main(
    folders: list[Path],
    kind: Annotated[str, typer.Option(help="A kind of tree, or all.")] = "all",
    queries: Annotated[str, typer.Option(help="even (to tune), odd (to report) or all.")] = "odd",
    embedder: str = "embedded",
    limit: Annotated[int, typer.Option(help="Queries at most.")] = 150,
    turnover: Annotated[bool, typer.Option(help="Compare 30 % turnover with a rebuild instead.")] = False,
    json_output: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print a line a tree: found and nDCG@10 (share of the reference's) at 2, 5, 10 and 20 % of the leaves judged."""
    kinds = KINDS if kind == "all" else (kind,)
    table: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        work = (
            turn_over(folder, half=queries, embedder=embedder, limit=limit)
            if turnover
            else compare(folder, kinds=kinds, half=queries, embedder=embedder, limit=limit)
        )
        found = asyncio.run(work)
        table[folder.name] = [asdict(quality) for quality in found]
        if not json_output:
            for quality in found:
                typer.echo(_line(folder, quality))
    if json_output:
        typer.echo(json.dumps(table, indent=1))


if __name__ == "__main__":
    typer.run(main)
