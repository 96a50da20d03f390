"""Fates of gold and reliability of a judge, on a small tree by hand."""

from __future__ import annotations

import pytest

from branchwise.agent.bench.diagnose import fates, first_read, reliability
from branchwise.stores.records import Judgement, Slate, TreeNode
from branchwise.stores.tree import SemanticTree


@pytest.fixture
def tree() -> SemanticTree:
    """root -> a (p:1, p:2), b (p:3)."""
    nodes = [TreeNode(node_id=node) for node in ("n:root", "n:a", "n:b")]
    nodes += [TreeNode(node_id=f"p:{number}", passage_id=str(number)) for number in (1, 2, 3)]
    children = {"n:root": ["n:a", "n:b"], "n:a": ["p:1", "p:2"], "n:b": ["p:3"]}
    return SemanticTree.from_nodes(nodes, children, max_children=4)


def judged(kind: str, **scores: float | None) -> Judgement:
    """A judgement whose node ids are written with _ for the colon."""
    named = {node.replace("_", ":"): score for node, score in scores.items()}
    return Judgement(slate=Slate(parent=None, candidate_ids=tuple(named), kind=kind), scores=named)  # type: ignore[arg-type]


def test_each_fate_is_told_apart(tree: SemanticTree) -> None:
    """Found, read but ranked low, read but judged low, and never read below a branch that was judged."""
    filler = [f"x{number}" for number in range(10)]
    judgements = [judged("inner", n_a=0.9, n_b=0.2), judged("leaf", p_1=0.8, p_2=0.1)]
    gold = {"1": ["p:1"], "2": ["p:2"], "3": ["p:3"]}
    found = {loss.document: loss for loss in fates(tree, judgements, ["1", *filler], gold)}
    assert [found[d].fate for d in "123"] == ["found", "judged low", "never read"]
    assert (found["3"].level, found["3"].score) == (1, 0.2)
    late = {loss.document: loss for loss in fates(tree, judgements, [*filler, "1"], gold)}
    assert (late["1"].fate, late["1"].level, late["1"].score) == ("ranked low", 2, 0.8)


def test_no_score_is_not_a_low_score(tree: SemanticTree) -> None:
    """A leaf that its slate forgot was never read; a later score counts."""
    forgot = judged("leaf", p_1=None)
    assert fates(tree, [forgot], [], {"1": ["p:1"]})[0].fate == "never read"
    again = fates(tree, [forgot, judged("leaf", p_1=0.7)], [], {"1": ["p:1"]})[0]
    assert (again.fate, again.score) == ("ranked low", 0.7)


def test_reliability_counts_gold_by_score(tree: SemanticTree) -> None:
    """Scores fall into tenths; an inner node is right when gold lies beneath."""
    tables = reliability(tree, [judged("inner", n_a=0.92, n_b=0.1), judged("leaf", p_1=0.9, p_2=None)], ["p:1"])
    assert tables["inner"][9] == [1, 1]
    assert tables["inner"][1] == [1, 0]
    assert tables["leaf"][9] == [1, 1]
    assert sum(count for count, _ in tables["leaf"]) == 1


def test_the_first_slate_with_gold_is_counted_from_one(tree: SemanticTree) -> None:
    """Inner nodes do not count; none is None."""
    slates = [judged("inner", n_a=0.9), judged("leaf", p_3=0.1), judged("leaf", p_1=None)]
    assert first_read(slates, ["p:1"]) == 3
    assert first_read(slates, ["p:2"]) is None
