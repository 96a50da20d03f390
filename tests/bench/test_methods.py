"""Every method: within its budget, blind to what is excluded, the same each time, and right under an oracle."""

from __future__ import annotations

import asyncio

import pytest

from branchwise.agent.bench.datasets import Dataset, Query
from branchwise.agent.bench.measure import measure
from branchwise.agent.bench.methods import ABLATIONS, METHODS, Judges, Ranked, method, without
from branchwise.agent.bench.spend import Purse
from branchwise.agent.bench.testbed import Bench, simulated
from branchwise.agent.search.config import SearchConfig
from branchwise.stores.errors import BudgetSpent, InputError, ModelUnavailable
from branchwise.stores.records import Budget, Judgement, Question, Slate, Usage


def judges(bench: Bench, dial: str | float = "oracle") -> Judges:
    """A simulated judge for every query."""
    judge = simulated(bench, dial)
    return lambda meter: judge


def rank(bench: Bench, name: str, calls: int, dial: str | float = "oracle", query: int = 0) -> Ranked:
    """What a method makes of one query."""
    entry = method(name)
    return asyncio.run(entry.rank(bench, bench.dataset.queries[query], judges(bench, dial), Budget(max_calls=calls)))


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_is_never_passed_and_what_is_excluded_never_seen(bench: Bench, name: str) -> None:
    """At 0, 1 and 7 calls: no more slates than allowed, no excluded leaf in a slate or a ranking, no leaf twice."""
    query = bench.dataset.queries[0]
    hidden = {leaf for doc_id in query.excluded_ids for leaf in bench.leaves_of[doc_id]}
    assert hidden
    for calls in (0, 1, 7):
        ranked = rank(bench, name, calls, "flash")
        leaves = [leaf for leaf, _ in ranked.leaves]
        assert len(ranked.judgements) <= calls
        assert ranked.usage.calls == sum(judgement.usage.calls for judgement in ranked.judgements)
        assert len(leaves) == len(set(leaves))
        assert not hidden & {*leaves, *(node for j in ranked.judgements for node in j.slate.node_ids)}
        scores = [score for _, score in ranked.leaves]
        assert scores == sorted(scores, reverse=True) or name.startswith(("lattice", "branchwise"))


@pytest.mark.parametrize(
    "name", ["rerank", "rerank-fused", "setwise", "tree-raw", "lattice", "lattice++", "branchwise"]
)
def test_the_same_judge_gives_the_same_ranking(bench: Bench, name: str) -> None:
    """Run twice, slate by slate and leaf by leaf the same."""
    one, two = rank(bench, name, 6, "flash"), rank(bench, name, 6, "flash")
    assert one.leaves == two.leaves
    assert [j.slate for j in one.judgements] == [j.slate for j in two.judgements]


@pytest.mark.parametrize("name", ["rerank", "rerank-fused", "setwise", "tree-raw", "lattice", "branchwise"])
def test_an_oracle_lifts_every_judged_method_above_the_hybrid(bench: Bench, name: str) -> None:
    """With a judge that is never wrong and 12 calls, each method beats the ranking that it starts from."""

    def quality(of: str) -> float:
        rankings = {}
        for place, query in enumerate(bench.dataset.queries):
            rankings[query.query_id] = [
                d for d, _ in bench.as_documents(rank(bench, of, 12, query=place).leaves, query)
            ]
        return measure(rankings, bench.dataset.qrels).mean["nDCG@10"]

    assert quality(name) > quality("hybrid") + 0.1


def test_ablations_switch_one_part_each() -> None:
    """Each differs from ours in the one switch that it names."""
    ours = SearchConfig()
    for part in ABLATIONS:
        ablated = without(part)
        differing = [name for name in ours.__slots__ if getattr(ours, name) != getattr(ablated, name)]
        assert differing == [part]


def test_an_unknown_method_names_those_there_are() -> None:
    """The message lists the methods."""
    with pytest.raises(InputError, match="lattice-paper"):
        method("magic")


def test_a_purse_refuses_the_call_that_would_pass_its_tokens(bench: Bench) -> None:
    """After one call of about 200 tokens a limit of 300 leaves no room for a second."""
    purse = Purse(_Fixed(), Question(text="?"), Budget(max_tokens=300))
    slate = Slate(parent=None, candidate_ids=("p:1",), kind="leaf")
    asyncio.run(purse.ask(slate))
    with pytest.raises(BudgetSpent):
        asyncio.run(purse.ask(slate))
    assert purse.stopped == "budget"
    assert purse.usage.input_tokens == 200


def test_a_judge_that_fails_later_leaves_what_was_bought(bench: Bench) -> None:
    """The second call fails: the ranking of the first stands, the failure is noted, not hidden."""
    failing = _Fixed(fail_after=1, inner=simulated(bench, "oracle"))
    query = bench.dataset.queries[1]
    ranked = asyncio.run(method("rerank-fused").rank(bench, query, lambda meter: failing, Budget(max_calls=5)))
    assert len(ranked.judgements) == 1
    assert ranked.notes == ("the server is down",)
    assert ranked.leaves


def test_a_judge_that_never_answers_is_an_error(bench: Bench) -> None:
    """Nothing was heard: a failure, and no ranking that looks like a result."""
    failing = _Fixed(fail_after=0)
    with pytest.raises(ModelUnavailable):
        asyncio.run(method("rerank").rank(bench, bench.dataset.queries[1], lambda meter: failing, Budget(max_calls=5)))


def test_an_index_of_other_documents_is_refused(bench: Bench) -> None:
    """Qrels of another collection: nothing could be found, and that is said at once."""
    other = Dataset(name="other", queries=(Query(query_id="q", text="?"),), qrels={"q": {"unknown": 1}})
    with pytest.raises(InputError, match="none of the documents that other judges"):
        Bench(bench.index, other)


class _Fixed:
    """Scores everything .5 for 200 tokens; fails after some calls."""

    name = "fixed"
    max_slate = 40

    def __init__(self, fail_after: int = 100, inner: object = None) -> None:
        self.left = fail_after
        self.inner = inner

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        if self.left == 0:
            raise ModelUnavailable("the server is down")
        self.left -= 1
        scores = dict.fromkeys(slate.node_ids, 0.5)
        return Judgement(slate=slate, scores=scores, usage=Usage(calls=1, input_tokens=200), judge=self.name)
