"""Ranked leaves as hits: the passage, the path that led to it with its scores, and the judge's reason.

Tested in tests/agent/test_hits.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from branchwise.agent.search.fuse import Ranked
from branchwise.agent.search.state import SearchState
from branchwise.stores.index import satisfies
from branchwise.stores.records import Hit, Metadata, Origin, Passage, Question, Step

if TYPE_CHECKING:
    from branchwise.stores.index import Index


def make_hits(index: Index, question: Question, state: SearchState, ranked: Sequence[Ranked]) -> tuple[Hit, ...]:
    """A hit for each ranked leaf, in order, ranks from 1."""
    tree = index.tree
    ids = {leaf.node_id: tree.node(leaf.node_id).passage_id or "" for leaf in ranked}
    passages = index.passages(list(ids.values()))
    hits = []
    for rank, leaf in enumerate(ranked, start=1):
        row = tree.leaf_row[leaf.node_id]
        latent = state.latent(leaf.node_id)
        signals = {"bm25": float(state.prior.lexical[row]), "dense": float(state.prior.dense[row])}
        if latent is not None:
            signals["tree"] = latent.theta
        passage = _in_sight(index, question, passages[ids[leaf.node_id]])
        *above, last = (_step(state, node_id) for node_id in tree.path_to(leaf.node_id))
        hits.append(
            Hit(
                passage=passage,
                score=min(1.0, max(0.0, leaf.score)),
                rank=rank,
                node_id=leaf.node_id,
                steps=(*above, replace(last, title=passage.title) if passage.passage_id != ids[leaf.node_id] else last),
                reason=state.reason(leaf.node_id),
                judged=leaf.judged,
                signals=signals,
            )
        )
    return tuple(hits)


def _step(state: SearchState, node_id: str) -> Step:
    latent = state.latent(node_id)
    return Step(
        node_id=node_id,
        title=state.tree.node(node_id).title,
        local=state.local(node_id),
        calibrated=latent.theta if latent else None,
        path=state.path(node_id),
    )


def _in_sight(index: Index, question: Question, passage: Passage) -> Passage:
    """The passage under the name that the question may see: where its first place is hidden, that of a duplicate."""
    hidden, filters = question.excluded_ids, question.filters
    if not hidden and not filters:
        return passage

    def may_be_seen(place: Passage | Origin, metadata: Metadata) -> bool:
        return place.passage_id not in hidden and place.doc_id not in hidden and satisfies(metadata, filters)

    seen = [o for o in passage.duplicates if may_be_seen(o, index.document(o.doc_id).metadata)]
    if may_be_seen(passage, passage.metadata or index.document(passage.doc_id).metadata):
        return replace(passage, duplicates=tuple(seen))
    return _standing_at(index, seen[0], passage, tuple(seen[1:]))


def _standing_at(index: Index, origin: Origin, passage: Passage, others: tuple[Origin, ...]) -> Passage:
    document = index.document(origin.doc_id)
    return replace(
        passage,
        passage_id=origin.passage_id,
        doc_id=origin.doc_id,
        text=document.text[origin.start : origin.end],
        start=origin.start,
        end=origin.end,
        title=document.title,
        page=origin.page,
        metadata=document.metadata,
        duplicates=others,
    )
