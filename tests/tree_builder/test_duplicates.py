"""Copies are found whatever their form; texts that differ in a word, a number or a sign are never taken for copies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.stores.errors import InputError
from branchwise.stores.records import Origin, Passage
from branchwise.tree_builder.duplicates import merge_duplicates

PROSE = (
    "The council met on 3 March to settle the budget. It heard the treasurer first, who proposed a cut of 12 per cent; "
    "the members for the harbour spoke against it. After a long debate the proposal was sent back to the committee, "
    "which is to report before the summer. The chair thanked the guests and closed the meeting in the evening. "
) + "Nothing else was decided, although two letters from residents of the old town were read out and discussed. " * 3


def passages(*texts: str, title: str = "") -> list[Passage]:
    """One passage a text, named by its position."""
    return [
        Passage(passage_id=f"p{n}", doc_id=f"d{n}", text=text, start=0, end=len(text), title=title)
        for n, text in enumerate(texts)
    ]


def groups(*texts: str, threshold: float = 0.95) -> list[list[int]]:
    """The positions of the texts that share a leaf."""
    merged = merge_duplicates(passages(*texts), threshold=threshold)
    return [[int(p.passage_id[1:]), *(int(o.passage_id[1:]) for o in p.duplicates)] for p in merged]


@pytest.mark.parametrize(
    "copy",
    [
        PROSE,
        PROSE.upper(),
        PROSE.replace(". ", ".\n\n"),
        PROSE.replace(" ", "  ").replace(",", " ,"),
        PROSE.replace("budget", "**budget**").replace("treasurer", "_treasurer_"),
        PROSE.replace("council", "“council”").replace("budget", "\uff42udget"),
        "Minutes of the council\n\n" + PROSE,
        PROSE + "\n\nPrinted on recycled paper",
        "Town archive: " + PROSE + "\n(copy)",
    ],
)
def test_copies_in_another_form_or_frame_share_a_leaf(copy: str) -> None:
    """Case, spacing, punctuation, mark-up, a header and a footer make no other text, in either order."""
    assert groups(PROSE, copy) == [[0, 1]]
    assert groups(copy, PROSE) == [[0, 1]]


@pytest.mark.parametrize(
    "other",
    [
        PROSE.replace("12 per", "13 per"),
        PROSE.replace("12 per", "-12 per"),
        PROSE.replace("12 per", "1.2 per"),
        PROSE.replace("12 per", "1 2 per"),
        PROSE.replace("before the summer", "after the summer"),
        PROSE.replace("was sent back", "was not sent back"),
        PROSE + "See page 7.",
        "Un" + PROSE,
        PROSE + "\n" + "And this is what the members for the harbour had to say about it, in their own words. " * 2,
    ],
)
def test_another_word_number_or_sign_is_another_text(other: str) -> None:
    """What could be the very difference that a question asks for keeps two texts apart."""
    assert groups(PROSE, other) == [[0], [1]]


def test_symbols_are_part_of_the_text() -> None:
    """Two formulas that differ in an operator are two formulas."""
    assert groups("Show that x + y < z.", "Show that x - y < z.", "Show that x + y > z.") == [[0], [1], [2]]
    assert groups("???", "!!!", "???") == [[0, 2], [1]]


def test_short_texts_need_the_same_title() -> None:
    """ "Yes." under two questions is two passages; under one title it is one."""
    yes = passages("Yes.", "Yes.")
    titled = [Passage(passage_id=t, doc_id=t, text="Yes.", start=0, end=4, title=t) for t in ("A?", "B?")]
    assert len(merge_duplicates(yes)) == 1
    assert len(merge_duplicates(titled)) == 2


def test_the_first_stays_and_the_places_of_the_others_are_kept() -> None:
    """Origins carry document, span and page, in order, also those that a duplicate brought along."""
    known = Origin(passage_id="old", doc_id="archive", start=7, end=9)
    first, second, third = passages(PROSE, "Another text.", PROSE.lower())
    third = Passage(
        passage_id="p2", doc_id="d2", text=third.text, start=5, end=5 + len(PROSE), page=4, duplicates=(known,)
    )
    merged = merge_duplicates([first, second, third])
    assert [p.passage_id for p in merged] == ["p0", "p1"]
    assert merged[0].duplicates == (
        Origin(passage_id="p2", doc_id="d2", start=5, end=5 + len(PROSE), page=4),
        known,
    )
    assert merged[1] is second
    assert merge_duplicates(merged) == merged


def test_a_copy_of_a_framed_copy_goes_to_the_first() -> None:
    """Chains end at a passage that is kept: nothing becomes the duplicate of what has gone."""
    framed = "Minutes\n\n" + PROSE
    assert groups(PROSE, framed, framed.upper(), PROSE) == [[0, 1, 2, 3]]


def test_texts_without_spaces() -> None:
    """Chinese copies are found, and a replaced character keeps two texts apart."""
    text = "委员会于三月开会讨论预算问题，财务主管首先发言并提出削减开支的建议。" * 6
    assert groups(text, text.replace("，", ", "), text.replace("三月", "四月")) == [[0, 1], [2]]


def test_threshold_one_finds_only_other_forms() -> None:
    """At 1 a frame is a difference; out of range is refused."""
    assert groups(PROSE, "Minutes\n\n" + PROSE, PROSE.upper(), threshold=1) == [[0, 2], [1]]
    with pytest.raises(InputError):
        merge_duplicates([], threshold=0)


def test_planted_copies_in_a_large_collection_are_found() -> None:
    """Of 300 framed copies among 6,000 passages of shared words every one is found, and nothing else."""
    random = np.random.default_rng(5)
    words = np.array(["".join(map(chr, random.integers(97, 123, size=6))) for _ in range(500)])
    texts = [" ".join(random.choice(words, size=100)) for _ in range(6000)]
    for place in range(300):
        texts[5000 + place] = f"From the archive.\n{texts[place * 7].title()}\nEnd of page"
    merged = merge_duplicates(passages(*texts))
    assert [(p.passage_id, o.passage_id) for p in merged for o in p.duplicates] == [
        (f"p{place * 7}", f"p{5000 + place}") for place in range(300)
    ]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([PROSE, PROSE + "\nEnd", "A", "a.", "", "\ud800", "é", "e\u0301", "½ 1⁄2", "x²", "x2"]))
)
def test_every_place_is_kept_once(texts: list[str]) -> None:
    """Whatever is merged, each passage stands exactly once: kept, or as an origin of one that is."""
    merged = merge_duplicates(passages(*texts))
    places = [p.passage_id for p in merged] + [o.passage_id for p in merged for o in p.duplicates]
    assert sorted(places) == sorted(f"p{n}" for n in range(len(texts)))


@pytest.mark.parametrize("collection", ["scifact", "bright_theoremqa_questions_r"])
def test_collections_without_copies_stay_whole(shared: Path, collection: str) -> None:
    """Abstracts on one subject, and mathematical problems that differ in their numbers, are not copies."""
    lines = (shared / "data" / collection / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert len(merge_duplicates(passages(*texts))) == len(texts)
