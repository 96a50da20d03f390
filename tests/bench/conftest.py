"""One small synthetic bench for all tests that need an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from branchwise.agent.bench.testbed import Bench
from branchwise.agent.bench.world import World, synthetic_world, write_index
from branchwise.stores.index import Index


@pytest.fixture(scope="session")
def world() -> World:
    """120 leaves, 6 questions, of which the first may not see one of its gold documents' neighbours."""
    made = synthetic_world(n_leaves=120, n_queries=6, max_children=8)
    first, *others = made.dataset.queries
    gold = set(made.dataset.qrels[first.query_id])
    hidden = next(doc.doc_id for doc in made.dataset.documents if doc.doc_id not in gold)
    queries = (replace(first, excluded_ids=frozenset({hidden})), *others)
    return World(dataset=replace(made.dataset, queries=queries), tree=made.tree)


@pytest.fixture(scope="session")
def world_index(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the world."""
    return write_index(world, tmp_path_factory.mktemp("world") / "index")


@pytest.fixture
def bench(world: World, world_index: Path) -> Iterator[Bench]:
    """The world on its index."""
    with Index.open(world_index) as index:
        yield Bench(index, world.dataset)
