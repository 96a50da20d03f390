"""Every method of the benchmark under one interface and one budget: a query and a bench in, ranked documents out.

`method(name)` finds one by name: the cheap legs and their hybrids, rerankers and a raw tree walk (bench.baselines),
LATTICE and ours with each part switched off (through agent.engine, as every surface does). All get the same judge
and the same budget, and count what they spend the same way. Knows no gold. Tested in tests/bench/test_methods.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from branchwise.agent.bench import baselines
from branchwise.agent.bench.datasets import Query
from branchwise.agent.bench.spend import Purse
from branchwise.agent.bench.testbed import DEPTH, Bench, Floats, Legs
from branchwise.agent.search.config import SearchConfig, lattice, lattice_paper
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import InputError
from branchwise.stores.records import Budget, Judgement, Usage

if TYPE_CHECKING:
    from branchwise.agent.search.judge import Judge

RRF_K = 60
"""Constant of reciprocal rank fusion (Cormack et al. 2009)."""
LATTICE_FUSION = (0.6, 0.2, 0.2)
"""Weights of tree, BM25 and dense in LATTICE++ (arXiv:2510.13217v2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """What a method made of one query: leaves with scores, best first, and what it took.

    `stopped` is "decided", "budget" or "exhausted"; `judgements` are in the order in which they were made. `notes` says
    what went wrong on the way.
    """

    leaves: Sequence[tuple[str, float]]
    usage: Usage = field(default_factory=Usage)
    stopped: str = "decided"
    judgements: tuple[Judgement, ...] = ()
    notes: tuple[str, ...] = ()


Judges = Callable[[Meter], "Judge"]
"""Makes the judge of one query; what it spends, the meter counts and limits. A judge that costs nothing ignores it."""
Rank = Callable[[Bench, Query, Judges, Budget], Awaitable[Ranked]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to rank. `judged` is False where no judge is asked, so that one run serves every budget."""

    name: str
    what: str
    rank: Rank
    judged: bool = True


def method(name: str) -> Method:
    """The method of this name. Raises InputError naming those there are."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}", hint=f"methods: {', '.join(METHODS)}")
    return METHODS[name]


def _leg(score: Callable[[Legs], Floats]) -> Rank:
    async def rank(bench: Bench, query: Query, judges: Judges, budget: Budget) -> Ranked:
        legs = bench.legs(query)
        scores = score(legs)
        return Ranked(leaves=_scored(bench, scores, legs.order(scores, DEPTH)))

    return rank


def _reciprocal(legs: Legs) -> Floats:
    fused = np.zeros_like(legs.lexical)
    for leg in (legs.lexical, legs.dense):
        order = legs.order(leg, len(leg))
        fused[order] += 1 / (RRF_K + 1 + np.arange(len(order)))
    return fused


def _baseline(walk: baselines.Walk) -> Rank:
    async def rank(bench: Bench, query: Query, judges: Judges, budget: Budget) -> Ranked:
        purse = Purse(judges(Meter(budget)), bench.question(query), budget)
        leaves = await walk(bench, bench.legs(query), purse)
        return Ranked(
            leaves=leaves,
            usage=purse.usage,
            stopped=purse.stopped,
            judgements=tuple(purse.judgements),
            notes=purse.notes,
        )

    return rank


def _engine(config: SearchConfig) -> Rank:
    async def rank(bench: Bench, query: Query, judges: Judges, budget: Budget) -> Ranked:
        from branchwise.agent.engine import Engine

        engine = Engine(bench.index, judge=judges(Meter(budget)), config=config)
        result = await engine.search(bench.question(query), k=DEPTH, budget=budget, on_event=bench.on_event(query))
        return Ranked(
            leaves=[(hit.node_id, hit.score) for hit in result.hits],
            usage=sum((judgement.usage for judgement in result.judgements), Usage()),
            stopped=result.stopped,
            judgements=result.judgements,
            notes=result.notes,
        )

    return rank


def _fused(inner: Rank) -> Rank:
    """LATTICE++: the walk's scores, BM25 and dense, each scaled to 0..1, weighted .6, .2 and .2."""

    async def rank(bench: Bench, query: Query, judges: Judges, budget: Budget) -> Ranked:
        walked, legs = await inner(bench, query, judges, budget), bench.legs(query)
        found = np.zeros_like(legs.lexical)
        if walked.leaves:
            low = min(score for _, score in walked.leaves)
            high = max(score for _, score in walked.leaves)
            for leaf, score in walked.leaves:
                # The least of what the walk found still stands above what it never saw.
                found[bench.tree.leaf_row[leaf]] = (score - low + 1e-3) / (high - low + 1e-3)
        weights = LATTICE_FUSION
        scores = weights[0] * found + weights[1] * legs.scaled(legs.lexical) + weights[2] * legs.scaled(legs.dense)
        return replace(walked, leaves=_scored(bench, scores, legs.order(scores, DEPTH)))

    return rank


def _scored(bench: Bench, scores: Floats, rows: Sequence[int] | np.ndarray) -> list[tuple[str, float]]:
    return [(bench.tree.leaf_ids[row], float(scores[row])) for row in rows]


_OURS = SearchConfig()
ABLATIONS: Mapping[str, str] = {
    "calibrate": "without calibration: a node's score is the mean of what was said of it",
    "prior": "without BM25 and vectors as a prior of every leaf",
    "seeds": "without seeds: the walk starts blind at the root",
    "tree": "without the tree: the seeds are reranked and no branch is opened",
    "rescore": "without judging finalists again",
    "fuse": "without fusion with BM25 and vectors in the final order",
    "stop": "without the stop rule: the whole budget is spent",
}


def without(part: str) -> SearchConfig:
    """Ours with one part of `ABLATIONS` switched off."""
    switch: dict[str, Any] = {part: False}
    return replace(_OURS, **switch)


METHODS: Mapping[str, Method] = {
    entry.name: entry
    for entry in (
        Method(name="bm25", what="BM25 over the passages", rank=_leg(lambda legs: legs.lexical), judged=False),
        Method(name="dense", what="cosine of the index's vectors", rank=_leg(lambda legs: legs.dense), judged=False),
        Method(name="hybrid", what="mean of BM25 and cosine, min-max", rank=_leg(Legs.fused), judged=False),
        Method(name="rrf", what="reciprocal rank fusion of BM25 and cosine", rank=_leg(_reciprocal), judged=False),
        Method(
            name="collapsed",
            what="RAPTOR's collapsed tree: passages and summaries compete by cosine",
            rank=_baseline(baselines.collapsed_tree),
            judged=False,
        ),
        Method(
            name="rerank",
            what="sliding-window listwise reranking of the hybrid (window 20, stride 10, as RankGPT)",
            rank=_baseline(baselines.sliding_window),
        ),
        Method(
            name="rerank-fused",
            what="the hybrid's best in disjoint slates of 20, judge and hybrid fused .6 to .4",
            rank=_baseline(baselines.slates_fused),
        ),
        Method(
            name="setwise",
            what="setwise heapsort of the hybrid's best 100 (slates of 20)",
            rank=_baseline(baselines.setwise),
        ),
        Method(
            name="tree-raw",
            what="best-first walk by raw path scores from the root, one node a call",
            rank=_baseline(baselines.best_first),
        ),
        Method(name="lattice", what="LATTICE, as its code runs", rank=_engine(lattice())),
        Method(name="lattice-paper", what="LATTICE, as its paper tells", rank=_engine(lattice_paper())),
        Method(
            name="lattice++", what="LATTICE fused with BM25 and cosine (.6, .2, .2)", rank=_fused(_engine(lattice()))
        ),
        Method(name="branchwise", what="ours", rank=_engine(_OURS)),
        *(
            Method(name=f"branchwise-no-{part}", what=f"ours {what}", rank=_engine(without(part)))
            for part, what in ABLATIONS.items()
        ),
    )
}
BASELINES = ("bm25", "dense", "hybrid", "rerank", "rerank-fused", "setwise", "tree-raw", "lattice", "lattice++")
