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

READ = 1_500
"""Characters of a passage that are counted: about 250 words, which name its subject."""
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
    """Term counts of passages, row by row, in flat arrays: 8 bytes a distinct term of a passage."""

    def __init__(
        self,
        starts: npt.NDArray[np.int64],
        ids: Ids,
        counts: Counts,
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
        place_of: dict[str, int] = {}
        known: dict[str, int] = {}
        forms: list[Counter[str]] = []
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        ids: list[npt.NDArray[np.int32]] = []
        counts: list[npt.NDArray[np.float32]] = []
        for row, text in enumerate(texts):
            found: Counter[int] = Counter()
            for token in tokens(text[:READ]):
                place = known.get(token)
                if place is None:
                    term = analyzer.term(token) if _names_something(token) else ""
                    place = place_of.setdefault(term, len(place_of)) if term else -1
                    if place == len(forms):
                        forms.append(Counter())
                    known[token] = place
                if place >= 0:
                    found[place] += 1
                    forms[place][token] += 1
            ordered = sorted(found)
            ids.append(np.array(ordered, dtype=np.int32))
            counts.append(np.array([min(found[place], REPEATS) for place in ordered], dtype=np.float32))
            starts[row + 1] = starts[row] + len(ordered)
        words = [max(sorted(form), key=form.__getitem__) for form in forms]
        flat_ids = np.concatenate(ids) if ids else np.empty(0, dtype=np.int32)
        flat_counts = np.concatenate(counts) if counts else np.empty(0, dtype=np.float32)
        return cls(starts, flat_ids, flat_counts, words, known)

    def profile(self, rows: npt.NDArray[np.integer]) -> Profile:
        """The terms of the passages `rows`, together."""
        spans = [slice(self._starts[row], self._starts[row + 1]) for row in rows.tolist()]
        if not spans:
            return Profile(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32), 0)
        if len(spans) == 1:  # most often asked, and already in order
            ids, counts = self._ids[spans[0]], self._counts[spans[0]]
            return Profile(ids, counts, np.ones_like(counts), 1)
        flat = np.concatenate([self._ids[span] for span in spans])
        weights = np.concatenate([self._counts[span] for span in spans])
        ids, places = np.unique(flat, return_inverse=True)
        counts = np.bincount(places, weights=weights, minlength=len(ids)).astype(np.float32)
        spread = np.bincount(places, minlength=len(ids)).astype(np.float32)
        return Profile(ids, counts, spread, len(spans))

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
