"""The synthetic world: sound trees of any size, the same each time, hard but not hopeless for words alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from branchwise.agent.bench.measure import measure
from branchwise.agent.bench.world import synthetic_world, write_index
from branchwise.stores.errors import InputError
from branchwise.stores.index import Index
from branchwise.stores.lexical import LexicalIndex


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 400), st.integers(2, 16), st.integers(0, 3))
@example(leaves=19, fan_out=2, seed=2)
def test_every_world_is_sound(leaves: int, fan_out: int, seed: int) -> None:
    """A tree without a broken invariant, as many leaves as asked, and gold that exists for every question."""
    world = synthetic_world(n_leaves=leaves, n_queries=3, max_children=fan_out, seed=seed)
    assert world.tree.check() == []
    assert len(world.tree.leaf_ids) == leaves
    assert max(len(world.tree.children(node)) for node in world.tree.inner_ids) <= fan_out
    for query in world.dataset.queries:
        gold = world.dataset.qrels[query.query_id]
        assert gold
        assert all(f"p:{doc_id}" in world.tree for doc_id in gold)


def test_the_same_seed_gives_the_same_world() -> None:
    """Word for word, and another seed another one."""
    one, two = (synthetic_world(n_leaves=60, n_queries=4) for _ in range(2))
    assert one.dataset == two.dataset
    assert synthetic_world(n_leaves=60, n_queries=4, seed=1).dataset.documents != one.dataset.documents


def test_words_alone_find_part_of_the_gold() -> None:
    """BM25 is well above nothing and well below everything, so that there is something to win."""
    world = synthetic_world(n_leaves=1_000, n_queries=40)
    documents = world.dataset.documents
    lexical = LexicalIndex.build([document.text for document in documents])
    rankings = {
        q.query_id: [documents[row].doc_id for row, _ in lexical.top(q.text, 100)] for q in world.dataset.queries
    }
    assert 0.1 < measure(rankings, world.dataset.qrels).mean["nDCG@10"] < 0.7


def test_a_world_can_be_written_as_an_index(tmp_path: Path) -> None:
    """The index holds the world's own tree and passes its full check."""
    world = synthetic_world(n_leaves=40, n_queries=2, max_children=8)
    with Index.open(write_index(world, tmp_path / "index")) as index:
        assert index.tree.leaf_ids == world.tree.leaf_ids
        assert index.verify() == []


def test_impossible_worlds_are_refused() -> None:
    """No leaf, no fan-out or an overlap that is no share."""
    for bad in ({"n_leaves": 0}, {"max_children": 1}, {"overlap": 2.0}):
        with pytest.raises(InputError, match="synthetic world needs"):
            synthetic_world(**bad)  # type: ignore[arg-type]
