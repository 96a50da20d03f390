"""One small real index for all tests of the engine: fifty passages about animals, instruments, weather and bread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import branchwise
from branchwise import Collection, Document

TOPICS = {
    "moths": "Moths circle lamps because artificial light disturbs how they keep their back towards the bright sky.",
    "bees": "Bees dance to tell the others of the hive where flowers are and how far away.",
    "violins": "A violin sounds because the bow makes its strings slip and stick many times a second.",
    "glaciers": "Glaciers flow slowly downhill, and their ice melts where the air is warm.",
    "bread": "Bread rises because yeast turns sugar into gas, which the dough cannot let go.",
}


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Ten documents a topic; one of each says what the topic's sentence says, the others stray."""
    return [
        Document(
            doc_id=f"{topic}-{n}",
            title=f"On {topic}, note {n}",
            text=text if n == 0 else f"Note {n} on {topic}. Something else on {topic}: observation {n * 37} of many.",
            metadata={"topic": topic, "number": n},
        )
        for topic, text in TOPICS.items()
        for n in range(10)
    ]


@pytest.fixture(scope="session")
def collection(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """An index of these documents, built and searched without a model."""
    with branchwise.build(documents, index=tmp_path_factory.mktemp("animals") / "index") as opened:
        yield opened
