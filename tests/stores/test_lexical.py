"""BM25 over rows of text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.errors import IndexCorrupt
from branchwise.stores.lexical import K1, B, LexicalIndex, top_rows

TEXTS = ["the cat sat", "cats and dogs", "a dog barked at another dog", "stones", ""]


def test_scores_are_the_lucene_formula() -> None:
    """One term, computed by hand: idf * tf / (tf + k1 (1 - b + b length / mean length))."""
    index = LexicalIndex.build(TEXTS)
    lengths = [len(index.terms(text)) for text in TEXTS]
    mean = sum(lengths) / len(TEXTS)
    idf = math.log(1 + (5 - 2 + 0.5) / (2 + 0.5))
    expected = idf * 2 / (2 + K1 * (1 - B + B * lengths[2] / mean))
    assert index.scores("dog")[2] == pytest.approx(expected, rel=1e-5)
    assert index.idf(index.terms("dog")[0]) == pytest.approx(idf)


def test_score_texts_agrees_with_rows() -> None:
    """A text that is also a row scores the same either way."""
    index = LexicalIndex.build(TEXTS)
    for query in ("dog cat", "cat cat stones", "unknown", ""):
        assert index.score_texts(query, TEXTS) == pytest.approx(index.scores(query).tolist(), rel=1e-5)


def test_top_holds_only_matches_best_first() -> None:
    """Rows without a common term are never hits, whatever k is."""
    index = LexicalIndex.build(TEXTS)
    assert [row for row, _ in index.top("dogs", 10)] == [2, 1]
    assert index.top("dogs", 1) == index.top("dogs", 10)[:1]
    assert index.top("zebra", 10) == []
    assert index.top("dogs", 0) == []


def test_top_rows_breaks_ties_by_row_at_the_cut() -> None:
    """Equal scores keep row order, also where k cuts through them."""
    scores = np.array([0.5, 1.0, 0.5, 0.5, 0.0], dtype=np.float32)
    assert [row for row, _ in top_rows(scores, 3)] == [1, 0, 2]


@pytest.mark.parametrize("texts", [[], [""], ["", " "], ["the and of"], TEXTS])
def test_saved_and_loaded_index_scores_the_same(texts: list[str], tmp_path: Path) -> None:
    """Round trip through files, empty corpora included."""
    built = LexicalIndex.build(texts)
    built.save(tmp_path)
    for mmap in (True, False):
        loaded = LexicalIndex.load(tmp_path, mmap=mmap)
        assert len(loaded) == len(texts)
        for query in ("dog", "cat stones", ""):
            assert loaded.scores(query).tolist() == built.scores(query).tolist()


def test_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    """Vocabulary and arrays do not depend on hashing or on the run."""
    for name in ("a", "b"):
        LexicalIndex.build(TEXTS).save(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_scripts_without_spaces_are_searched() -> None:
    """A word inside a Chinese, Japanese or Thai sentence is found."""
    index = LexicalIndex.build(["我喜欢吃苹果", "今天天气很好", "ฉันชอบกินข้าว", "東京都に住んでいます"])
    assert index.top("苹果", 1)[0][0] == 0
    assert index.top("天气", 1)[0][0] == 1
    assert index.top("กินข้าว", 1)[0][0] == 2
    assert index.top("東京", 1)[0][0] == 3


def test_damage_names_the_folder(tmp_path: Path) -> None:
    """A truncated array or a lost file is IndexCorrupt."""
    LexicalIndex.build(TEXTS).save(tmp_path)
    data = tmp_path / "data.csc.index.npy"
    data.write_bytes(data.read_bytes()[:40])
    with pytest.raises(IndexCorrupt, match=tmp_path.name):
        LexicalIndex.load(tmp_path)
    data.unlink()
    with pytest.raises(IndexCorrupt, match=tmp_path.name):
        LexicalIndex.load(tmp_path)
