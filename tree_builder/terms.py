"""What the words of a corpus say of any set of its passages: counts, and the terms that tell a set from its company.

Terms are those of stores.language (stop words of the corpus' own language left out, inflections folded), shown in the
form that the corpus writes most often: what is made of them is in the language of its sources. Knows nothing of nodes.
Tested in tests/tree_builder/test_terms.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from branchwise.stores.language import Analyzer, detect_language, tokens
from branchwise.stores.term_counts import TermCounter

READ = 6_000
"""Characters of a passage that are counted: about 1,000 words, so all of a passage that was cut. The first 1,500 of a
whole document do not name what stands further down, and then no node says it (SciFact, top ten found at 5 % of the
leaves: top-down .65 with 1,500, .75 with 6,000; bottom-up .84 and .85)."""
PIECE = 16_384
"""Passages whose terms are summed at once."""
REPEATS = 3
"""A term counts at most so often in one passage: one long list must not name a whole cluster."""

Ids = npt.NDArray[np.int32]
Counts = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Profile:
    """Terms of a set of passages: distinct ids (ascending), their counts, and in how many passages each stands."""

    ids: Ids
    counts: Counts
    spread: Counts
    passages: int

    @property
    def total(self) -> float:
        """All counts together."""
        return float(self.counts.sum())


class TermTable:
    """Term counts of passages, row by row, in flat arrays: 5 bytes a distinct term of a passage."""

    def __init__(
        self,
        starts: npt.NDArray[np.int64],
        ids: Ids,
        counts: npt.NDArray[np.uint8],
        words: Sequence[str],
        known: Mapping[str, int],
    ) -> None:
        """Row i holds `ids[starts[i]:starts[i + 1]]`; `known` maps tokens to ids, -1 for those that name nothing."""
        self._starts = starts
        self._ids = ids
        self._counts = counts
        self.words = words
        self._known = known
        frequency = np.bincount(ids, minlength=len(words)).astype(np.float32)
        self.idf = np.log(max(1, len(self)) / np.maximum(frequency, 1.0)).astype(np.float32)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @classmethod
    def count(cls, texts: Sequence[str]) -> TermTable:
        """Count the terms of `texts`; row i belongs to texts[i]."""
        analyzer = Analyzer(detect_language(texts))
        counter = TermCounter(lambda token: analyzer.term(token) if _names_something(token) else "")
        found = counter.count(tokens(text[:READ]) for text in texts)
        counts = np.minimum(found.counts, REPEATS).astype(np.uint8)
        return cls(found.starts, found.ids, counts, counter.spellings(), counter.known())

    def profile(self, rows: npt.NDArray[np.integer]) -> Profile:
        """The terms of the passages `rows`, together."""
        if len(rows) == 1:  # most often asked, and already in order
            span = slice(int(self._starts[rows[0]]), int(self._starts[rows[0] + 1]))
            counts = self._counts[span].astype(np.float32)
            return Profile(self._ids[span], counts, np.ones_like(counts), 1)
        if len(rows) > PIECE:
            return self._large_profile(rows)
        places = self._places(rows)
        ids, inverse = np.unique(self._ids[places], return_inverse=True)
        counts = np.bincount(inverse, weights=self._counts[places], minlength=len(ids)).astype(np.float32)
        spread = np.bincount(inverse, minlength=len(ids)).astype(np.float32)
        return Profile(ids, counts, spread, len(rows))

    def _large_profile(self, rows: npt.NDArray[np.integer]) -> Profile:
        """The same for so many passages that nearly every word stands in them: summed word by word, in pieces."""
        counts, spread = np.zeros(len(self.words)), np.zeros(len(self.words))
        for start in range(0, len(rows), PIECE):
            places = self._places(rows[start : start + PIECE])
            counts += np.bincount(self._ids[places], weights=self._counts[places], minlength=len(counts))
            spread += np.bincount(self._ids[places], minlength=len(counts))
        ids = np.flatnonzero(spread)
        known = counts[ids].astype(np.float32), spread[ids].astype(np.float32)
        return Profile(ids.astype(np.int32), *known, len(rows))

    def _places(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Where the terms of the passages `rows` stand in the flat arrays, passage by passage."""
        starts, sizes = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        before = np.cumsum(sizes) - sizes
        return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))

    def profile_of(self, found: Sequence[str]) -> Profile:
        """The terms of one text that need not be a row, given its tokens."""
        counts = Counter(place for token in found if (place := self.place(token)) is not None)
        ids = np.array(sorted(counts), dtype=np.int32)
        times = np.array([min(counts[place], REPEATS) for place in ids.tolist()], dtype=np.float32)
        return Profile(ids, times, np.ones_like(times), 1)

    def weigh(self, profile: Profile, company: Profile | None) -> Counts:
        """How much each term of `profile` says of it, (len(profile.ids),): share times surprise.

        A class-based TF-IDF: the share of a term among the terms of the set, times how much more frequent it is there
        than in its company (the parent), plus how rare it is in the corpus. Terms of a single passage of many are
        discounted: they name the passage, not the set.
        """
        share = profile.counts / max(profile.total, 1.0)
        surprise = 0.5 * self.idf[profile.ids] + 0.01  # words that all share still name a set that has no others
        if company is not None and company.passages > profile.passages:
            places = np.searchsorted(company.ids, profile.ids)
            usual = company.counts[places] / max(company.total, 1.0)
            surprise = surprise + np.maximum(np.log(share / usual), 0.0)
        common = profile.spread / (profile.spread + (0.5 if profile.passages > 2 else 0.0))
        return np.asarray(share * surprise * common, dtype=np.float32)

    def key_terms(self, profile: Profile, company: Profile | None, limit: int) -> list[str]:
        """At most `limit` terms that tell the set from its company, most telling first, ties by spelling."""
        weights = self.weigh(profile, company)
        few = np.argsort(-weights, kind="stable")[: 2 * limit]
        named = sorted((-float(weights[i]), self.words[profile.ids[i]]) for i in few if weights[i] > 0)
        return [word for _, word in named[:limit]]

    def place(self, token: str) -> int | None:
        """The id of the term that a token of a text stands for; None for stop words and unknown words."""
        place = self._known.get(token)
        return place if place is not None and place >= 0 else None


def _names_something(token: str) -> bool:
    """False for numbers and single characters, which make poor names (of ideographs, the pairs are counted)."""
    return len(token) > 1 and not token.isdigit()
