"""TREC files: what is written is read back, what is broken is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.bench.trec import read_qrels, read_run, read_topics, write_run
from branchwise.stores.errors import InputError

IDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@given(st.dictionaries(IDS, st.lists(IDS, unique=True, min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_run_keeps_its_order_on_disk(
    tmp_path_factory: pytest.TempPathFactory, rankings: dict[str, list[str]]
) -> None:
    """Queries, documents and their order survive writing and reading, equal scores included."""
    path = tmp_path_factory.mktemp("run") / "run.trec"
    write_run(path, {query: [(doc, 0.5) for doc in ranking] for query, ranking in rankings.items()}, tag="t")
    assert {query: [doc for doc, _ in ranking] for query, ranking in read_run(path).items()} == rankings


def test_a_run_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    """The file holds six columns a line and nothing that differs from one writing to the next."""
    for name in ("a", "b"):
        write_run(tmp_path / name, {"q 1": [("d 1", 0.75), ("d2", 0.5)]}, tag="ours")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_text() == "q 1\tQ0\td 1\t1\t0.75\tours\nq 1\tQ0\td2\t2\t0.5\tours\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 0 a 1\n1 0 b 1\n1\n", r"qrels.txt:3: 1 columns"),
        ("1 0 a one\n", r"qrels.txt:1: the grade 'one'"),
        ("1 0 a 1\n\n1 0 a 2\n", r"qrels.txt:3: 'a' is graded twice"),
        ("", r"qrels.txt: holds no judgement"),
    ],
)
def test_broken_qrels_name_file_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Each fault is found where it stands."""
    path = tmp_path / "qrels.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_qrels(path)


def test_qrels_of_three_and_four_columns_agree(tmp_path: Path) -> None:
    """BEIR's form with its header and TREC's form say the same."""
    (tmp_path / "beir").write_text("query-id\tcorpus-id\tscore\nq 1\td1\t2\n")
    (tmp_path / "trec").write_text("q 1\t0\td1\t2\n")
    assert read_qrels(tmp_path / "beir") == read_qrels(tmp_path / "trec") == {"q 1": {"d1": 2}}


def test_tagged_topics_join_title_and_description(tmp_path: Path) -> None:
    """The old form of TREC, tags open or closed, gives number and text."""
    path = tmp_path / "topics.txt"
    path.write_text(
        "<top>\n<num> Number: 301\n<title> Organized Crime\n<desc> Description:\nWhich\ngroups?\n<narr> no\n</top>\n"
        "<top><num>302</num><title>Polio</title></top>\n"
    )
    assert read_topics(path) == {"301": "Organized Crime Which groups?", "302": "Polio"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1\tone\nno tab\n", "topics.tsv:2: a topic is"),
        ("1\tone\n1\ttwo\n", "topics.tsv:2: topic '1' stands"),
        ("<top>\n<title> x\n</top>\n", "topics.tsv:1: a topic without number"),
    ],
)
def test_broken_topics_name_file_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Each fault is found where it stands."""
    path = tmp_path / "topics.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_topics(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 Q0 a 1 0.5\n", "run:1: 5 columns"),
        ("1 Q0 a 1 x t\n", "run:1: the score 'x'"),
        ("1 Q0 a 1 2 t\n1 Q0 a 2 1 t\n", "run:2: 'a' stands twice"),
    ],
)
def test_broken_runs_name_file_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Each fault is found where it stands."""
    (tmp_path / "run").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_run(tmp_path / "run")
