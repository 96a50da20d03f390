"""Quality of a run, by ir-measures: nDCG@10, Recall@10, Recall@100, MRR and MAP, a query and on average.

A query that has gold and is missing from the run counts as zero: it is never dropped from the average. A query without
gold cannot be measured and is left out, by name (`Measured.unjudged`). Knows nothing of methods or datasets.
Tested in tests/bench/test_measure.py, among others against figures that BRIGHT's authors published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from branchwise.stores.errors import InputError

Qrels = Mapping[str, Mapping[str, int]]
"""Grades by query id and document id; a grade above 0 is relevant."""
Rankings = Mapping[str, Sequence[str]]
"""Document ids by query id, best first, each at most once."""

METRICS = ("nDCG@10", "R@10", "R@100", "MRR", "MAP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Metrics in [0, 1]: `mean` over all queries with gold, `per_query` by query id and metric.

    `missing` are the queries with gold that the run does not hold (they count as zero), `unjudged` those in the run
    for which no gold is known (they count nowhere).
    """

    mean: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()


def measure(rankings: Rankings, qrels: Qrels) -> Measured:
    """Compare `rankings` with `qrels`. Raises InputError where a ranking lists a document twice."""
    judged = {query: grades for query, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    if not judged:
        raise InputError("the qrels hold no relevant document, so nothing can be measured")
    per_query = {query: dict.fromkeys(METRICS, 0.0) for query in judged}
    for value in provider().iter_calc(_measures(), dict(judged), _scored(rankings, judged)):
        per_query[value.query_id][_NAMES[str(value.measure)]] = float(value.value)
    mean = {name: sum(values[name] for values in per_query.values()) / len(per_query) for name in METRICS}
    missing = tuple(query for query in judged if not rankings.get(query))
    unjudged = tuple(query for query in rankings if query not in judged)
    return Measured(mean=mean, per_query=per_query, missing=missing, unjudged=unjudged)


_NAMES = {"nDCG@10": "nDCG@10", "R@10": "R@10", "R@100": "R@100", "RR": "MRR", "AP": "MAP"}


def _scored(rankings: Rankings, judged: Qrels) -> dict[str, dict[str, float]]:
    """Ranks as falling scores, so that trec_eval's own breaking of ties never reorders a run."""
    scored: dict[str, dict[str, float]] = {}
    for query, ranking in rankings.items():
        if len(set(ranking)) != len(ranking):
            twice = next(document for document in ranking if list(ranking).count(document) > 1)
            raise InputError(f"the run lists document {twice!r} twice for query {query!r}")
        if query in judged and ranking:
            scored[query] = {document: float(len(ranking) - place) for place, document in enumerate(ranking)}
    return scored


def provider() -> Any:
    """The package that measures. Raises InputError where it is not installed."""
    try:
        import ir_measures
    except ImportError as error:
        raise InputError("measuring needs ir-measures", hint="pip install 'branchwise[bench]'") from error
    return ir_measures


def _measures() -> list[Any]:
    return [provider().parse_measure(name) for name in _NAMES]
