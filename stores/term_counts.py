"""Counting the terms of many texts, in arrays: a corpus of a million passages has some sixty million counts.

What a token stands for is the caller's business (an index term, or none). Tested in tests/stores/test_term_counts.py.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Starts = npt.NDArray[np.int64]

_AT_ONCE = 2_000_000
"""Tokens that are held as numbers before they are counted."""
_MOST = 65_535
"""Of one term in one text; more is a list or a table, and says no more."""


@dataclass(frozen=True, slots=True)
class TermCounts:
    """Distinct terms of n texts: row i holds `ids[starts[i]:starts[i + 1]]`, ascending, and how often each occurs."""

    starts: Starts
    ids: Ids
    counts: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.int64]
    """Occurrences of all terms a text, (n,)."""


class TermCounter:
    """Counts texts, and learns the terms on the way: those of several counts of one counter are numbered together."""

    def __init__(self, term_of: Callable[[str], str]) -> None:
        """`term_of` gives the term that a token stands for, "" for none."""
        self._term_of = term_of
        self._tokens: defaultdict[str, int] = defaultdict()
        self._tokens.default_factory = self._tokens.__len__  # a new token gets the next number
        self._places = array("i")
        self._times = np.zeros(0, dtype=np.int64)
        self.terms: dict[str, int] = {}
        """Terms and their ids, in order of appearance."""

    def count(self, texts: Iterable[Sequence[str]]) -> TermCounts:
        """Count texts that are given by their tokens."""
        pieces = list(self._pieces(texts))
        sizes = np.concatenate([sizes for sizes, _, _, _ in pieces])
        return TermCounts(
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            ids=np.concatenate([ids for _, ids, _, _ in pieces]),
            counts=np.concatenate([counts for _, _, counts, _ in pieces]),
            lengths=np.concatenate([lengths for _, _, _, lengths in pieces]),
        )

    def known(self) -> dict[str, int]:
        """Every token met so far, and the id of its term; -1 for those that stand for none."""
        return dict(zip(self._tokens, self._places, strict=True))

    def spellings(self) -> list[str]:
        """Of each term the token that was met most often for it; of several the first in the alphabet."""
        best = [""] * len(self.terms)
        most = [0] * len(self.terms)
        for token, place, times in zip(self._tokens, self._places, self._times.tolist(), strict=True):
            if place >= 0 and (times > most[place] or (times == most[place] and token < best[place])):
                best[place], most[place] = token, times
        return best

    def _pieces(
        self, texts: Iterable[Sequence[str]]
    ) -> Iterator[tuple[Starts, Ids, npt.NDArray[np.uint16], npt.NDArray[np.int64]]]:
        flat, ends = array("i"), array("q")
        number_of = self._tokens.__getitem__
        for tokens in texts:
            flat.extend(map(number_of, tokens))
            ends.append(len(flat))
            if len(flat) >= _AT_ONCE:
                yield self._count(flat, ends)
                flat, ends = array("i"), array("q")
        yield self._count(flat, ends)

    def _count(
        self, flat: array[int], ends: array[int]
    ) -> tuple[Starts, Ids, npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
        """Distinct terms a text, their ids, their counts, and all occurrences a text."""
        self._learn()
        texts = len(ends)
        numbers = np.array(flat, dtype=np.int32)
        self._times = np.pad(self._times, (0, len(self._tokens) - len(self._times)))
        self._times += np.bincount(numbers, minlength=len(self._tokens))
        ids = np.array(self._places, dtype=np.int32)[numbers]
        rows = np.repeat(np.arange(texts, dtype=np.int64), np.diff(np.array(ends), prepend=0))[ids >= 0]
        width = np.int64(max(1, len(self.terms)))
        keys, counts = np.unique(rows * width + ids[ids >= 0], return_counts=True)
        return (
            np.bincount(keys // width, minlength=texts),
            (keys % width).astype(np.int32),
            np.minimum(counts, _MOST).astype(np.uint16),
            np.bincount(rows, minlength=texts),
        )

    def _learn(self) -> None:
        """Find the terms of the tokens that are new."""
        for token in islice(self._tokens, len(self._places), None):
            term = self._term_of(token)
            self._places.append(self.terms.setdefault(term, len(self.terms)) if term else -1)
