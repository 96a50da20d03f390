"""LATTICE's top-down tree: from the root, what lies below a node is sorted into topics until all fit under one node.

Of the five summaries of an item one level is chosen, its distinct strings are sorted into topics (by a model, or by
their vectors), and items follow their string. What the paper leaves open is decided here, so that every recursion ends
and every item has one place whatever a model replies:

    a string that the reply forgets       goes to the topic whose items are nearest to its own
    a string that it invents              does not exist: members are numbers, others are dropped
    a string that it lists twice          stays where it stood first
    more topics than a node may have      the smallest join the nearest
    a topic of one item                   joins the nearest topic
    a topic that takes (nearly) all       no progress: the node is split by vectors instead
    more than M identical strings         a more specific level next; if all five are equal, vectors
    N <= M                                no topics are asked for
    a topic of few items beside large     as many levels as its siblings, cut by vectors

Knows no prompts and no files. Tested in tests/tree_builder/test_top_down.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from branchwise.stores.records import Part
from branchwise.tree_builder.bottom_up import even_sizes, group_centres, mend
from branchwise.tree_builder.cluster import FloatMatrix, Rows, Sizes, group
from branchwise.tree_builder.outline import ROOT, NodeSummary, Outline, inner_id
from branchwise.tree_builder.summarise import Levels, Summariser, Topic, compose, shorten

NO_PROGRESS = 0.9
"""Share of the items that one topic may take; more, and the sorting has told nothing apart."""
FEWEST = 3
"""Topics asked for at least: two would make the tree as deep as a binary one."""


@dataclass(frozen=True, slots=True)
class Items:
    """What is sorted: leaves, or clusters that stand for their leaves. Row i of all three belongs to `ids[i]`."""

    ids: Sequence[str]
    levels: Sequence[Levels]
    vectors: FloatMatrix


async def top_down(items: Items, summariser: Summariser, *, max_children: int, seed: int, room: int) -> Outline:
    """The tree over `items`; no node has more than `max_children` children, none but the root fewer than two.

    `room` is how many characters of strings one call may hold. Topics that a model has described are their nodes'
    texts.
    """
    tree = _Growth(items, summariser, max_children, seed, room)
    top = await tree.grow(np.arange(len(items.ids), dtype=np.int64))
    children = {ROOT: top, **tree.children}
    return Outline(children, tree.written(children))


class _Growth:
    """One top-down build: the children and topics found so far."""

    def __init__(self, items: Items, summariser: Summariser, max_children: int, seed: int, room: int) -> None:
        self.items = items
        self.summariser = summariser
        self.max_children = max_children
        self.seed = seed
        self.room = room
        self.children: dict[str, tuple[str, ...]] = {}
        self.topics: dict[str, Topic] = {}

    async def grow(self, rows: Rows) -> tuple[str, ...]:
        """Ids of the children of the node that holds `rows`, everything below them already grown."""
        if len(rows) <= self.max_children:
            return tuple(self.items.ids[row] for row in rows)
        groups = await self.sort(rows)
        below = self.even(groups, await asyncio.gather(*(self.grow(members) for members, _ in groups)))
        ids = []
        for children, (_, topic) in zip(below, groups, strict=True):
            node_id = inner_id(children, salt="top-down")
            self.children[node_id] = children
            if topic is not None and topic.written_by:
                self.topics[node_id] = topic
            ids.append(node_id)
        return tuple(ids)

    def even(
        self, groups: Sequence[tuple[Rows, Topic | None]], below: Sequence[tuple[str, ...]]
    ) -> list[tuple[str, ...]]:
        """Children of each group, those of a group that needed no sorting as deep as its siblings'.

        A search orders nodes by the path above them, which each level thins out: a cluster that hangs higher than the
        others would be opened before all of them, whatever it holds.
        """
        heights = [self.height(children) for children in below]
        return [
            self.stretch(members, max(heights) - 1) if height == 1 else children
            for (members, _), children, height in zip(groups, below, heights, strict=True)
        ]

    def stretch(self, rows: Rows, levels: int) -> tuple[str, ...]:
        """Ids of the children of a node that holds `rows`, at most M, with `levels` nodes between if they suffice."""
        if not levels or len(rows) < 4:
            return tuple(self.items.ids[row] for row in rows)
        ids = []
        for part in self.halves(rows):
            children = self.stretch(part, levels - 1)
            node_id = inner_id(children, salt="top-down")
            self.children[node_id] = children
            ids.append(node_id)
        return tuple(ids)

    def halves(self, rows: Rows) -> list[Rows]:
        """`rows` in two by their vectors, neither much larger."""
        half = len(rows) / 2
        sizes = Sizes(least=max(2.0, half / 2), target=half, most=len(rows) - 2.0)
        vectors = np.asarray(self.items.vectors[rows])
        parts = mend(vectors, group(vectors, sizes, seed=self.seed), len(rows))
        parts = parts if len(parts) > 1 else np.array_split(np.arange(len(rows)), 2)
        return [rows[part] for part in parts]

    def height(self, ids: Sequence[str]) -> int:
        """Levels from a node with the children `ids` down to the items."""
        return 1 + max(self.height(self.children[node_id]) if node_id in self.children else 0 for node_id in ids)

    async def sort(self, rows: Rows) -> list[tuple[Rows, Topic | None]]:
        """`rows` in at least two groups, each smaller than all, with the topic that made it (None: vectors did)."""
        level = choose_level([self.items.levels[row] for row in rows], self.max_children, self.room)
        if level is not None:
            strings, place_of, counts = distinct([self.items.levels[row][level] for row in rows])
            asked = strings[: fitting(strings, self.room)]
            most = min(self.max_children, max(FEWEST, -(-2 * len(rows) // self.max_children)))
            topics = await self.summariser.topics(asked, counts[: len(asked)], fewest=min(FEWEST, most), most=most)
            groups = place(topics, place_of, rows, self.items.vectors, self.max_children)
            if len(groups) > 1 and max(len(members) for members, _ in groups) <= NO_PROGRESS * len(rows):
                return groups
        return [(members, None) for members in self.split(rows)]

    def split(self, rows: Rows) -> list[Rows]:
        """`rows` in groups by their vectors."""
        vectors = np.asarray(self.items.vectors[rows])
        wanted = even_sizes(len(rows), self.max_children)
        count = max(2, round(min(self.max_children, wanted.target)))
        share = len(rows) / count
        sizes = type(wanted)(least=share / 2, target=share, most=min(2 * share, len(rows) - 2))
        groups = mend(vectors, group(vectors, sizes, seed=self.seed), len(rows))
        if len(groups) < 2 or len(groups) > self.max_children:
            groups = np.array_split(np.arange(len(rows)), count)
        return [rows[members] for members in groups]

    def written(self, children: Mapping[str, tuple[str, ...]]) -> dict[str, NodeSummary]:
        """Topics as node texts, with a part a child: a topic's description, an item's most specific summary."""
        own = dict(zip(self.items.ids, self.items.levels, strict=True))
        summaries = {}
        for node_id, topic in self.topics.items():
            parts = []
            for child in children[node_id]:
                said = self.topics.get(child)
                line = f"{said.name}: {said.description}" if said else own[child][-1] if child in own else ""
                if line:
                    parts.append(Part(child_id=child, text=shorten(line, 200)))
            theme = " ".join(part for part in (topic.description, ", ".join(topic.keywords)) if part)
            summaries[node_id] = NodeSummary(
                title=shorten(topic.name, 80),
                text=compose([theme], parts),
                parts=tuple(parts),
                keywords=topic.keywords,
                written_by=topic.written_by,
            )
        return summaries


def choose_level(levels: Sequence[Levels], max_children: int, room: int) -> int | None:
    """The most specific level with more than `max_children` distinct strings that fit into `room` characters.

    Where none has so many, the level with the most distinct strings (at least two); where none fits, the broadest that
    has enough: as many of its strings as fit are sorted, most frequent first. None where all strings are equal.
    """
    distinct_strings = [{level[place] for level in levels} for place in range(5)]
    enough = [place for place in range(5) if len(distinct_strings[place]) > max_children]
    for place in reversed(enough):
        if sum(map(len, distinct_strings[place])) <= room:
            return place
    if enough:
        return enough[0]
    best = max(range(5), key=lambda place: (len(distinct_strings[place]), place))
    return best if len(distinct_strings[best]) > 1 else None


def distinct(strings: Sequence[str]) -> tuple[list[str], list[int], list[int]]:
    """Distinct strings, most frequent first; for every string its place among them; and their counts."""
    counts: dict[str, int] = {}
    for string in strings:
        counts[string] = counts.get(string, 0) + 1
    ordered = sorted(counts, key=lambda string: (-counts[string], string))
    places = {string: place for place, string in enumerate(ordered)}
    return ordered, [places[string] for string in strings], [counts[string] for string in ordered]


def fitting(strings: Sequence[str], room: int) -> int:
    """How many of `strings`, from the first on, fit into `room` characters; at least one."""
    used = 0
    for place, string in enumerate(strings):
        used += len(string)
        if used > room:
            return max(1, place)
    return len(strings)


def place(
    topics: Sequence[Topic], place_of: Sequence[int], rows: Rows, vectors: FloatMatrix, max_children: int
) -> list[tuple[Rows, Topic | None]]:
    """Every row in one topic, by its string `place_of[i]`: no topic of fewer than two rows, at most `max_children`."""
    owner: dict[int, int] = {}
    for number, topic in enumerate(topics):
        for member in topic.members:
            owner.setdefault(member, number)
    label = np.array([owner.get(string, -1) for string in place_of], dtype=np.int64)
    if not (label >= 0).any():
        return []
    likeness = np.asarray(vectors[rows])
    while True:
        kept, sizes = np.unique(label[label >= 0], return_counts=True)
        centres = group_centres(likeness, [np.flatnonzero(label == number) for number in kept])
        if (label < 0).any():
            lost = np.flatnonzero(label < 0)
            label[lost] = kept[np.argmax(likeness[lost] @ centres.T, axis=1)]
            continue
        smallest = int(np.argmin(sizes))
        if len(kept) == 1 or (sizes[smallest] > 1 and len(kept) <= max_children):
            break
        others = np.delete(np.arange(len(kept)), smallest)
        nearest = others[int(np.argmax(centres[others] @ centres[smallest]))]
        label[label == kept[smallest]] = kept[nearest]
    return [(rows[label == number], topics[number]) for number in kept.tolist()]
