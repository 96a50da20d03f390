"""The demo collection is real, large enough, the same every time, and made without importing anything."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import pytest

from branchwise.stores.records import Document
from branchwise.tree_builder.chunk import chunk
from branchwise.tree_builder.corpus_demo import MIN_CHARS, demo_documents


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """The whole demo collection, read once."""
    return list(demo_documents())


def test_there_are_passages_enough_from_every_source(documents: list[Document]) -> None:
    """Each of the four sources is there, and together they give more than 2,000 passages."""
    packages = Counter(document.metadata["package"] for document in documents)
    assert set(packages) == {"python", "networkx", "scipy", "sklearn"}
    assert min(packages.values()) >= 50
    assert sum(len(chunk(document)) for document in documents) >= 2000


def test_ids_are_unique_and_texts_are_worth_reading(documents: list[Document]) -> None:
    """No id comes twice, no text is trivial, and no private or test code is among them."""
    assert len({document.doc_id for document in documents}) == len(documents)
    assert min(len(document.text) for document in documents) >= MIN_CHARS
    names = [part for document in documents for part in document.doc_id.split(".")]
    assert not [name for name in names if name.startswith("_") or name in ("tests", "conftest")]


def test_what_a_user_would_look_for_is_there(documents: list[Document]) -> None:
    """A function, a class and a language topic are found under the names that Python knows them by."""
    found = {document.doc_id: document for document in documents}
    louvain = found["networkx.algorithms.community.louvain.louvain_communities"]
    assert louvain.text.startswith("Find the best partition of a graph")
    assert louvain.source == "networkx/algorithms/community/louvain.py"
    assert found["sklearn.cluster.KMeans"].metadata == {"package": "sklearn", "kind": "class"}
    assert found["python.lambda"].title == "Python: Lambdas"


def test_the_order_is_the_same_and_nothing_is_imported(documents: list[Document]) -> None:
    """A fresh process reads the same documents in the same order, and has loaded none of the packages."""
    program = (
        "import sys, hashlib\n"
        "from branchwise.tree_builder.corpus_demo import demo_documents\n"
        "before = set(sys.modules)\n"
        "print(hashlib.sha256(repr(list(demo_documents())).encode()).hexdigest())\n"
        "print(sorted(m for m in set(sys.modules) - before if m.split('.')[0] in ('networkx', 'scipy', 'sklearn')))\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [hashlib.sha256(repr(documents).encode()).hexdigest(), "[]"]
