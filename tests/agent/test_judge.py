"""The embedded judge."""

from __future__ import annotations

from branchwise import Collection, Question
from branchwise.agent.search.judge import EmbeddedJudge, Judge
from branchwise.stores.records import Slate

ASKED = Question(text="how do bees tell where flowers are?")


async def test_scores_are_in_range_and_sensible(collection: Collection) -> None:
    """Every node gets a score in [0, 1], and the passage that answers gets the highest."""
    judge = EmbeddedJudge(collection.index)
    leaves = collection.tree.leaf_ids
    judgement = await judge.judge(Slate(parent=None, candidate_ids=leaves, kind="leaf"), ASKED)
    scores = {node_id: score for node_id, score in judgement.scores.items() if score is not None}
    assert len(scores) == len(leaves)
    assert all(0 <= score <= 1 for score in scores.values())
    assert max(scores, key=scores.__getitem__) == "p:bees-0"
    assert judgement.usage.calls == 0


async def test_company_changes_nothing(collection: Collection) -> None:
    """A node scores the same alone and among others."""
    judge = EmbeddedJudge(collection.index)
    one = await judge.judge(Slate(parent=None, candidate_ids=("p:bees-0",), kind="leaf"), ASKED)
    many = await judge.judge(Slate(parent=None, candidate_ids=("p:bread-1", "p:bees-0"), kind="leaf"), ASKED)
    assert one.scores["p:bees-0"] == many.scores["p:bees-0"]


async def test_branches_are_read_by_their_own_text(collection: Collection) -> None:
    """Of the branches, the one that holds the answer scores best."""
    judge = EmbeddedJudge(collection.index)
    tree = collection.tree
    clusters = tuple(node_id for node_id in tree.inner_ids if tree.height(node_id) == 1)
    judgement = await judge.judge(Slate(parent=tree.root_id, candidate_ids=clusters), ASKED)
    best = max(clusters, key=lambda node_id: judgement.scores[node_id] or 0.0)
    assert any(leaf.startswith("p:bees") for leaf in tree.leaves(best))


def test_is_a_judge(collection: Collection) -> None:
    """It can stand wherever a model's judge can."""
    assert isinstance(EmbeddedJudge(collection.index), Judge)
