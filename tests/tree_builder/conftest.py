"""Small corpora with known topics, for the tests of the builder."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from branchwise.stores.records import Document

TOPICS = {
    "volcano": "lava magma eruption crater ash basalt vent caldera pumice tremor",
    "bread": "flour yeast dough oven crust knead proof loaf sourdough rye",
    "chess": "bishop rook pawn knight gambit endgame castle mate opening board",
    "sailing": "mast rudder keel spinnaker jib harbour tack windward hull anchor",
    "bees": "hive queen nectar pollen swarm comb drone honey forage brood",
    "glass": "furnace silica blow anneal pane lead crystal etch molten mould",
}


@pytest.fixture(scope="session")
def make_documents() -> Callable[..., list[Document]]:
    """`make_documents(40, seed=0, sentences=4)`: documents that each speak of one of six topics, in turn."""

    def make(count: int, *, seed: int = 0, sentences: int = 4, start: int = 0) -> list[Document]:
        documents = []
        for number in range(start, start + count):
            rng = random.Random(seed * 1_000_003 + number)
            topic = list(TOPICS)[number % len(TOPICS)]
            words = TOPICS[topic].split()
            lines = [
                f"The {topic} is in the story of {' '.join(rng.sample(words, 4))}, as on page {number * 31 + place}."
                for place in range(sentences)
            ]
            documents.append(Document(doc_id=f"doc-{number}", title=f"On the {topic} {number}", text=" ".join(lines)))
        return documents

    return make
