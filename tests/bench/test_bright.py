"""BRIGHT's layout on its hub, in parquet and in JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from branchwise.agent.bench.bright import RELEVANCE, SUBSETS, fetch_bright
from branchwise.agent.bench.datasets import read_dataset
from branchwise.stores.errors import InputError

DOCUMENTS = [{"id": "a/1.txt", "content": "one"}, {"id": "a/2.txt", "content": "two"}]
EXAMPLES = [
    {
        "id": "0",
        "query": "why?",
        "excluded_ids": ["N/A"],
        "gold_ids": ["a/1.txt"],
        "gold_ids_long": ["a.txt"],
        "reasoning": "",
        "gold_answer": "",
    },
    {"id": "1", "query": "how?", "excluded_ids": ["a/2.txt"], "gold_ids": ["a/1.txt"], "gold_ids_long": ["a.txt"]},
]


def download(folder: Path, kind: str) -> Path:
    """A download of the hub with one subset, biology."""
    import pyarrow
    import pyarrow.parquet

    for name, rows in (
        ("documents", DOCUMENTS),
        ("examples", EXAMPLES),
        ("long_documents", [{"id": "a.txt", "content": "x"}]),
    ):
        (folder / name).mkdir(parents=True)
        if kind == "jsonl":
            path = folder / name / "biology.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path = folder / name / "biology-00000-of-00001.parquet"
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_both_forms_give_the_same_dataset(tmp_path: Path, kind: str) -> None:
    """Documents, gold and exclusions ("N/A" is none), and the subset's definition of relevance."""
    dataset = read_dataset(download(tmp_path / kind, kind), subset="biology")
    assert dataset.name == "bright-biology"
    assert [(d.doc_id, d.text) for d in dataset.documents] == [("a/1.txt", "one"), ("a/2.txt", "two")]
    assert [q.excluded_ids for q in dataset.queries] == [frozenset(), frozenset({"a/2.txt"})]
    assert dataset.qrels == {"0": {"a/1.txt": 1}, "1": {"a/1.txt": 1}}
    assert dataset.relevance == RELEVANCE["biology"]


def test_long_documents_have_their_own_gold(tmp_path: Path) -> None:
    """With whole pages as the unit, gold_ids_long are the gold."""
    dataset = read_dataset(download(tmp_path / "hub", "jsonl"), subset="biology", long=True)
    assert dataset.qrels["0"] == {"a.txt": 1}
    assert dataset.name == "bright-biology-long"


def test_an_unknown_subset_names_the_twelve(tmp_path: Path) -> None:
    """The message lists what there is."""
    assert len(SUBSETS) == 12
    with pytest.raises(InputError, match="theoremqa_theorems"):
        read_dataset(download(tmp_path / "hub", "jsonl"), subset="chemistry")


def test_a_broken_example_is_named_with_its_line(tmp_path: Path) -> None:
    """A gold_ids that is no list is found where it stands."""
    folder = download(tmp_path / "hub", "jsonl")
    with (folder / "examples" / "biology.jsonl").open("a") as out:
        out.write(json.dumps({"id": "2", "query": "x", "excluded_ids": [], "gold_ids": "a/1.txt"}) + "\n")
    with pytest.raises(InputError, match=r"biology.jsonl:3: gold_ids is not a list"):
        read_dataset(folder, subset="biology")


def test_fetching_without_the_library_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `datasets` is not installed the message names both ways out."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="pip install datasets, or download"):
        fetch_bright("biology")


def test_the_hub_is_fetched_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path xlangai/BRIGHT means the hub; its rows become the same dataset as a download's."""
    rows = {"documents": DOCUMENTS, "examples": EXAMPLES}
    asked = []

    def load_dataset(hub: str, kind: str, *, split: str) -> list[dict[str, Any]]:
        asked.append((hub, kind, split))
        return rows[kind]

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    dataset = read_dataset(Path("xlangai/BRIGHT"), subset="biology")
    assert dataset.qrels == {"0": {"a/1.txt": 1}, "1": {"a/1.txt": 1}}
    assert asked == [("xlangai/BRIGHT", "documents", "biology"), ("xlangai/BRIGHT", "examples", "biology")]
