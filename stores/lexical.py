"""BM25 over the leaves: bm25s ("lucene" variant) on the terms of stores.language, memory-mapped once saved.

Knows rows and texts, no nodes. Tested in tests/stores/test_lexical.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from branchwise.stores.errors import IndexCorrupt
from branchwise.stores.language import Analyzer, detect_language, tokens
from branchwise.stores.term_counts import TermCounter, TermCounts

if TYPE_CHECKING:
    import bm25s

FloatVector = npt.NDArray[np.float32]
K1 = 0.9  # Pyserini's defaults, tuned on long-document collections and used by BEIR and BRIGHT
B = 0.4


class LexicalIndex:
    """Term statistics of a corpus, one row a text. Immutable; scores are >= 0 and 0 means no term in common."""

    def __init__(self, engine: bm25s.BM25 | None, analyzer: Analyzer, *, rows: int, mean_length: float) -> None:
        self._engine = engine
        self._analyzer = analyzer
        self._rows = rows
        self._mean_length = mean_length

    def __len__(self) -> int:
        return self._rows

    @property
    def language(self) -> str:
        """ISO 639-1 code by which stop words and stemmer were chosen; "" for none."""
        return self._analyzer.language

    @classmethod
    def build(cls, texts: Sequence[str]) -> LexicalIndex:
        """Count the terms of `texts`; row i belongs to texts[i]. The same texts give the same arrays."""
        analyzer = Analyzer(detect_language(texts))
        counter = TermCounter(analyzer.term)
        found = counter.count(map(tokens, texts))
        mean_length = float(found.lengths.mean()) if len(texts) else 0.0
        if not counter.terms:
            return cls(None, analyzer, rows=len(texts), mean_length=0.0)
        import bm25s

        engine = bm25s.BM25(k1=K1, b=B, method="lucene")
        engine.scores = _scores(found, len(counter.terms), mean_length)
        engine.vocab_dict = counter.terms
        engine.nonoccurrence_array = None
        return cls(engine, analyzer, rows=len(texts), mean_length=mean_length)

    def save(self, folder: Path) -> None:
        """Write arrays and vocabulary into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "rows": self._rows,
            "mean_length": self._mean_length,
            "language": self._analyzer.language,
            "stemmer": self._analyzer.stemmer,
            "empty": self._engine is None,
        }
        (folder / "lexical.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        if self._engine is not None:
            self._engine.save(folder)

    @classmethod
    def load(cls, folder: Path, *, mmap: bool = True) -> LexicalIndex:
        """Open what `save` wrote. Raises IndexCorrupt naming the folder, InputError where the stemmer is missing."""
        try:
            facts = json.loads((folder / "lexical.json").read_text(encoding="utf-8"))
            analyzer = Analyzer(facts["language"], stemmer=facts["stemmer"])
            engine = None
            if not facts["empty"]:
                import bm25s

                engine = bm25s.BM25.load(folder, mmap=mmap, show_progress=False)
                if engine.scores["num_docs"] != facts["rows"]:
                    raise ValueError("the arrays have another number of rows")
            return cls(engine, analyzer, rows=facts["rows"], mean_length=facts["mean_length"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise IndexCorrupt(f"The lexical index in {folder} is damaged: {error}") from error

    def scores(self, query: str) -> FloatVector:
        """BM25 of every row, (n,)."""
        term_ids = self._term_ids(query)
        if self._engine is None or not term_ids:
            return np.zeros(self._rows, dtype=np.float32)
        found: FloatVector = self._engine.get_scores_from_ids(term_ids)
        return found

    def top(self, query: str, k: int) -> list[tuple[int, float]]:
        """At most `k` rows that share a term with the query, best first, ties by row."""
        return top_rows(self.scores(query), k)

    def score_texts(self, query: str, texts: Sequence[str]) -> list[float]:
        """BM25 of `query` against texts that are not rows, by the corpus' own idf and mean length."""
        weights = {term_id: self._idf(term_id) * times for term_id, times in Counter(self._term_ids(query)).items()}
        if self._engine is None or not weights:
            return [0.0] * len(texts)
        vocabulary = self._engine.vocab_dict
        found = []
        for text in texts:
            terms = self._analyzer.terms(text)
            counts = Counter(vocabulary.get(term) for term in terms)
            norm = K1 * (1 - B + B * len(terms) / self._mean_length)
            found.append(sum(weight * counts[i] / (counts[i] + norm) for i, weight in weights.items()))
        return found

    def idf(self, term: str) -> float:
        """Inverse document frequency of an index term, ln(1 + (n - df + .5) / (df + .5)); that of df 0 if unknown."""
        term_id = self._engine.vocab_dict.get(term) if self._engine is not None else None
        return self._idf(term_id)

    def terms(self, text: str) -> list[str]:
        """Index terms of `text`, in order, as this corpus is indexed."""
        return self._analyzer.terms(text)

    def _term_ids(self, query: str) -> list[int]:
        if self._engine is None:
            return []
        vocabulary = self._engine.vocab_dict
        return [term_id for term in self._analyzer.terms(query) if (term_id := vocabulary.get(term)) is not None]

    def _idf(self, term_id: int | None) -> float:
        frequency = 0
        if term_id is not None and self._engine is not None:
            starts = self._engine.scores["indptr"]
            frequency = int(starts[term_id + 1] - starts[term_id])
        return float(np.log1p((self._rows - frequency + 0.5) / (frequency + 0.5)))


def _scores(found: TermCounts, terms: int, mean_length: float) -> dict[str, Any]:
    """BM25 of every term in every text that holds it, by term: what bm25s keeps of an index.

    bm25s makes the same of lists of numbers, and holds them all: 2.5 times the time at 100,000 texts.
    """
    rows, frequency = len(found.lengths), np.bincount(found.ids, minlength=terms)
    norms = (K1 * (1 - B + B * found.lengths / mean_length)).astype(np.float32)
    order = np.argsort(found.ids, kind="stable")  # by term, and within a term by row
    indices = np.repeat(np.arange(rows, dtype=np.int32), np.diff(found.starts))[order]
    data = found.counts[order].astype(np.float32)
    data /= data + norms[indices]
    idf = np.log1p((rows - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
    data *= np.repeat(idf, frequency)
    starts = np.concatenate([[0], np.cumsum(frequency)])
    return {"data": data, "indices": indices, "indptr": starts, "num_docs": rows}


def top_rows(scores: npt.NDArray[np.floating], k: int) -> list[tuple[int, float]]:
    """The `k` rows with the highest scores above 0, best first, ties by row."""
    if k <= 0 or not len(scores):
        return []
    if k < len(scores):
        threshold = -np.partition(-scores, k - 1)[k - 1]
        rows = np.flatnonzero((scores >= threshold) & (scores > 0))
    else:
        rows = np.flatnonzero(scores > 0)
    best = rows[np.argsort(-scores[rows], kind="stable")][:k]
    return [(int(row), float(scores[row])) for row in best]
