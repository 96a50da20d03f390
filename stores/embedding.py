"""What an embedder is: texts in, unit vectors out, told apart by a fingerprint. Makes and opens every kind.

Kinds: stores.embed_tfidf (the embedded default), stores.embed_minilm (extra), stores.embed_endpoint (a server). Knows
no index. Tested in tests/stores/test_embedding.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from branchwise.stores.errors import IndexCorrupt, InputError

FloatVector = npt.NDArray[np.float32]
FloatMatrix = npt.NDArray[np.float32]
Progress = Callable[[int], None]
"""Called with the number of texts embedded since the last call."""

KIND_FILE = "embedder.json"


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors. Two embedders with the same fingerprint give the same vectors."""

    name: str

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells these vectors apart from any others."""
        ...

    def embed_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatMatrix:
        """(n, d) float32 with unit rows; a zero row for a text that nothing is known of."""
        ...

    def embed_query(self, text: str) -> FloatVector:
        """(d,) float32, a unit vector or zero."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load_embedder` needs; never a key."""
        ...


def make_embedder(name: str, *, texts: Sequence[str] = (), base_url: str | None = None) -> Embedder:
    """The embedder called "embedded" (fitted on `texts`), "minilm" or "openai:<model>". Raises InputError."""
    if name == "embedded":
        from branchwise.stores.embed_tfidf import TfidfSvdEmbedder

        return TfidfSvdEmbedder.fit(texts)
    if name == "minilm":
        from branchwise.stores.embed_minilm import MiniLMEmbedder

        return MiniLMEmbedder()
    kind, _, model = name.partition(":")
    if kind == "openai" and model:
        from branchwise.stores.embed_endpoint import EndpointEmbedder

        return EndpointEmbedder(model, base_url=base_url)
    raise InputError(f"There is no embedder {name!r}.", hint="Use embedded, minilm or openai:<model>.")


def load_embedder(folder: Path) -> Embedder:
    """Open what `Embedder.save` wrote into `folder`. Raises IndexCorrupt naming the file."""
    path = folder / KIND_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        kind = facts["kind"]
        name = {"minilm": "minilm", "endpoint": f"openai:{facts.get('model')}"}.get(kind)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise IndexCorrupt(f"{path} is damaged: {error}") from error
    if name is not None:
        return make_embedder(name, base_url=facts.get("base_url"))
    if kind == "tfidf-svd":
        from branchwise.stores.embed_tfidf import TfidfSvdEmbedder

        return TfidfSvdEmbedder.load(folder)
    raise IndexCorrupt(f"{path} names an unknown kind of embedder, {kind!r}.")


def unit_rows(matrix: npt.NDArray[np.floating]) -> FloatMatrix:
    """The rows scaled to length 1; a zero row stays zero."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    units: FloatMatrix = (matrix / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
    return units
