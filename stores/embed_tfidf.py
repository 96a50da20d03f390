"""The embedded default: TF-IDF of words and word pairs, projected by a truncated SVD fitted on the corpus.

Latent semantic analysis (Deerwester et al., JASIS 1990) with sublinear counts (Salton & Buckley, IPM 1988). Needs no
key, no network, no download; the same texts give the same bytes. In scripts without spaces stores.language gives
character pairs for words, so the pairs of terms are longer character n-grams. Tested in
tests/stores/test_embed_tfidf.py.
"""

from __future__ import annotations

import hashlib
import json
from array import array
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

DIMENSIONS = 384  # as many as MiniLM; 256 loses .02 to .05 nDCG@10 on four collections, 512 gains at most .02
MAX_FEATURES = 60_000
MANY_TEXTS = 1_000  # from here on a word must stand in two texts, a pair in four
WORD_TEXTS = 200_000  # words and their frequencies are learnt from an even sample of at most this many texts
FIT_TEXTS = 20_000  # the SVD sees an even sample of at most this many; every text is projected
_BATCH = 4_096  # texts projected at once
_PAIR = np.int64(2**31)  # the key of the pair (a, b) is a * 2^31 + b
_STOP = -2
_UNKNOWN = -1


class TfidfSvdEmbedder:
    """Dimension is 384, or less for a corpus that has no more to say; at least 1, for an empty one too."""

    name = "embedded"

    def __init__(
        self,
        analyzer: Analyzer,
        vocabulary: dict[str, int],
        pairs: IntArray,
        idf: FloatVector,
        basis: FloatMatrix,
        fingerprint: str,
    ) -> None:
        self.dimension = int(basis.shape[1])
        self.fingerprint = fingerprint
        self._analyzer = analyzer
        self._vocabulary = vocabulary
        self._pairs = pairs
        self._idf = idf
        self._basis = basis

    @classmethod
    def fit(cls, texts: Sequence[str], *, dimension: int = DIMENSIONS) -> TfidfSvdEmbedder:
        """Learn vocabulary, weights and projection from `texts`."""
        analyzer = Analyzer(detect_language(texts))
        words: dict[str, int] = {}
        read = texts[:: max(1, -(-len(texts) // WORD_TEXTS))]
        ids, bounds = _term_ids(read, analyzer, words, grow=True)
        vocabulary, pairs, frequency = _choose_features(list(words), ids, bounds)
        idf = np.log1p((len(read) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        draft = cls(analyzer, vocabulary, pairs, idf, np.zeros((len(idf), 1), dtype=np.float32), "")
        step = max(1, -(-len(texts) // FIT_TEXTS))
        basis = _truncated_svd(draft._weights(texts[::step]), dimension)
        digest = hashlib.sha256(json.dumps([analyzer.language, analyzer.stemmer, list(vocabulary)]).encode())
        for part in (pairs, idf, basis):
            digest.update(part.tobytes())
        fingerprint = f"tfidf-svd/{basis.shape[1]}/{digest.hexdigest()[:16]}"
        return cls(analyzer, vocabulary, pairs, idf, basis, fingerprint)

    def embed_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatMatrix:
        """(n, d) float32 with unit rows; zero for a text without a known term."""
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            some = texts[start : start + _BATCH]
            found[start : start + len(some)] = unit_rows(self._weights(some) @ self._basis)
            if progress is not None:
                progress(len(some))
        return found

    def embed_query(self, text: str) -> FloatVector:
        """(d,) float32, a unit vector or zero; without scipy, whose import takes longer than a search."""
        _, columns = self._features([text])
        distinct, counts = np.unique(columns, return_counts=True)
        weights = (1 + np.log(counts)) * self._idf[distinct]
        vector: FloatVector = unit_rows((weights @ self._basis[distinct])[None, :])[0]
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
        words = json.dumps(list(self._vocabulary), ensure_ascii=False)
        (folder / "vocabulary.json").write_text(words, encoding="utf-8")
        np.save(folder / "pairs.npy", self._pairs)
        np.save(folder / "idf.npy", self._idf)
        np.save(folder / "basis.npy", self._basis)

    @classmethod
    def load(cls, folder: Path) -> TfidfSvdEmbedder:
        """Open what `save` wrote, the basis memory-mapped. Raises IndexCorrupt naming the folder."""
        try:
            facts = json.loads((folder / KIND_FILE).read_text(encoding="utf-8"))
            words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            pairs = np.load(folder / "pairs.npy", allow_pickle=False)
            idf = np.load(folder / "idf.npy", allow_pickle=False)
            basis = np.load(folder / "basis.npy", mmap_mode="r" if len(idf) else None, allow_pickle=False)
            if len(words) + len(pairs) != len(idf) or len(idf) != len(basis):
                raise ValueError("its arrays do not fit together")
            analyzer = Analyzer(facts["language"], stemmer=facts["stemmer"])
            vocabulary = {word: i for i, word in enumerate(words)}
            return cls(analyzer, vocabulary, pairs, idf, basis, facts["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise IndexCorrupt(f"The embedder in {folder} is damaged: {error}") from error

    def _weights(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """(n, features) rows of unit length: (1 + ln tf) * idf, words first, then pairs."""
        from scipy import sparse

        lines, columns = self._features(texts)
        ones = np.ones(len(lines), dtype=np.float32)
        matrix = sparse.csr_matrix((ones, (lines, columns)), shape=(len(texts), len(self._idf)))
        matrix.sum_duplicates()
        weights = (1 + np.log(matrix.data)) * self._idf[matrix.indices]
        squares = np.add.reduceat(np.append(weights**2, 0), matrix.indptr[:-1]) * (np.diff(matrix.indptr) > 0)
        lengths = np.sqrt(np.where(squares > 0, squares, 1))
        matrix.data = weights / np.repeat(lengths, np.diff(matrix.indptr)).astype(np.float32)
        return matrix

    def _features(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Text number and feature of every occurrence."""
        ids, bounds = _term_ids(texts, self._analyzer, self._vocabulary, grow=False)
        lines = np.repeat(np.arange(len(texts)), np.diff(bounds))
        words = ids >= 0
        if not len(self._pairs):
            return lines[words], ids[words]
        keys, pair_lines = _pairs(ids, lines)
        places = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        known = self._pairs[places] == keys
        return (
            np.concatenate([lines[words], pair_lines[known]]),
            np.concatenate([ids[words], places[known] + len(self._vocabulary)]),
        )


def _term_ids(
    texts: Sequence[str], analyzer: Analyzer, vocabulary: dict[str, int], *, grow: bool
) -> tuple[IntArray, IntArray]:
    """Term ids of all texts in one array, stop words left out, and the n + 1 bounds between texts."""
    flat, bounds = array("q"), array("q", [0])
    known: dict[str, int] = {}
    for text in texts:
        for token in tokens(text):
            term_id = known.get(token)
            if term_id is None:
                term = analyzer.term(token)
                if not term:
                    term_id = _STOP
                elif grow:
                    term_id = vocabulary.setdefault(term, len(vocabulary))
                else:
                    term_id = vocabulary.get(term, _UNKNOWN)
                known[token] = term_id
            if term_id != _STOP:
                flat.append(term_id)
        bounds.append(len(flat))
    return np.array(flat, dtype=np.int64), np.array(bounds, dtype=np.int64)


def _pairs(ids: IntArray, lines: IntArray) -> tuple[IntArray, IntArray]:
    """Key and text number of every two neighbouring known terms."""
    inside = (lines[1:] == lines[:-1]) & (ids[1:] >= 0) & (ids[:-1] >= 0)
    keys: IntArray = (ids[:-1] * _PAIR + ids[1:])[inside]
    return keys, lines[1:][inside]


def _choose_features(names: list[str], ids: IntArray, bounds: IntArray) -> tuple[dict[str, int], IntArray, IntArray]:
    """The words and pairs worth a feature, with the number of texts each stands in: the commonest 60,000.

    Words are renumbered in order of appearance; pairs are keys over the new numbers, ascending.
    """
    texts = len(bounds) - 1
    lines = np.repeat(np.arange(texts), np.diff(bounds))
    few = 1 if texts < MANY_TEXTS else 2
    _, word_counts = _document_frequency(ids, lines)
    words = _commonest(word_counts, few, MAX_FEATURES)
    renumbered = np.full(len(names), _UNKNOWN, dtype=np.int64)
    renumbered[words] = np.arange(len(words))
    keys, pair_counts = _document_frequency(*_pairs(renumbered[ids], lines))
    pairs = _commonest(pair_counts, 2 * few, MAX_FEATURES - len(words))
    vocabulary = {names[old]: new for new, old in enumerate(words)}
    return vocabulary, keys[pairs], np.concatenate([word_counts[words], pair_counts[pairs]])


def _document_frequency(ids: IntArray, lines: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct ids, ascending, and in how many texts each stands."""
    distinct, place = np.unique(ids, return_inverse=True)
    seen = np.unique(lines * np.int64(len(distinct)) + place)
    return distinct, np.bincount(seen % max(1, len(distinct)), minlength=len(distinct)).astype(np.int64)


def _commonest(counts: IntArray, few: int, room: int) -> IntArray:
    """Places of the at most `room` highest counts of at least `few`, ascending."""
    places = np.flatnonzero(counts >= few)
    return np.sort(places[np.argsort(-counts[places], kind="stable")][:room])


def _truncated_svd(matrix: sparse.csr_matrix, dimension: int) -> FloatMatrix:
    """(features, d) leading right singular vectors, the largest entry of each positive.

    Randomised subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4) on the side of the texts, which are
    fewer than the features; exact where the texts are fewer than the dimensions. scikit-learn's takes 10 to 40 times
    as long here, since it orthogonalises on the side of the features.
    """
    texts, features = matrix.shape
    turned = matrix.T.tocsr()
    if texts <= dimension + 10:
        space = np.eye(texts, dtype=np.float32)
    else:
        start = np.random.default_rng(13).standard_normal((features, dimension + 10), dtype=np.float32)
        space = np.linalg.qr(matrix @ start)[0]
        for _ in range(2):
            space = np.linalg.qr(matrix @ (turned @ space))[0]
    projected = np.asarray(turned @ space, dtype=np.float64)
    values, vectors = np.linalg.eigh(projected.T @ projected)
    kept = np.flatnonzero(values > 1e-6 * values.max(initial=0))[::-1][:dimension]
    if not len(kept):
        return np.zeros((features, 1), dtype=np.float32)
    basis = projected @ (vectors[:, kept] / np.sqrt(values[kept]))
    signs = np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(len(kept))])
    return np.ascontiguousarray(basis * signs, dtype=np.float32)
