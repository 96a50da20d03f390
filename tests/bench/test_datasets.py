"""Datasets: the layouts, the checks, and what the real collections are known to hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from branchwise.agent.bench.datasets import read_dataset
from branchwise.stores.errors import InputError


def beir(folder: Path, corpus: list[Any], queries: list[Any], qrels: str) -> Path:
    """Write a BEIR folder; a row that is text is written as it is."""
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


CORPUS = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "text": "two"}]
QUERIES = [{"_id": "q1", "text": "?", "excluded_ids": ["d2"]}, {"_id": "q2", "text": "not judged"}]


def test_a_beir_folder_is_read(tmp_path: Path) -> None:
    """Documents, judged queries with their exclusions, and grades; queries of other splits are left out."""
    dataset = read_dataset(beir(tmp_path / "set", CORPUS, QUERIES, "q1\td1\t2\n"))
    assert [(d.doc_id, d.title, d.text) for d in dataset.documents] == [("d1", "T", "one"), ("d2", "", "two")]
    assert [(q.query_id, q.excluded_ids) for q in dataset.queries] == [("q1", frozenset({"d2"}))]
    assert dataset.qrels == {"q1": {"d1": 2}}
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "complaint"),
    [
        ([*CORPUS, "{broken"], QUERIES, "q1\td1\t1\n", r"corpus.jsonl:3: not JSON"),
        ([*CORPUS, CORPUS[0]], QUERIES, "q1\td1\t1\n", r"corpus.jsonl:3: _id 'd1' stands already in line 1"),
        ([*CORPUS, {"_id": "d3"}], QUERIES, "q1\td1\t1\n", r"corpus.jsonl:3: document 'd3' has no text"),
        ([*CORPUS, {"text": "x"}], QUERIES, "q1\td1\t1\n", r"corpus.jsonl:3: no _id"),
        ([*CORPUS, "[1]"], QUERIES, "q1\td1\t1\n", r"corpus.jsonl:3: a JSON object is expected"),
        (CORPUS, [*QUERIES, {"_id": "q1", "text": "?"}], "q1\td1\t1\n", r"queries.jsonl:3: _id 'q1' stands already"),
        (CORPUS, [*QUERIES, {"_id": "q3", "text": " "}], "q1\td1\t1\n", r"queries.jsonl:3: query 'q3' has no text"),
        (CORPUS, [{"_id": "q1", "text": "?", "excluded_ids": "d1"}], "q1\td1\t1\n", r"queries.jsonl:1: excluded_ids"),
        (CORPUS, QUERIES, "q1\td1\t1\nq9\td1\t1\n", r"test.tsv:3: query 'q9' is judged but not among"),
        (CORPUS, QUERIES, "q1\tx\t1\n", r"test.tsv: none of the 1 relevant documents is in the corpus"),
        (CORPUS, QUERIES, "q1\td1\n", r"test.tsv:2: 2 columns"),
    ],
)
def test_faults_are_named_with_file_and_line(
    tmp_path: Path, corpus: list[Any], queries: list[Any], qrels: str, complaint: str
) -> None:
    """Whatever is wrong with a collection, the message says where."""
    with pytest.raises(InputError, match=complaint):
        read_dataset(beir(tmp_path / "set", corpus, queries, qrels))


def test_gold_that_is_missing_is_noted_not_dropped(tmp_path: Path) -> None:
    """One of two gold documents is not in the corpus: it stays in the qrels and a note says where it stands."""
    dataset = read_dataset(beir(tmp_path / "set", CORPUS, QUERIES, "q1\td1\t1\nq1\tgone\t1\n"))
    assert dataset.qrels["q1"] == {"d1": 1, "gone": 1}
    assert "1 of 2 relevant documents" in dataset.notes[0]
    assert "test.tsv:3" in dataset.notes[0]


def test_a_missing_split_names_those_there_are(tmp_path: Path) -> None:
    """Asking for a split that is not there says which are."""
    folder = beir(tmp_path / "set", CORPUS, QUERIES, "q1\td1\t1\n")
    with pytest.raises(InputError, match="splits that are there: test"):
        read_dataset(folder, split="dev")


def test_not_utf8_is_said(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 end in a message about the file, not in a traceback."""
    folder = beir(tmp_path / "set", CORPUS, QUERIES, "q1\td1\t1\n")
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "d1", "text": "\xff"}\n')
    with pytest.raises(InputError, match=r"corpus.jsonl: not UTF-8"):
        read_dataset(folder)


def test_trec_files_are_read(tmp_path: Path) -> None:
    """Topics and qrels beside a corpus make a dataset."""
    (tmp_path / "topics.tsv").write_text("1\tone?\n2\ttwo?\n")
    (tmp_path / "qrels.txt").write_text("1 0 d1 1\n")
    (tmp_path / "corpus.jsonl").write_text(json.dumps(CORPUS[0]) + "\n")
    dataset = read_dataset(tmp_path)
    assert [query.text for query in dataset.queries] == ["one?"]
    assert dataset.qrels == {"1": {"d1": 1}}


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    """No layout fits: the message says which would."""
    with pytest.raises(InputError, match=r"queries.jsonl and qrels/test.tsv"):
        read_dataset(tmp_path)


def test_halves_take_turns(tmp_path: Path) -> None:
    """Even and odd positions share no query and together are all."""
    queries = [{"_id": f"q{n}", "text": "?"} for n in range(5)]
    dataset = read_dataset(beir(tmp_path / "set", CORPUS, queries, "".join(f"q{n}\td1\t1\n" for n in range(5))))
    even, odd = dataset.half("even"), dataset.half("odd")
    assert [q.query_id for q in even.queries] == ["q0", "q2", "q4"]
    assert [q.query_id for q in odd.queries] == ["q1", "q3"]
    assert set(odd.qrels) == {"q1", "q3"}


def test_the_shared_collections_are_sound(shared: Path) -> None:
    """Every collection beside the repository reads without a note; sizes are those its README gives."""
    sizes = {"scifact": (5183, 300), "theoremqa_theorems": (354, 555), "bright_theoremqa_questions_r": (1731, 194)}
    for name, (documents, queries) in sizes.items():
        dataset = read_dataset(shared / "data" / name)
        assert (len(dataset.documents), len(dataset.queries), dataset.notes) == (documents, queries, ())


@pytest.mark.parametrize(
    ("name", "blind", "expected"),
    [
        ("scifact", False, 0.679),
        ("bright_theoremqa_questions_r", False, 0.272),
        ("bright_theoremqa_questions_r", True, 0.223),
    ],
)
def test_bm25_gives_the_known_figures(shared: Path, name: str, blind: bool, expected: float) -> None:
    """Loader, exclusions, BM25 and metric together: nDCG@10 as known for the collection (published: scifact .679).

    `blind` ignores excluded_ids, which costs the known five points.
    """
    from branchwise.agent.bench.measure import measure
    from branchwise.stores.lexical import LexicalIndex

    dataset = read_dataset(shared / "data" / name)
    ids = [document.doc_id for document in dataset.documents]
    lexical = LexicalIndex.build([f"{document.title} {document.text}" for document in dataset.documents])
    rankings = {}
    for query in dataset.queries:
        hidden = frozenset() if blind else query.excluded_ids
        best = (ids[row] for row, _ in lexical.top(query.text, 200))
        rankings[query.query_id] = [doc_id for doc_id in best if doc_id not in hidden][:100]
    assert measure(rankings, dataset.qrels).mean["nDCG@10"] == pytest.approx(expected, abs=0.004)
