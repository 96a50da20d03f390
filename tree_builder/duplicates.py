"""Find passages that say the same thing in the same words, so that one leaf stands for all of them.

A duplicate is hidden behind the passage kept, so the test is strict: the same text whatever its spacing, punctuation,
mark-up and case, or that text within a frame (a header, a footer) of few whole lines or sentences without numbers.
A text in which a word was replaced is another text: of the pairs of docstrings that share 90 % of their three-word
shingles, most differ in "classifier" and "regressor", or "detailed" and "brief"; two problems may differ in a number.

Candidates come from min-hashes of the 16-byte shingles (Broder, "On the resemblance and containment of documents",
1997), and every candidate is checked against the texts. Knows nothing of embeddings. Time is linear in the texts,
memory in the number of passages. Tested in tests/tree_builder/test_duplicates.py.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from itertools import combinations

import numpy as np
import numpy.typing as npt

from branchwise.stores.errors import InputError
from branchwise.stores.records import Origin, Passage

THRESHOLD = 0.95
"""Share of the longer text that the shorter one must be. For a text within another that is the Jaccard similarity of
their shingles. At 0.9 a parameter that one of two functions has and the other lacks would be taken for a frame."""

_TELLING = 100
"""Bytes of condensed text, some 20 words; a shorter text ("Yes.") says nothing without its title."""
_COMPARABLE = 200
"""Bytes of condensed text; in a shorter one a frame of a tenth could be the very point."""

_BREAK = re.compile(r"\n|(?<=[.:;!?。！？])\s|(?<=[。！？])")
_SHINGLE = 16
_HASHES = 4
"""Two of these four must agree: they do for 99.95 % of the passages that share 95 % of their shingles."""
_BLOCK = 1 << 17
"""Bytes hashed at once: their 64-bit hashes fit a processor's cache."""
_COMPARED = 4
"""Passages of one bucket that a new one is compared with: keeps a collection of form letters linear."""

_TYPOGRAPHY = dict.fromkeys(map(ord, "“”„‘’‚«»‹›–—…·•。，、；：！？（）「」『』"))
_IGNORED = b" \t\n\r\f\v.,;:!?'\"`()[]{}#*_~|-"
_DIGITS_ALONE = bytes(byte if byte in b"0123456789-" else 32 for byte in range(256))

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


def find_duplicates(passages: Sequence[Passage], *, threshold: float = THRESHOLD) -> Rows:
    """(n,) for every passage the row of the first that says the same: its own row where that is itself.

    `threshold` in (0, 1] is explained at THRESHOLD; 1 finds only texts that differ in nothing but form. The same
    passages always give the same rows. `passages` is read once in order, and here and there again.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold {threshold} for duplicates: must be above 0 and at most 1")
    sketches = _Sketches()
    same = [sketches.add(row, passage) for row, passage in enumerate(passages)]
    kept_for: Rows = np.array(same, dtype=np.int64)
    if threshold < 1:
        for row, kept in _framed_texts(passages, *sketches.buckets(), threshold):
            kept_for[row] = kept
    return kept_for[kept_for]  # an exact copy of a passage may be a near copy of an earlier one


def merge_duplicates(passages: Sequence[Passage], *, threshold: float = THRESHOLD) -> list[Passage]:
    """The passages without duplicates, in their order; each keeps the places of its duplicates in `duplicates`."""
    origins: dict[int, list[Origin]] = defaultdict(list)
    kept_for = find_duplicates(passages, threshold=threshold).tolist()
    for row, kept in enumerate(kept_for):
        if kept != row:
            origins[kept] += [_origin(passages[row]), *passages[row].duplicates]
    return [
        replace(passage, duplicates=(*passage.duplicates, *origins[row])) if row in origins else passage
        for row, passage in enumerate(passages)
        if kept_for[row] == row
    ]


def _origin(passage: Passage) -> Origin:
    return Origin(
        passage_id=passage.passage_id,
        doc_id=passage.doc_id,
        start=passage.start,
        end=passage.end,
        page=passage.page,
    )


def _condense(text: str) -> bytes:
    """The text without what may differ between two copies: spacing, punctuation, mark-up, case."""
    if text.isascii():
        return text.encode().lower().translate(None, _IGNORED)
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_TYPOGRAPHY)
    return "".join(folded.split()).encode("utf-8", "replace").translate(None, _IGNORED)


def _numbers(text: str) -> bytes:
    """A digest of the numbers in the text, in their order and with their signs, "1.5" apart from "15"."""
    runs = text.encode("utf-8", "replace").translate(_DIGITS_ALONE).split()
    return blake2b(b" ".join(run for run in runs if run != b"-"), digest_size=8).digest()


class _Sketches:
    """What is remembered of each passage: a digest of its text, and the min-hashes of the first with that text."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._rows = array("q")
        self._numbers = bytearray()
        self._hashes: list[Hashes] = []
        self._block: list[bytes] = []
        self._block_size = 0

    def add(self, row: int, passage: Passage) -> int:
        """The row of the first passage with the same text: `row` itself where this is it."""
        condensed, numbers = _condense(passage.text), _numbers(passage.text)
        key = blake2b(condensed or passage.text.encode("utf-8", "replace"), digest_size=16)
        key.update(numbers)
        if len(condensed) < _TELLING:
            key.update(b"\0" + passage.title.encode("utf-8", "replace"))
        first = self._first.setdefault(key.digest(), row)
        if first == row and len(condensed) >= _COMPARABLE:
            self._rows.append(row)
            self._numbers += numbers
            self._block.append(condensed)
            self._block_size += len(condensed)
            if self._block_size >= _BLOCK:
                self._hash_block()
        return first

    def buckets(self) -> tuple[Sequence[int], Hashes]:
        """The rows long enough to compare, and for each a key for every two of its min-hashes, shape (n, 6).

        The numbers in the text go into each key, so that texts with other numbers never meet.
        """
        if self._block:
            self._hash_block()
        if not self._rows:
            return self._rows, np.zeros((0, 1), dtype=np.uint64)
        hashes = np.concatenate(self._hashes)
        numbers = np.frombuffer(bytes(self._numbers), dtype="<u8")
        keys = [_mix(_mix(hashes[:, a] ^ numbers) + hashes[:, b]) for a, b in combinations(range(_HASHES), 2)]
        return self._rows, np.stack(keys, axis=1)

    def _hash_block(self) -> None:
        self._hashes.append(_min_hashes(self._block))
        self._block, self._block_size = [], 0


def _framed_texts(
    passages: Sequence[Passage], rows: Sequence[int], keys: Hashes, threshold: float
) -> Iterator[tuple[int, int]]:
    """Pairs (row, kept row) of a passage and an earlier one of which one holds the other."""

    @lru_cache(maxsize=4096)
    def condensed(row: int) -> bytes:
        return _condense(passages[row].text)

    def framed(one: int, other: int) -> bool:
        if len(condensed(one)) > len(condensed(other)):
            one, other = other, one
        shorter, longer = condensed(one), condensed(other)
        return len(shorter) >= threshold * len(longer) and _is_framed(shorter, longer, passages[other].text)

    buckets: dict[int, list[int]] = defaultdict(list)
    for row, shared_keys in zip(rows, _shared(keys), strict=True):
        candidates = sorted({kept for key in shared_keys for kept in buckets[key]})
        match = next((kept for kept in candidates if framed(row, kept)), None)
        if match is not None:
            yield row, match
            continue
        for key in shared_keys:
            buckets[key].append(row)
            del buckets[key][:-_COMPARED]


def _is_framed(shorter: bytes, longer: bytes, text: str) -> bool:
    """True where `longer`, the condensed `text`, is `shorter` with whole lines or sentences before or after it."""
    start = longer.find(shorter)
    return start >= 0 and _is_break(text, start) and _is_break(text, start + len(shorter))


def _is_break(text: str, length: int) -> bool:
    """True where a line or a sentence ends behind the first `length` bytes of condensed text."""
    total = 0
    for piece in _BREAK.split(text):
        if total >= length:
            break
        total += len(_condense(piece))
    return total == length


def _shared(keys: Hashes) -> Iterator[list[int]]:
    """For each row those of its keys that another row has in the same column."""
    shared = np.zeros(keys.shape, dtype=bool)
    for column in range(keys.shape[1]):
        _, inverse, counts = np.unique(keys[:, column], return_inverse=True, return_counts=True)
        shared[:, column] = counts[inverse] > 1
    for row in range(len(keys)):
        yield keys[row, shared[row]].tolist()


def _min_hashes(texts: Sequence[bytes]) -> Hashes:
    """Shape (len(texts), 4): the least of all shingles' hashes, under four hash functions. No text under 16 bytes."""
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    shingles = _TABLE[np.frombuffer(b"".join(texts), dtype=np.uint8)]
    width = 1
    while width < _SHINGLE:  # the hash of two neighbours makes that of a shingle twice as wide
        shingles = shingles[:-width] * _ODD[0] + shingles[width:]
        width *= 2
    shingles = _mix(shingles)
    # Shingles that begin in the last 15 bytes of a text reach into the next one: a segment of their own, dropped.
    bounds = np.stack([ends - lengths, ends - _SHINGLE + 1], axis=1).ravel()
    if bounds[-1] == len(shingles):
        bounds = bounds[:-1]
    return np.stack([np.minimum.reduceat(shingles * odd, bounds)[::2] for odd in _ODD], axis=1)


def _mix(values: Hashes) -> Hashes:
    """Spread the bits of each value over all 64 (one round of SplitMix64)."""
    values = values ^ (values >> np.uint64(31))
    return values * np.uint64(0xBF58476D1CE4E5B9)


_TABLE: Hashes = np.random.default_rng(0).integers(2**64, size=256, dtype=np.uint64)
_ODD: Hashes = np.random.default_rng(1).integers(2**64, size=_HASHES, dtype=np.uint64) | np.uint64(1)
