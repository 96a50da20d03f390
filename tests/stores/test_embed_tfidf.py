"""The embedded default embedder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.stores.embed_tfidf import TfidfSvdEmbedder
from branchwise.stores.embedding import load_embedder
from branchwise.stores.errors import IndexCorrupt

TEXTS = [
    f"{thing} number {i} of the {place}" for i in range(40) for thing, place in (("cat", "house"), ("star", "sky"))
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=25))
def test_any_corpus_gives_finite_unit_or_zero_rows(texts: list[str]) -> None:
    """Whatever the texts: (n, d) float32, each row of length 1 or 0, queries too."""
    embedder = TfidfSvdEmbedder.fit(texts)
    matrix = embedder.embed_texts(texts)
    assert matrix.shape == (len(texts), embedder.dimension)
    assert matrix.dtype == np.float32
    assert 1 <= embedder.dimension <= max(1, len(texts))
    for row in [*matrix, embedder.embed_query("any words"), embedder.embed_query("")]:
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-4) or not row.any()


def test_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    """Two fits agree to the bit, and so do their fingerprints and files."""
    first, second = TfidfSvdEmbedder.fit(TEXTS), TfidfSvdEmbedder.fit(TEXTS)
    assert first.fingerprint == second.fingerprint
    assert first.embed_texts(TEXTS).tobytes() == second.embed_texts(TEXTS).tobytes()
    first.save(tmp_path / "a")
    second.save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_another_corpus_has_another_fingerprint() -> None:
    """The vectors of two corpora cannot be mixed."""
    assert TfidfSvdEmbedder.fit(TEXTS).fingerprint != TfidfSvdEmbedder.fit(TEXTS[1:]).fingerprint


def test_saved_embedder_embeds_the_same(tmp_path: Path) -> None:
    """Round trip, texts one by one and together, by either way of embedding."""
    embedder = TfidfSvdEmbedder.fit(TEXTS)
    embedder.save(tmp_path)
    loaded = load_embedder(tmp_path)
    assert loaded.fingerprint == embedder.fingerprint
    np.testing.assert_array_equal(loaded.embed_texts(TEXTS), embedder.embed_texts(TEXTS))
    np.testing.assert_allclose(loaded.embed_query(TEXTS[3]), embedder.embed_texts(TEXTS)[3], atol=1e-5)


def test_kindred_texts_are_nearer() -> None:
    """A query lands among the texts that speak of the same."""
    texts = ["the cat purrs", "a cat and its kittens", "stars shine at night", "the night sky and its stars"]
    embedder = TfidfSvdEmbedder.fit(texts)
    scores = embedder.embed_texts(texts) @ embedder.embed_query("cats")
    assert min(scores[:2]) > max(scores[2:])


def test_scripts_without_spaces_have_meaning() -> None:
    """Chinese words are found by their characters."""
    texts = ["我喜欢吃苹果和香蕉", "苹果是一种水果", "今天天气很好", "明天天气不好"]
    embedder = TfidfSvdEmbedder.fit(texts)
    scores = embedder.embed_texts(texts) @ embedder.embed_query("天气")
    assert min(scores[2:]) > max(scores[:2])


def test_identical_texts_are_embedded_too() -> None:
    """A corpus of one text many times has one direction, not none."""
    texts = ["the same words again"] * 30
    matrix = TfidfSvdEmbedder.fit(texts).embed_texts(texts)
    np.testing.assert_allclose(matrix @ matrix.T, np.ones((30, 30)), atol=1e-5)


def test_dimension_is_bounded_and_progress_adds_up() -> None:
    """No more dimensions than asked for; progress counts every text once."""
    embedder = TfidfSvdEmbedder.fit(TEXTS, dimension=5)
    assert embedder.dimension == 5
    seen: list[int] = []
    embedder.embed_texts(TEXTS, progress=seen.append)
    assert sum(seen) == len(TEXTS)


def test_damage_is_reported(tmp_path: Path) -> None:
    """Arrays that do not fit together, or are cut off, are IndexCorrupt."""
    TfidfSvdEmbedder.fit(TEXTS).save(tmp_path)
    np.save(tmp_path / "idf.npy", np.zeros(3, dtype=np.float32))
    with pytest.raises(IndexCorrupt, match="damaged"):
        load_embedder(tmp_path)
    (tmp_path / "embedder.json").write_text("{", encoding="utf-8")
    with pytest.raises(IndexCorrupt, match=r"embedder\.json"):
        load_embedder(tmp_path)
