"""The walk: what it asks, when it stops, and that the order of replies does not matter."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from branchwise.agent.search.config import SearchConfig, lattice
from branchwise.stores.errors import BudgetSpent, ModelUnavailable
from branchwise.stores.records import Budget, Judgement, Question, Slate

sys.path.insert(0, str(Path(__file__).parent))
from worlds import Oracle, make_tree, prior_for, search

TREE = make_tree()
GOLD = frozenset({"p:2.1.3"})


async def test_strong_judge_needs_a_handful() -> None:
    """With an oracle the gold passage is first, and the search stops by itself long before LATTICE's 39 calls."""
    found = await search(TREE, Oracle(TREE, GOLD), prior_for(TREE, {"p:0.0.0": 1.0, "p:2.1.0": 0.6}))
    assert found.ranked[0].node_id == "p:2.1.3"
    assert found.stopped == "decided"
    assert found.calls <= 8


async def test_blind_search_finds_by_the_tree_alone() -> None:
    """Without seeds and prior the branches alone lead to the gold cluster: root, branch, cluster."""
    config = SearchConfig(seeds=False, prior=False)
    found = await search(TREE, Oracle(TREE, GOLD), prior_for(TREE, {}), config)
    parents = [payload["parent"] for kind, payload in found.steps if kind == "slate"]
    assert parents[:3] == ["n:root", "n:2", "n:2.1"]


async def test_no_calls_gives_the_hybrid_ranking() -> None:
    """With max_calls=0 nobody is asked, and the ranking is that of BM25 and the vectors."""
    likes = {"p:0.0.0": 1.0, "p:1.1.1": 0.8, "p:3.3.3": 0.5}
    judge = Oracle(TREE, GOLD)
    found = await search(TREE, judge, prior_for(TREE, likes), budget=Budget(max_calls=0))
    assert judge.asked == []
    assert [leaf.node_id for leaf in found.ranked[:3]] == list(likes)
    assert found.stopped == "budget"


@pytest.mark.parametrize("calls", [1, 2, 5])
async def test_budget_is_never_passed(calls: int) -> None:
    """No more slates are judged than the budget allows, and there is a ranking all the same."""
    judge = Oracle(TREE, GOLD, noise=0.2)
    found = await search(TREE, judge, prior_for(TREE, {"p:0.0.0": 1.0}), budget=Budget(max_calls=calls))
    assert len(judge.asked) == calls
    assert found.stopped == "budget"
    assert found.ranked


@given(delays=st.lists(st.sampled_from([0.0, 0.0, 0.002, 0.01]), min_size=8, max_size=8), wide=st.integers(1, 4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_order_of_arrival_does_not_matter(delays: list[float], wide: int) -> None:
    """The same replies give the same steps, byte for byte, however long each of them takes."""
    config = SearchConfig(in_flight=wide)
    prior = prior_for(TREE, {"p:0.0.0": 1.0, "p:1.2.0": 0.7, "p:2.1.0": 0.6})
    at_once = await search(TREE, Oracle(TREE, GOLD, noise=0.1), prior, config)
    late = await search(TREE, Oracle(TREE, GOLD, noise=0.1, delays=dict(enumerate(delays))), prior, config)
    assert json.dumps(at_once.steps) == json.dumps(late.steps)
    assert at_once.ranked == late.ranked


async def test_order_within_the_tree_does_not_matter_to_an_oracle() -> None:
    """An oracle's gold comes first wherever it stands."""
    for gold in ("p:0.0.0", "p:3.3.7", "p:1.2.4"):
        found = await search(TREE, Oracle(TREE, frozenset({gold})), prior_for(TREE, {"p:2.2.2": 1.0}))
        assert found.ranked[0].node_id == gold


async def test_hidden_leaves_never_reach_a_slate() -> None:
    """What may not be seen is in no slate, no ranking, and a branch with nothing else is not opened."""
    hidden = frozenset(leaf for leaf in TREE.leaf_ids if leaf.startswith("p:2."))
    judge = Oracle(TREE, GOLD)
    found = await search(TREE, judge, prior_for(TREE, {"p:0.0.0": 1.0}, hidden=hidden))
    shown = {node_id for slate in judge.asked for node_id in slate.node_ids}
    assert not shown & (hidden | {"n:2", "n:2.0", "n:2.1", "n:2.2", "n:2.3"})
    assert not {leaf.node_id for leaf in found.ranked} & hidden


async def test_no_node_is_its_own_anchor() -> None:
    """Anchors are never among the candidates, nor the node whose children are judged."""
    judge = Oracle(TREE, frozenset({"p:2.1.3", "p:2.2.0", "p:0.1.1"}), noise=0.15)
    await search(TREE, judge, prior_for(TREE, {"p:0.0.0": 1.0, "p:0.1.1": 0.9}), budget=Budget(max_calls=30))
    for slate in judge.asked:
        assert not set(slate.anchor_ids) & {*slate.candidate_ids, slate.parent}
        assert len(set(slate.node_ids)) == len(slate.node_ids)


async def test_slates_are_of_one_kind() -> None:
    """A slate holds leaves or clusters, never both."""
    judge = Oracle(TREE, GOLD, noise=0.2)
    await search(TREE, judge, prior_for(TREE, {"p:0.0.0": 1.0}), budget=Budget(max_calls=25))
    for slate in judge.asked:
        assert {TREE.is_leaf(node_id) for node_id in slate.node_ids} == {slate.kind == "leaf"}


async def test_noisy_judge_is_asked_more() -> None:
    """A judge that contradicts itself gets more calls than one that does not, and is measured as noisier."""
    prior = prior_for(TREE, {f"p:{b}.0.0": 0.5 + b / 10 for b in range(4)})
    calls, noise = {}, {}
    for stray in (0.0, 0.25, 0.35):
        golds = [frozenset({f"p:{b}.1.3", f"p:{(b + 1) % 4}.2.1"}) for b in range(4)]
        found = [
            await search(TREE, Oracle(TREE, gold, noise=stray), prior, budget=Budget(max_calls=60)) for gold in golds
        ]
        calls[stray] = sum(each.calls for each in found)
        noise[stray] = sum(each.state.judge["leaf"][0] for each in found)
    assert calls[0.0] < calls[0.25] < calls[0.35]
    assert calls[0.35] > 1.3 * calls[0.0]
    assert noise[0.0] < noise[0.25] < noise[0.35]
    assert noise[0.35] > 3 * noise[0.0]


async def test_unrated_is_unknown() -> None:
    """A candidate that the judge leaves out has no score, and is not ranked as if it had none."""

    class Silent(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            judgement = await super().judge(slate, question)
            return Judgement(slate=slate, scores={**judgement.scores, "p:0.0.0": None}, judge=self.name)

    found = await search(TREE, Silent(TREE, GOLD), prior_for(TREE, {"p:0.0.0": 1.0, "p:0.0.1": 0.9}))
    assert found.state.latent("p:0.0.0") is None
    assert found.state.local("p:0.0.0") is None


async def test_failure_on_the_way_keeps_what_was_learnt() -> None:
    """A judge that dies after two slates leaves a ranking made of these two, marked as cut short."""

    class Dying(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            if len(self.asked) == 2:
                raise ModelUnavailable("the server is gone")
            return await super().judge(slate, question)

    found = await search(TREE, Dying(TREE, GOLD, noise=0.1), prior_for(TREE, {"p:0.0.0": 1.0}))
    assert found.calls == 2
    assert found.stopped == "budget"


async def test_failure_at_once_is_raised() -> None:
    """A judge that never answers is an error, not an empty result."""

    class Dead(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            raise ModelUnavailable("nobody there")

    with pytest.raises(ModelUnavailable, match="nobody there"):
        await search(TREE, Dead(TREE, GOLD), prior_for(TREE, {"p:0.0.0": 1.0}))


async def test_spent_meter_ends_the_walk_cleanly() -> None:
    """A judge that may not spend more ends the walk as a spent budget does."""

    class Poor(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            if len(self.asked) == 1:
                raise BudgetSpent("no more")
            return await super().judge(slate, question)

    found = await search(TREE, Poor(TREE, GOLD, noise=0.1), prior_for(TREE, {"p:0.0.0": 1.0}))
    assert (found.calls, found.stopped) == (1, "budget")


async def test_deadline_cuts_a_hanging_call() -> None:
    """A call that hangs past the deadline is given up; what was heard before stays."""
    judge = Oracle(TREE, GOLD, noise=0.1, delays={1: 30.0})
    found = await search(TREE, judge, prior_for(TREE, {"p:0.0.0": 1.0}), budget=Budget(max_seconds=2))
    assert found.stopped == "budget"
    assert 0 in found.state.judgements
    assert 1 in found.state.withdrawn


@pytest.mark.parametrize("part", ["calibrate", "prior", "seeds", "tree", "rescore", "fuse", "stop"])
async def test_every_part_can_be_switched_off(part: str) -> None:
    """Each ablation still finds the gold of an oracle within 40 calls, or what its legs can see of it."""
    config = SearchConfig(**{part: False})
    likes = {"p:2.1.3": 0.2, "p:0.0.0": 1.0} if part == "tree" else {"p:0.0.0": 1.0}
    found = await search(TREE, Oracle(TREE, GOLD), prior_for(TREE, likes), config, budget=Budget(max_calls=40))
    assert found.ranked[0].node_id == "p:2.1.3"


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
async def test_more_budget_never_loses_a_judged_leaf(seed: int) -> None:
    """A search that goes on keeps every leaf it had read, and reads the same ones first."""
    gold = frozenset({TREE.leaf_ids[seed % len(TREE.leaf_ids)]})
    prior = prior_for(TREE, {TREE.leaf_ids[(seed * 7 + i) % len(TREE.leaf_ids)]: 1 - i / 9 for i in range(6)})
    short = await search(TREE, Oracle(TREE, gold, noise=0.1), prior, budget=Budget(max_calls=3))
    long = await search(TREE, Oracle(TREE, gold, noise=0.1), prior, budget=Budget(max_calls=6))
    assert set(short.state.judged_leaves()) <= set(long.state.judged_leaves())
    assert long.state.slates[: len(short.state.slates)] == short.state.slates


@given(scores=st.lists(st.floats(0, 1), min_size=40, max_size=40))
@settings(max_examples=25, deadline=None)
async def test_scores_and_paths_stay_in_range(scores: list[float]) -> None:
    """Whatever a judge says, latent scores, paths and final scores are in [0, 1]."""

    class Random(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            self.asked.append(slate)
            values = {n: scores[(i * 7 + len(self.asked)) % 40] for i, n in enumerate(slate.node_ids)}
            return Judgement(slate=slate, scores=values, judge="random")

    found = await search(TREE, Random(TREE, GOLD), prior_for(TREE, {"p:0.0.0": 1.0}), budget=Budget(max_calls=8))
    for node_id in (*found.state.judged_leaves(), *found.state.judged_clusters()):
        latent, path = found.state.latent(node_id), found.state.path(node_id)
        assert latent is not None
        assert path is not None
        assert 0 <= latent.theta <= 1
        assert 0 <= path <= 1
    assert all(0 <= leaf.score <= 1 for leaf in found.ranked)


async def test_empty_tree_has_nothing_to_ask() -> None:
    """A collection without passages ends at once, exhausted, with no call and no hit."""
    tree = make_tree(0)
    found = await search(tree, Oracle(tree, frozenset()), prior_for(tree, {}))
    assert (found.calls, found.ranked, found.stopped) == (0, [], "exhausted")


def test_lattice_never_seeds() -> None:
    """The faithful mode starts blind, as published."""
    config = lattice()
    assert not any((config.seeds, config.prior, config.fuse, config.rescore, config.stop))


async def test_a_failed_slate_loses_nothing() -> None:
    """The leaves of a slate that was never answered are ranked as if they had never been asked about."""
    likes = {"p:0.0.0": 1.0, "p:1.1.1": 0.8, "p:3.3.3": 0.5}

    class Poor(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            raise BudgetSpent("no more")

    unasked = await search(TREE, Oracle(TREE, GOLD), prior_for(TREE, likes), budget=Budget(max_calls=0))
    failed = await search(TREE, Poor(TREE, GOLD), prior_for(TREE, likes))
    assert [leaf.node_id for leaf in failed.ranked[:3]] == [leaf.node_id for leaf in unasked.ranked[:3]] == list(likes)
    assert not any(leaf.judged for leaf in failed.ranked)
