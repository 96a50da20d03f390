"""What a node says of the passages below it: the Summariser protocol, and the one that needs no model.

A text has to help a judge who sees nothing else to tell whether the answer lies below: the terms that tell the node
from its siblings, a central sentence, and a fingerprint of every child. The model's summariser is model_summariser.
Tested in tests/tree_builder/test_summarise.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from branchwise.stores.language import sentences, tokens
from branchwise.stores.records import Part, Passage
from branchwise.tree_builder.cluster import FloatMatrix, Sizes, group
from branchwise.tree_builder.outline import NodeSummary, RowArray
from branchwise.tree_builder.terms import READ, Profile, TermTable

Levels = tuple[str, str, str, str, str]
LEVEL_WORDS = ((1, 2), (3, 4), (4, 6), (7, 10), (11, 20))
"""Words of the five summaries of a passage, from the broadest to the most specific (lattice: section 1)."""
LONGEST_TEXT = 1_600
"""Characters of a node's text at most: sixteen of them are a slate of about 6,000 tokens."""
LONGEST_TITLE = 80
CENTRAL = 3
"""Leaves of a node whose sentences are read for the most central one."""
LONGEST_PART = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildText:
    """A child as its parent's summary sees it; `rows` are the leaves below it (its own for a leaf)."""

    node_id: str
    title: str
    text: str
    rows: RowArray
    keywords: tuple[str, ...] = ()
    is_leaf: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic that strings were sorted into; `members` are positions in the list of strings that was given.

    `written_by` names the model that described it; "" where nobody did, and the node has still to be summarised.
    """

    name: str
    description: str
    keywords: tuple[str, ...]
    members: tuple[int, ...]
    written_by: str = ""


class Summariser(Protocol):
    """Writes what nodes say. Every method is pure: the same input and the same model give the same text."""

    name: str

    async def levels(self, passages: Sequence[Passage]) -> list[Levels]:
        """Five summaries of each passage, from the broadest to the most specific."""
        ...

    async def summarise(self, children: Sequence[ChildText], company: RowArray) -> NodeSummary:
        """The summary of a node from its children; `company` are the leaves of its parent (of itself: the root)."""
        ...

    async def topics(self, strings: Sequence[str], counts: Sequence[int], *, fewest: int, most: int) -> list[Topic]:
        """Topics that cover `strings`, which `counts` passages share; strings may be left out or named twice."""
        ...


class ExtractiveSummariser:
    """Key terms and central sentences of the passages themselves: no model, no network, the language of the source."""

    name = "extractive"

    def __init__(self, table: TermTable, embed: Callable[[Sequence[str]], FloatMatrix]) -> None:
        """`table` counts the passages, row by row; `embed` gives unit vectors, by which strings are sorted."""
        self._table = table
        self._embed = embed
        self._company: tuple[RowArray, Profile] | None = None

    async def levels(self, passages: Sequence[Passage]) -> list[Levels]:
        """Key terms of each passage: level 1 is the one that most other passages share, level 5 its best twenty."""
        return [self._levels(passage) for passage in passages]

    async def topics(self, strings: Sequence[str], counts: Sequence[int], *, fewest: int, most: int) -> list[Topic]:
        """Strings grouped by their vectors, every string in one topic; named by the words that most of them hold."""
        vectors = await asyncio.to_thread(self._embed, strings)
        weights = np.array(counts, dtype=np.float32)
        wanted = max(fewest, min(most, round(0.75 * most)))
        share = max(float(weights.sum()) / wanted, 1.0)
        sizes = Sizes(least=share / 2, target=share, most=max(2 * share, float(weights.max())))
        groups = group(vectors, sizes, seed=0, weights=weights)
        return [_topic(strings, counts, members.tolist()) for members in groups]

    async def summarise(self, children: Sequence[ChildText], company: RowArray) -> NodeSummary:
        """Key terms against the parent's other leaves, the most central sentence, and a fingerprint a child."""
        rows = np.unique(np.concatenate([child.rows for child in children])) if children else np.empty(0, np.int32)
        own = self._table.profile(rows)
        keywords = tuple(self._table.key_terms(own, self._company_of(company), 16))
        parts = tuple(Part(child_id=child.node_id, text=self._fingerprint(child, own)) for child in children)
        central = self._central_sentence([child for child in children if child.is_leaf], own)
        return NodeSummary(
            title=_title(children, keywords),
            text=compose([", ".join(keywords), central], parts),
            parts=parts,
            keywords=keywords,
            written_by=self.name,
        )

    def _levels(self, passage: Passage) -> Levels:
        """The five levels of one passage, most general words first."""
        profile = self._table.profile_of(tokens(f"{passage.title}\n{passage.text[:READ]}"))
        weights = self._table.weigh(profile, None)
        best = np.argsort(-weights, kind="stable")[: LEVEL_WORDS[-1][1]]
        words = [self._table.words[place] for place in profile.ids[best]] or passage.title.split()[:2] or ["-"]
        rarity = dict(zip(words, self._table.idf[profile.ids[best]].tolist(), strict=False))
        general = sorted(words[:8], key=lambda word: (rarity.get(word, 0.0), word))
        first, second, third = (" ".join(sorted(general[:most])) for _, most in LEVEL_WORDS[:3])
        return first.split()[0], second, third, " ".join(words[: LEVEL_WORDS[3][1]]), " ".join(words)

    def fingerprint(self, child: ChildText, company: RowArray) -> Part:
        """One line on a child that tells it from the other leaves of its parent, `company`."""
        return Part(child_id=child.node_id, text=self._fingerprint(child, self._company_of(company)))

    def _company_of(self, company: RowArray) -> Profile:
        """The profile of the parent's leaves; siblings come one after the other and share one array."""
        if self._company is None or self._company[0] is not company:
            self._company = (company, self._table.profile(company))
        return self._company[1]

    def _fingerprint(self, child: ChildText, company: Profile) -> str:
        """One line on a child: its title and the terms that only it has."""
        terms = list(child.keywords[:8]) or self._table.key_terms(self._table.profile(child.rows), company, 8)
        said = set(tokens(child.title))
        fresh = [term for term in terms if term not in said]
        head = shorten(child.title, LONGEST_PART // 2)
        return shorten(": ".join(text for text in (head, ", ".join(fresh)) if text), LONGEST_PART)

    def _central_sentence(self, leaves: Sequence[ChildText], own: Profile) -> str:
        """The sentence of the most central leaves that says most in fewest words; "" where there are no leaves."""
        worth = self._table.weigh(own, None)
        if len(leaves) > CENTRAL:
            terms = [self._table.profile(leaf.rows).ids for leaf in leaves]
            sums = [float(worth[np.searchsorted(own.ids, ids)].sum()) / (1 + len(ids)) ** 0.5 for ids in terms]
            leaves = [leaves[place] for place in np.argsort(-np.array(sums), kind="stable")[:CENTRAL]]
        weights = dict(zip(own.ids.tolist(), worth.tolist(), strict=True))
        best, best_score = "", 0.0
        for leaf in leaves:
            text = leaf.text[:1_500]
            for start, end in sentences(text)[:8]:
                found = tokens(text[start:end])
                if not 5 <= len(found) <= 60:
                    continue
                places = {place for token in found if (place := self._table.place(token)) is not None}
                score = sum(weights.get(place, 0.0) for place in places) / (8 + len(found)) ** 0.5
                if score > best_score:
                    best, best_score = text[start:end], score
        return shorten(" ".join(best.split()), 300)


def _topic(strings: Sequence[str], counts: Sequence[int], members: Sequence[int]) -> Topic:
    """A topic named by its most frequent words."""
    words: Counter[str] = Counter()
    for place in members:
        for word in dict.fromkeys(strings[place].split()):
            words[word] += counts[place]
    keywords = tuple(sorted(words, key=lambda word: (-words[word], word))[:8])
    return Topic(name=", ".join(keywords[:4]), description="", keywords=keywords, members=tuple(members))


def compose(theme: Sequence[str], parts: Sequence[Part]) -> str:
    """The text of a node: its theme, then a line a child, each cut alike where all would be too long."""
    head = [text for text in theme if text]
    room = LONGEST_TEXT - sum(len(text) + 1 for text in head)
    each = max(24, room // max(1, len(parts)) - 3)
    lines = [f"- {shorten(part.text, each)}" for part in parts if part.text]
    return "\n".join([*head, *lines])[:LONGEST_TEXT]


def shorten(text: str, length: int) -> str:
    """`text` on one line, cut at a word where it is longer than `length` characters."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    cut = line.rfind(" ", length // 2, length)
    return line[: cut if cut > 0 else length - 1].rstrip(" ,;:.-…") + "…"


def _title(children: Sequence[ChildText], keywords: Sequence[str]) -> str:
    """The words that all children's titles begin with, if there are any, and the first key terms."""
    shared = _shared_start([child.title for child in children])
    said = set(tokens(shared))
    terms = ", ".join([word for word in keywords if word not in said][: 3 if shared else 5])
    return shorten(": ".join(text for text in (shared, terms) if text), LONGEST_TITLE)


def _shared_start(titles: Sequence[str]) -> str:
    """The words that all titles begin with ("PEP 8 - Naming" and "PEP 8 - Layout": "PEP 8"), without loose ends."""
    if len(titles) < 2 or not all(titles):
        return titles[0] if len(titles) == 1 else ""
    words = [title.split() for title in titles]
    shared = []
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
        if column[0].endswith((",", ":")):  # what follows are key terms, not the works' common name
            break
    while shared and not any(letter.isalnum() for letter in shared[-1]):
        shared.pop()
    return shorten(" ".join(shared).rstrip(" -:,;|/>"), LONGEST_TITLE // 2) if shared else ""
