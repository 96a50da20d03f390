"""Metrics: against published figures, and in the corners."""

from __future__ import annotations

from pathlib import Path

import pytest

from branchwise.agent.bench.measure import measure
from branchwise.agent.bench.trec import read_qrels, read_run
from branchwise.stores.errors import InputError

PUBLISHED = {
    "biology": 43.5,
    "economics": 32.7,
    "psychology": 39.6,
    "robotics": 20.8,
    "pony": 19.6,
    "theoremqa_questions": 33.9,
}


@pytest.mark.parametrize(("subset", "expected"), PUBLISHED.items())
def test_reasonir_rankings_give_the_published_figures(shared: Path, subset: str, expected: float) -> None:
    """nDCG@10 of ReasonIR-8B's recorded rankings is what its authors report, to the digit they print."""
    folder = shared / "data" / "bright_meta" / subset
    run = read_run(folder / "runs" / "reasonir8b_gpt4cot_top100.trec.gz")
    qrels = read_qrels(folder / "qrels" / "test.tsv")
    measured = measure({query: [doc for doc, _ in ranking] for query, ranking in run.items()}, qrels)
    assert measured.mean["nDCG@10"] * 100 == pytest.approx(expected, abs=0.06)


def test_a_query_that_the_run_lacks_counts_as_zero() -> None:
    """Two queries, one answered perfectly, one missing: every mean is one half."""
    measured = measure({"a": ["x"]}, {"a": {"x": 1}, "b": {"y": 1}})
    assert measured.mean == dict.fromkeys(measured.mean, 0.5)
    assert measured.missing == ("b",)


def test_an_empty_ranking_is_a_missing_one() -> None:
    """A query that was run and found nothing counts as zero and is named."""
    measured = measure({"a": []}, {"a": {"x": 1}})
    assert measured.mean["MRR"] == 0
    assert measured.missing == ("a",)


def test_unjudged_queries_count_nowhere() -> None:
    """A query without gold neither helps nor hurts, and is named."""
    measured = measure({"a": ["x"], "z": ["x"]}, {"a": {"x": 1}, "n": {"x": 0}})
    assert measured.mean["nDCG@10"] == 1
    assert measured.unjudged == ("z",)


def test_the_order_of_the_ranking_is_kept() -> None:
    """The second of two documents gives MRR .5 and nDCG 1 / log2(3), whatever the ids are called."""
    for first, second in (("a", "z"), ("z", "a")):
        measured = measure({"q": [first, second]}, {"q": {second: 1}})
        assert measured.mean["MRR"] == 0.5
        assert measured.mean["nDCG@10"] == pytest.approx(0.6309, abs=1e-4)


def test_a_document_listed_twice_is_refused() -> None:
    """A ranking that holds a document twice would be measured wrongly."""
    with pytest.raises(InputError, match="'x' twice for query 'a'"):
        measure({"a": ["x", "x"]}, {"a": {"x": 1}})


def test_qrels_without_gold_are_refused() -> None:
    """Nothing relevant: nothing to measure, and no zero that looks like a result."""
    with pytest.raises(InputError, match="no relevant document"):
        measure({"a": ["x"]}, {"a": {"x": 0}})
