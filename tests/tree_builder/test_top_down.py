"""Top-down sorting, and each case that the paper leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.tree_builder.outline import ROOT, Outline
from branchwise.tree_builder.summarise import Levels, Topic
from branchwise.tree_builder.top_down import Items, choose_level, distinct, place, top_down

M = 6


class Sorter:
    """A summariser whose topics are a function of the strings."""

    name = "sorter"

    def __init__(self, sort: Callable[[Sequence[str]], list[list[int]]]) -> None:
        self.sort = sort
        self.asked: list[list[str]] = []

    async def topics(self, strings: Sequence[str], counts: Sequence[int], *, fewest: int, most: int) -> list[Topic]:
        """Topics named by number."""
        self.asked.append(list(strings))
        return [
            Topic(name=f"t{n}", description=f"topic {n}", keywords=("k",), members=tuple(m), written_by=self.name)
            for n, m in enumerate(self.sort(strings))
        ]


def items(count: int, level: Callable[[int], Levels] | None = None) -> Items:
    """`count` items with distinct strings and random vectors."""
    vectors = np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    level = level or (lambda n: (f"a{n % 3}", f"b{n % 5}", f"c{n % 8}", f"d{n % 12}", f"e{n}"))
    return Items([f"p:{n}" for n in range(count)], [level(n) for n in range(count)], vectors)


async def grow(of: Items, sorter: Sorter) -> Outline:
    """A tree, checked: every item once, fan-out kept, children of a kind."""
    outline = await top_down(of, sorter, max_children=M, seed=0, room=10_000)  # type: ignore[arg-type]
    leaves = [child for below in outline.children.values() for child in below if child not in outline.children]
    assert sorted(leaves) == sorted(of.ids)
    for node_id, below in outline.children.items():
        assert len(below) <= M
        assert len(below) >= 2 or node_id == ROOT
    return outline


def chunks(strings: Sequence[str], count: int) -> list[list[int]]:
    """An honest sorting into `count` topics."""
    return [part.tolist() for part in np.array_split(np.arange(len(strings)), count)]


@pytest.mark.parametrize("count", [0, 1, M])
async def test_few_items_need_no_topics(count: int) -> None:
    """N <= M: the items are the root's children, and nobody is asked."""
    sorter = Sorter(lambda strings: chunks(strings, 3))
    outline = await grow(items(count), sorter)
    assert len(outline.children[ROOT]) == count
    assert sorter.asked == []


async def test_a_small_topic_hangs_no_higher_than_its_siblings() -> None:
    """Leaves of a topic that needed no sorting stand as deep as those of the others: no search opens it for that."""
    sorter = Sorter(
        lambda strings: [list(range(5)), *([place + 5 for place in part] for part in chunks(strings[5:], 4))]
    )
    outline = await grow(items(5 + 4 * M), sorter)
    heights = outline.heights()
    assert {heights[child] for child in outline.children[ROOT]} == {1}, "all are of one height as they are"
    sorter = Sorter(
        lambda strings: (
            [list(range(5)), *([place + 5 for place in part] for part in chunks(strings[5:], 2))]
            if len(strings) > 3 * M
            else chunks(strings, 3)
        )
    )
    outline = await grow(items(5 + 4 * M), sorter)
    assert {outline.heights()[child] for child in outline.children[ROOT]} == {2}


async def test_topics_become_nodes_with_their_texts() -> None:
    """An honest sorting is the tree, and what the model said of a topic is its node's text, a part a child."""
    outline = await grow(items(18), Sorter(lambda strings: chunks(strings, 3)))
    assert len(outline.children[ROOT]) == 3
    for node_id in outline.children[ROOT]:
        said = outline.written[node_id]
        assert "topic" in said.text
        assert [part.child_id for part in said.parts] == list(outline.children[node_id])
        assert said.written_by == "sorter"


@pytest.mark.parametrize(
    ("name", "sort"),
    [
        ("forgotten", lambda strings: [[0, 1, 2], [3, 4]]),
        ("invented", lambda strings: [[0, 1, 999], [2, -5, 3], *([] for _ in strings)]),
        ("listed twice", lambda strings: [list(range(len(strings))), list(range(len(strings)))]),
        ("nothing", lambda strings: []),
        ("one takes all", lambda strings: [list(range(len(strings)))]),
        ("one takes nearly all", lambda strings: [list(range(1, len(strings))), [0]]),
        ("topics of one", lambda strings: [[n] for n in range(len(strings))]),
        ("too many topics", lambda strings: chunks(strings, 15)),
    ],
)
async def test_every_open_case_ends_in_a_sound_tree(
    name: str, sort: Callable[[Sequence[str]], list[list[int]]]
) -> None:
    """Forgotten, invented and doubled strings, no progress, topics of one: every item has one place, and it ends."""
    for count in (M + 1, 40, 90):
        await grow(items(count), Sorter(sort))


async def test_identical_strings_are_split_by_vectors() -> None:
    """More than M items that are equal on all five levels still end under nodes of at most M."""
    sorter = Sorter(lambda strings: chunks(strings, 2))
    await grow(items(50, lambda _: ("same",) * 5), sorter)
    assert sorter.asked == []


async def test_identical_strings_of_one_level_call_for_a_more_specific_one() -> None:
    """Where more than M items share a string, the next level down tells them apart."""
    sorter = Sorter(lambda strings: chunks(strings, min(3, len(strings))))
    await grow(items(30, lambda n: ("x", f"y{n % 2}", f"y{n % 2}", f"z{n % 10}", f"w{n}")), sorter)
    assert sorter.asked[0][0].startswith("w")


@given(replies=st.lists(st.lists(st.lists(st.integers(-3, 60), max_size=40), max_size=12), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
async def test_no_reply_can_break_the_tree(replies: list[list[list[int]]]) -> None:
    """Whatever numbers a model lists, the tree is sound."""
    turn = iter(range(10**9))
    await grow(items(50), Sorter(lambda strings: replies[next(turn) % len(replies)]))


def test_the_most_specific_level_that_fits_is_chosen() -> None:
    """More than M distinct strings, within the room: the most specific such level; the broadest where none fits."""
    levels = items(40).levels
    assert choose_level(levels, M, 10_000) == 4
    assert choose_level(levels, M, 40) == 3
    assert choose_level(levels, M, 20) == 2
    assert choose_level(levels, M, 3) == 2
    assert choose_level(levels[:2], M, 100) == 4
    assert choose_level([("s",) * 5] * 9, M, 100) is None


def test_distinct_strings_come_with_their_counts() -> None:
    """Most frequent first, ties by spelling; every string knows its place."""
    strings, places, counts = distinct(["b", "a", "b", "c"])
    assert (strings, places, counts) == (["b", "a", "c"], [0, 1, 0, 2], [2, 1, 1])


def test_a_forgotten_string_joins_the_nearest_topic() -> None:
    """A row without a topic goes where its vector points."""
    vectors = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 1]]
    topics = [
        Topic(name="a", description="", keywords=(), members=(0, 1)),
        Topic(name="b", description="", keywords=(), members=(2, 3)),
    ]
    groups = place(topics, [0, 1, 2, 3, 4], np.arange(5), vectors, M)
    assert [rows.tolist() for rows, _ in groups] == [[0, 1], [2, 3, 4]]
