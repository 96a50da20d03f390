"""Ranked leaves as hits: the passage, the path that led to it with its scores, and the judge's reason.

Tested in tests/agent/test_hits.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from branchwise.agent.search.fuse import Ranked
from branchwise.agent.search.sight import Sight
from branchwise.agent.search.state import SearchState
from branchwise.stores.records import Hit, Question, Step

if TYPE_CHECKING:
    from branchwise.stores.index import Index


def make_hits(index: Index, question: Question, state: SearchState, ranked: Sequence[Ranked]) -> tuple[Hit, ...]:
    """A hit for each ranked leaf, in order, ranks from 1."""
    tree = index.tree
    ids = {leaf.node_id: tree.node(leaf.node_id).passage_id or "" for leaf in ranked}
    passages = index.passages(list(ids.values()))
    sight = Sight(index, question)
    hits = []
    for rank, leaf in enumerate(ranked, start=1):
        row = tree.leaf_row[leaf.node_id]
        latent = state.latent(leaf.node_id)
        signals = {"bm25": float(state.prior.lexical[row]), "dense": float(state.prior.dense[row])}
        if latent is not None:
            signals["tree"] = latent.theta
        passage = sight.named(passages[ids[leaf.node_id]])
        assert passage is not None  # noqa: S101  # only leaves that may be seen are ranked
        hits.append(
            Hit(
                passage=passage,
                score=min(1.0, max(0.0, leaf.score)),
                rank=rank,
                node_id=leaf.node_id,
                steps=tuple(_step(sight, state, node_id) for node_id in tree.path_to(leaf.node_id)),
                reason=state.reason(leaf.node_id),
                judged=leaf.judged,
                signals=signals,
            )
        )
    return tuple(hits)


def _step(sight: Sight, state: SearchState, node_id: str) -> Step:
    latent = state.latent(node_id)
    return Step(
        node_id=node_id,
        title=sight.title(node_id),
        local=state.local(node_id),
        calibrated=latent.theta if latent else None,
        path=state.path(node_id),
    )
