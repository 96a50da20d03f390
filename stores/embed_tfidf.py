"""The embedded default: TF-IDF of words and word pairs, projected by a truncated SVD fitted on the corpus.

Latent semantic analysis (Deerwester et al. 1990) with the sublinear counts of Salton & Buckley. Needs no key, no
network, no download; the same texts give the same bytes. In scripts without spaces stores.language gives character
pairs for words, so the pairs of terms are longer character n-grams. Tested in tests/stores/test_embed_tfidf.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from branchwise.stores.embedding import KIND_FILE, FloatMatrix, FloatVector, Progress, unit_rows
from branchwise.stores.errors import IndexCorrupt
from branchwise.stores.language import Analyzer, detect_language, tokens

if TYPE_CHECKING:
    from scipy import sparse

IntArray = npt.NDArray[np.int64]

DIMENSIONS = 256
MAX_FEATURES = 60_000
MAX_SHARE = 0.5  # of the texts: a term in more of them tells nothing apart
FIT_TEXTS = 20_000  # the SVD sees an even sample of at most this many; every text is projected
SEED = 13


class TfidfSvdEmbedder:
    """Dimension is 256, or less for a corpus that has no more to say; at least 1, for an empty one too."""

    name = "embedded"

    def __init__(
        self, analyzer: Analyzer, vocabulary: dict[str, int], pairs: IntArray, idf: FloatVector, basis: FloatMatrix
    ) -> None:
        self._analyzer = analyzer
        self._vocabulary = vocabulary
        self._pairs = pairs
        self._idf = idf
        self._basis = basis
        self.dimension = int(basis.shape[1])
        digest = hashlib.sha256(json.dumps([analyzer.language, analyzer.stemmer, list(vocabulary)]).encode())
        for array in (pairs, idf, basis):
            digest.update(np.ascontiguousarray(array).tobytes())
        self.fingerprint = f"tfidf-svd/{self.dimension}/{digest.hexdigest()[:16]}"

    @classmethod
    def fit(cls, texts: Sequence[str], *, dimension: int = DIMENSIONS) -> TfidfSvdEmbedder:
        """Learn vocabulary, weights and projection from `texts`."""
        analyzer = Analyzer(detect_language(texts))
        words: dict[str, int] = {}
        ids, bounds = _term_ids(texts, analyzer, words, grow=True)
        pair_keys, pair_rows = _pairs_of(ids, bounds)
        rows = np.repeat(np.arange(len(texts)), np.diff(bounds))
        few = 1 if len(texts) < 1000 else 2
        word_counts = _document_frequency(ids, rows, len(words))
        keys, inverse = np.unique(pair_keys, return_inverse=True)
        pair_counts = _document_frequency(inverse, pair_rows, len(keys))
        most = max(2.0, MAX_SHARE * len(texts))
        kept_words, kept_pairs = _choose(word_counts, pair_counts, few=few, most=most)
        names = list(words)
        renumbered = np.full(len(words), -1, dtype=np.int64)
        renumbered[kept_words] = np.arange(len(kept_words))
        vocabulary = {names[old]: new for new, old in enumerate(kept_words)}
        first, second = np.divmod(keys[kept_pairs], _SHIFT)
        pairs = renumbered[first] * _SHIFT + renumbered[second]
        alive = (renumbered[first] >= 0) & (renumbered[second] >= 0)
        order = np.argsort(pairs[alive], kind="stable")
        pairs = pairs[alive][order]
        frequency = np.concatenate([word_counts[kept_words], pair_counts[kept_pairs][alive][order]])
        idf = (np.log((1 + len(texts)) / (1 + frequency)) + 1).astype(np.float32)
        empty = cls(analyzer, vocabulary, pairs, idf, np.zeros((len(idf), 1), dtype=np.float32))
        step = max(1, -(-len(texts) // FIT_TEXTS))
        basis = _truncated_svd(empty._weights(texts[::step]), dimension)
        return cls(analyzer, vocabulary, pairs, idf, basis)

    def embed_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatMatrix:
        """(n, d) float32 with unit rows; zero for a text without a known term."""
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), 4096):
            part = texts[start : start + 4096]
            found[start : start + len(part)] = unit_rows(np.asarray(self._weights(part) @ self._basis))
            if progress is not None:
                progress(len(part))
        return found

    def embed_query(self, text: str) -> FloatVector:
        """(d,) float32, a unit vector or zero."""
        vector: FloatVector = self.embed_texts([text])[0]
        return vector

    def save(self, folder: Path) -> None:
        """Write JSON and .npy files into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "kind": "tfidf-svd",
            "language": self._analyzer.language,
            "stemmer": self._analyzer.stemmer,
            "fingerprint": self.fingerprint,
        }
        (folder / KIND_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        (folder / "vocabulary.json").write_text(
            json.dumps(list(self._vocabulary), ensure_ascii=False), encoding="utf-8"
        )
        np.save(folder / "pairs.npy", self._pairs)
        np.save(folder / "idf.npy", self._idf)
        np.save(folder / "basis.npy", self._basis)

    @classmethod
    def load(cls, folder: Path) -> TfidfSvdEmbedder:
        """Open what `save` wrote. Raises IndexCorrupt naming the folder."""
        try:
            facts = json.loads((folder / KIND_FILE).read_text(encoding="utf-8"))
            words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            pairs, idf, basis = (np.load(folder / f"{name}.npy") for name in ("pairs", "idf", "basis"))
            analyzer = Analyzer(facts["language"], stemmer=facts["stemmer"])
            embedder = cls(analyzer, {word: i for i, word in enumerate(words)}, pairs, idf, basis)
            if embedder.fingerprint != facts["fingerprint"]:
                raise ValueError("its arrays are not those that were saved")
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise IndexCorrupt(f"The embedder in {folder} is damaged: {error}") from error
        return embedder

    def _weights(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """(n, features) TF-IDF rows of unit length: (1 + ln tf) * idf, words first, then pairs."""
        from scipy import sparse

        ids, bounds = _term_ids(texts, self._analyzer, self._vocabulary, grow=False)
        known = ids >= 0
        rows = np.repeat(np.arange(len(texts)), np.diff(bounds))
        columns = [ids[known]]
        lines = [rows[known]]
        if len(self._pairs):
            pair_keys, pair_rows = _pairs_of(ids, bounds)
            places = np.minimum(np.searchsorted(self._pairs, pair_keys), len(self._pairs) - 1)
            hits = self._pairs[places] == pair_keys
            columns.append(places[hits] + len(self._vocabulary))
            lines.append(pair_rows[hits])
        line, column = np.concatenate(lines), np.concatenate(columns)
        ones = np.ones(len(line), dtype=np.float32)
        matrix = sparse.csr_matrix((ones, (line, column)), shape=(len(texts), len(self._idf)), dtype=np.float32)
        matrix.sum_duplicates()
        matrix.data = (1 + np.log(matrix.data)) * self._idf[matrix.indices]
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        matrix.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(matrix.indptr)).astype(np.float32)
        return matrix


_SHIFT = np.int64(2**31)


def _term_ids(
    texts: Sequence[str], analyzer: Analyzer, vocabulary: dict[str, int], *, grow: bool
) -> tuple[IntArray, IntArray]:
    """Term ids of all texts in one array, and where each text begins; -1 for an unknown term, stop words left out."""
    from array import array

    flat = array("q")
    bounds = array("q", [0])
    known: dict[str, int] = {}
    for text in texts:
        for token in tokens(text):
            term_id = known.get(token)
            if term_id is None:
                term = analyzer.term(token)
                if not term:
                    term_id = -2
                elif grow:
                    term_id = vocabulary.setdefault(term, len(vocabulary))
                else:
                    term_id = vocabulary.get(term, -1)
                known[token] = term_id
            if term_id != -2:
                flat.append(term_id)
        bounds.append(len(flat))
    return np.frombuffer(flat, dtype=np.int64) if flat else np.empty(0, np.int64), np.array(bounds, dtype=np.int64)


def _pairs_of(ids: IntArray, bounds: IntArray) -> tuple[IntArray, IntArray]:
    """Keys of neighbouring known terms, and the text each stands in."""
    if len(ids) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    inside = (rows[1:] == rows[:-1]) & (ids[1:] >= 0) & (ids[:-1] >= 0)
    return (ids[:-1] * _SHIFT + ids[1:])[inside], rows[:-1][inside]


def _document_frequency(ids: IntArray, rows: IntArray, size: int) -> IntArray:
    """In how many rows each id stands."""
    if not len(ids):
        return np.zeros(size, dtype=np.int64)
    distinct = np.unique(rows * np.int64(size) + ids)
    return np.bincount(distinct % size, minlength=size)


def _choose(words: IntArray, pairs: IntArray, *, few: int, most: float) -> tuple[IntArray, IntArray]:
    """The words and pairs worth a feature: in at least `few` texts (pairs: two), in at most `most`, the commonest."""
    kept_words = np.flatnonzero((words >= few) & (words <= most))
    kept_words = np.sort(kept_words[np.argsort(-words[kept_words], kind="stable")][:MAX_FEATURES])
    kept_pairs = np.flatnonzero((pairs >= 2 * few) & (pairs <= most))
    room = max(0, MAX_FEATURES - len(kept_words))
    return kept_words, np.sort(kept_pairs[np.argsort(-pairs[kept_pairs], kind="stable")][:room])


def _truncated_svd(matrix: sparse.csr_matrix, dimension: int) -> FloatMatrix:
    """(features, d) right singular vectors, signs fixed so that the largest entry of each is positive."""
    if min(matrix.shape) == 0 or matrix.nnz == 0:
        return np.zeros((matrix.shape[1], 1), dtype=np.float32)
    if min(matrix.shape) <= dimension:
        _, singular, basis = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
        basis = basis[singular > 1e-6 * singular[0]]
    else:
        from sklearn.utils.extmath import randomized_svd

        _, _, basis = randomized_svd(matrix, dimension, n_iter=4, random_state=SEED)
    largest = np.abs(basis).argmax(axis=1)
    signs = np.sign(basis[np.arange(len(basis)), largest])
    return np.ascontiguousarray((basis * signs[:, None]).T, dtype=np.float32)
