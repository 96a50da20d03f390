"""The simulated judge: seeded, bounded, and as right and wrong as what was recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.agent.bench.profiles import FRONTIER, LEVELS, ORACLE, JudgeProfile, judge_profile, qwen_32b
from branchwise.agent.bench.simulate import SimulatedJudge
from branchwise.agent.search.judge import Judge
from branchwise.stores.errors import InputError
from branchwise.stores.records import Question, Slate, TreeNode
from branchwise.stores.tree import SemanticTree

QUESTION = Question(text="which?")


def tree_of(clusters: int = 8, leaves: int = 10) -> SemanticTree:
    """A root over clusters over leaves."""
    nodes = [TreeNode(node_id="n:root")]
    children: dict[str, list[str]] = {"n:root": []}
    for cluster in range(clusters):
        inner = f"n:{cluster}"
        nodes.append(TreeNode(node_id=inner))
        children["n:root"].append(inner)
        children[inner] = [f"p:{cluster}.{leaf}" for leaf in range(leaves)]
        nodes += [TreeNode(node_id=leaf, passage_id=leaf[2:]) for leaf in children[inner]]
    return SemanticTree.from_nodes(nodes, children, max_children=16)


def judge_of(profile: JudgeProfile, seed: int = 0) -> SimulatedJudge:
    """A judge whose gold is one leaf, and to which the leaves are less and less similar."""
    tree = tree_of()
    similarity = np.linspace(1, 0, len(tree.leaf_ids))
    return SimulatedJudge(tree, {QUESTION.text: {"p:2.3": 1.0}}, lambda _: similarity, profile, seed=seed)


def leaves(judge: SimulatedJudge, order: list[int] | None = None, repeat: int = 0) -> Slate:
    """The leaves of the gold's cluster, in an order."""
    ids = judge.tree.children("n:2")
    chosen = tuple(ids[place] for place in (order or range(len(ids))))
    return Slate(parent="n:2", candidate_ids=chosen, kind="leaf", repeat=repeat)


def test_it_is_a_judge_and_says_that_it_is_simulated() -> None:
    """It fits the protocol, and no output can pass its scores off as a model's."""
    judge = judge_of(FRONTIER)
    assert isinstance(judge, Judge)
    assert judge.judge_now(leaves(judge), QUESTION).judge == "simulated:frontier"


def test_the_same_slate_gets_the_same_reply_in_any_order_of_arrival() -> None:
    """Two judges, slates asked in opposite orders: slate by slate the same scores."""
    one, two = judge_of(judge_profile("flash")), judge_of(judge_profile("flash"))
    slates = [leaves(one, repeat=n) for n in range(4)]
    replies = [one.judge_now(slate, QUESTION) for slate in slates]
    assert replies == [two.judge_now(slate, QUESTION) for slate in reversed(slates)][::-1]


def test_a_repeat_is_a_fresh_draw_around_the_same_opinion() -> None:
    """Repeats differ, and over many of them the mean comes near the settled score."""
    judge = judge_of(replace(FRONTIER, company=0.0, order=0.0))
    drawn = [judge.judge_now(leaves(judge, repeat=n), QUESTION).scores["p:2.3"] for n in range(200)]
    assert len(set(drawn)) > 1
    assert np.mean([score for score in drawn if score is not None]) == pytest.approx(
        judge.settled_score("p:2.3", QUESTION.text), abs=0.03
    )


def test_a_judge_asks_only_what_it_knows() -> None:
    """A question without gold is refused, not answered as if nothing were relevant."""
    with pytest.raises(InputError, match="knows no gold"):
        judge_of(ORACLE).judge_now(Slate(parent=None, candidate_ids=("p:2.3",)), Question(text="another"))


def test_the_oracle_puts_gold_first_at_every_height() -> None:
    """Gold is 1, every other candidate lower, whatever the slate."""
    judge = judge_of(ORACLE)
    top = judge.judge_now(Slate(parent="n:root", candidate_ids=judge.tree.children("n:root")), QUESTION).scores
    below = judge.judge_now(leaves(judge), QUESTION).scores
    assert max(top, key=lambda node: top[node] or 0) == "n:2"
    assert max(below, key=lambda node: below[node] or 0) == "p:2.3"
    assert below["p:2.3"] == top["n:2"] == 1.0


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["oracle", "frontier", "flash", "32b", "32b-pony", 0.1, 0.4]),
    st.integers(0, 5),
    st.permutations(range(10)),
)
def test_scores_are_scores(dial: str | float, seed: int, order: list[int]) -> None:
    """Every candidate gets a score in [0, 1] or None, of the profile's step, and nobody else gets one."""
    profile = judge_profile(dial)
    judge = judge_of(profile, seed)
    slate = leaves(judge, list(order))
    judgement = judge.judge_now(slate, QUESTION)
    assert tuple(judgement.scores) == slate.node_ids
    for score in judgement.scores.values():
        assert score is None or 0 <= score <= 1
        if score is not None and profile.step:
            assert score / profile.step == pytest.approx(round(score / profile.step), abs=1e-6)
    assert judgement.usage.calls == 1


def test_forgotten_candidates_are_none() -> None:
    """A profile that forgets half leaves some without a score, never with 0 instead."""
    judge = judge_of(replace(ORACLE, leaf_other=(0.5,) * len(LEVELS), missing=0.5))
    scores = list(judge.judge_now(leaves(judge), QUESTION).scores.values())
    assert None in scores
    assert 0 not in scores


def test_the_spread_of_repeats_is_the_profiles() -> None:
    """Scores in the middle stray by sd_middle from one asking to the next."""
    steady = replace(ORACLE, leaf_gold=(0.5,) * len(LEVELS), sd_middle=0.1)
    judge = judge_of(steady)
    drawn = [judge.judge_now(leaves(judge, repeat=n), QUESTION).scores["p:2.3"] or 0 for n in range(400)]
    assert np.std(drawn) == pytest.approx(0.1, rel=0.15)


def test_company_and_order_move_scores() -> None:
    """Beside gold an other scores lower than among its like; the last of a slate scores lower than the first."""
    middling = replace(ORACLE, leaf_other=(0.5,) * len(LEVELS))
    near = judge_of(replace(middling, company=0.2))
    beside = near.judge_now(Slate(parent=None, candidate_ids=("p:1.1", "p:2.3"), kind="leaf"), QUESTION).scores
    alone = near.judge_now(Slate(parent=None, candidate_ids=("p:1.1", "p:1.2"), kind="leaf"), QUESTION).scores
    assert (beside["p:1.1"] or 0) < (alone["p:1.1"] or 0)
    ordered = judge_of(replace(middling, order=0.1))
    scores = ordered.judge_now(Slate(parent=None, candidate_ids=("p:1.1", "p:1.2"), kind="leaf"), QUESTION).scores
    assert (scores["p:1.1"] or 0) > (scores["p:1.2"] or 0)


@pytest.mark.parametrize("subset", ["all", "biology", "theoremqa_questions"])
def test_32b_scores_with_the_recorded_shares(subset: str) -> None:
    """Settled scores of relevant candidates, rounded to fifths, fall as the 32B model's did."""
    from branchwise.agent.bench.profiles import SHARES_32B

    profile = replace(qwen_32b(subset), similarity_gold=0.0)
    levels = (np.arange(20_000) + 0.5) / 20_000
    rounded = np.round(np.interp(levels, LEVELS, profile.leaf_gold) / 0.2).astype(int)
    shares = np.bincount(rounded, minlength=6) / len(rounded)
    wanted = np.array(SHARES_32B[subset][0]) / sum(SHARES_32B[subset][0])
    assert np.abs(shares - wanted).max() < 0.06


def test_an_unknown_dial_names_what_there_is() -> None:
    """The message lists the profiles."""
    with pytest.raises(InputError, match="32b"):
        judge_profile("gpt-9")
