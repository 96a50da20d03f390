"""The summariser that asks a model: typed replies, a ladder of second chances, the embedded summariser at its end.

    ask -> once more, naming the error -> with less in the prompt -> embedded, marked "fallback:<model>"

A bad reply never ends a build. A limit that the user set ends the model's part: what is left is written by the
embedded summariser, and the same build run again with more budget pays only for that. A server that cannot be reached
or refuses ends the build with its error: what was bought is in the reply cache. Tested in
tests/tree_builder/test_model_summariser.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from branchwise.prompts.replies import FingerprintReply, SummaryReply, TopicsReply
from branchwise.prompts.tokens import shorten_to
from branchwise.stores.errors import BudgetSpent, ReplyInvalid
from branchwise.stores.records import Part, Passage
from branchwise.tree_builder.gather import side_by_side
from branchwise.tree_builder.outline import NodeSummary, RowArray
from branchwise.tree_builder.summarise import (
    LONGEST_PART,
    LONGEST_TITLE,
    ChildText,
    ExtractiveSummariser,
    Levels,
    Topic,
    compose,
    shorten,
)

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker
    from branchwise.prompts.budget import Meter
    from branchwise.prompts.replies import Reply

R = TypeVar("R", bound="Reply")

BATCH = 20
"""Passages in one prompt for their five levels (the paper's number)."""
CHILD_TOKENS = 600
"""Tokens of a child that a summary reads at most: more than a passage of the default size holds."""
PART_TOKENS = 60
"""Tokens of the reply for each child: 25 words and their JSON, twice."""
LEVELS_TOKENS = 160
"""Tokens of the reply for each passage: five levels, at most 43 words, and their JSON, twice."""
REPLY_TOKENS = 400
"""Tokens of the reply besides: title and theme; with topics, their names and descriptions twice over."""
FORGOTTEN = 0.2
"""Share of the strings that a reply on topics may leave out before it is asked for again."""


class ModelSummariser:
    """Texts by the model of `asker`; `failures` counts the calls that ended with the embedded summariser, by reason."""

    def __init__(self, asker: Asker, fallback: ExtractiveSummariser, *, meter: Meter | None = None) -> None:
        self.name = asker.name
        self.failures: Counter[str] = Counter()
        self._asker = asker
        self._fallback = fallback
        self._meter = meter
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """True once a limit has ended the model's part."""
        return self._stopped

    async def levels(self, passages: Sequence[Passage]) -> list[Levels]:
        """Five summaries of each passage, twenty passages a call, calls side by side."""
        batches = [passages[start : start + BATCH] for start in range(0, len(passages), BATCH)]
        found = await side_by_side(self._levels(batch, again=len(batch) > 1) for batch in batches)
        return [levels for batch in found for levels in batch]

    async def summarise(self, children: Sequence[ChildText], company: RowArray) -> NodeSummary:
        """The node's signpost: title, theme, and a part a child."""
        for tokens in (CHILD_TOKENS, CHILD_TOKENS // 4):
            items = self._fitted([_told(child) for child in children], tokens, PART_TOKENS)
            reply = await self._ask(
                "summarise.v1",
                {"children": items, "count": str(len(items))},
                SummaryReply,
                _SummaryCheck(len(children)),
                REPLY_TOKENS + PART_TOKENS * len(items),
            )
            if reply is not None:
                return await self._summary(reply, children, company)
            if self._stopped:
                break
        summary = await self._fallback.summarise(children, company)
        return summary if self._stopped else replace(summary, written_by=f"fallback:{self.name}")

    async def topics(self, strings: Sequence[str], counts: Sequence[int], *, fewest: int, most: int) -> list[Topic]:
        """Topics by the model; by vectors where it cannot sort the strings."""
        listed = [
            f"{string} (x {count})" if count > 1 else string for string, count in zip(strings, counts, strict=True)
        ]
        reply = await self._ask(
            "topics.v1",
            {"strings": listed, "count": str(len(listed)), "fewest": str(fewest), "most": str(most)},
            TopicsReply,
            _TopicsCheck(counts, most),
            2 * REPLY_TOKENS + 80 * most + 6 * len(listed),
        )
        if reply is None:
            return await self._fallback.topics(strings, counts, fewest=fewest, most=most)
        return [
            Topic(
                name=topic.name,
                description=topic.description,
                keywords=tuple(topic.keywords[:8]),
                members=tuple(number - 1 for number in topic.members if 1 <= number <= len(strings)),
                written_by=self.name,
            )
            for topic in reply.topics
        ]

    async def _levels(self, passages: Sequence[Passage], *, again: bool) -> list[Levels]:
        texts = [f"{passage.title}\n{passage.text}".strip() for passage in passages]
        items = self._fitted(texts, CHILD_TOKENS, LEVELS_TOKENS)
        reply = await self._ask(
            "fingerprint.v1",
            {"passages": items, "count": str(len(items))},
            FingerprintReply,
            _LevelsCheck(len(items)),
            REPLY_TOKENS + LEVELS_TOKENS * len(items),
        )
        if reply is None and again and not self._stopped:
            middle = len(passages) // 2
            halves = (passages[:middle], passages[middle:])
            return [levels for half in halves for levels in await self._levels(half, again=False)]
        own = await self._fallback.levels(passages)
        if reply is not None:
            for level in reply.passages:
                if 1 <= level.number <= len(own) and _complete(level.levels):
                    own[level.number - 1] = _five(level.levels)
        return own

    async def _summary(self, reply: SummaryReply, children: Sequence[ChildText], company: RowArray) -> NodeSummary:
        known = range(1, len(children) + 1)  # a number that was never shown names no child
        said = {
            part.number: shorten(part.text, LONGEST_PART)
            for part in reversed(reply.parts)
            if part.text and part.number in known
        }
        if len(said) < len(children):  # some left out: the embedded fingerprint is better than silence
            own = await self._fallback.summarise(children, company)
            said = {number: part.text for number, part in enumerate(own.parts, 1)} | said
        parts = tuple(Part(child_id=child.node_id, text=said[number]) for number, child in enumerate(children, 1))
        return NodeSummary(
            title=shorten(reply.title, LONGEST_TITLE),
            text=compose([reply.theme], parts),
            parts=parts,
            written_by=self.name,
        )

    async def _ask(
        self,
        prompt: str,
        variables: dict[str, object],
        kind: type[R],
        accept: Callable[[R], str | None],
        max_tokens: int,
    ) -> R | None:
        """The reply, None where there is none to be had; what the model cannot say in `max_tokens` it cannot say."""
        if self._stopped and self._asker.cache is None:
            return None
        room = self._asker.context_window // 2
        try:
            asked = await self._asker.ask(
                prompt, variables, kind, meter=self._meter, accept=accept, max_tokens=min(max_tokens, room)
            )
        except BudgetSpent:
            self._stopped = True
            self.failures["budget"] += 1
            return None
        except ReplyInvalid as problem:
            self.failures[type(problem).__name__] += 1
            return None
        return asked.value

    def _fitted(self, texts: Sequence[str], tokens: int, reply_tokens: int) -> list[str]:
        """Each text cut to `tokens`, or to its share of the window; what is left out is said in its place."""
        room = self._asker.context_window - REPLY_TOKENS - reply_tokens * len(texts) - 700
        share = max(32, min(tokens, room // max(1, len(texts))))
        return [shorten_to(text, share) for text in texts]


class _Check:
    """Strict with the first reply, lenient with the second: then what is there is better than nothing."""

    def __init__(self) -> None:
        self._asked = False

    def judge(self, complaint: str | None, *, usable: bool) -> str | None:
        """The sentence to ask again with, None for a reply that is taken."""
        again, self._asked = self._asked, True
        return None if complaint is None or (again and usable) else complaint


class _SummaryCheck(_Check):
    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __call__(self, reply: SummaryReply) -> str | None:
        given = {part.number for part in reply.parts if part.text}
        missing = [number for number in range(1, self._count + 1) if number not in given]
        if not reply.title or not reply.theme:
            return self.judge("title and theme must not be empty.", usable=False)
        complaint = f"every item needs one part; missing: {missing[:20]}." if missing else None
        return self.judge(complaint, usable=len(missing) <= self._count / 2)


class _LevelsCheck(_Check):
    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __call__(self, reply: FingerprintReply) -> str | None:
        given = {level.number for level in reply.passages if _complete(level.levels)}
        missing = [number for number in range(1, self._count + 1) if number not in given]
        complaint = f"every item needs five summaries; missing: {missing[:20]}." if missing else None
        return self.judge(complaint, usable=len(missing) <= self._count / 2)


class _TopicsCheck(_Check):
    def __init__(self, counts: Sequence[int], most: int) -> None:
        super().__init__()
        self._counts = counts
        self._most = most

    def __call__(self, reply: TopicsReply) -> str | None:
        known = range(1, len(self._counts) + 1)
        members = [{number for number in topic.members if number in known} for topic in reply.topics]
        filled = [group for group in members if group]
        if len(filled) < 2:
            return self.judge("at least two topics need items.", usable=False)
        placed = set().union(*filled)
        missing = [number for number in known if number not in placed]
        usable = len(missing) <= len(self._counts) / 2
        if len(filled) > self._most:
            return self.judge(f"there may be at most {self._most} topics, not {len(filled)}.", usable=usable)
        if len(missing) > FORGOTTEN * len(self._counts):
            return self.judge(f"every item needs a topic; missing: {missing[:30]}.", usable=usable)
        largest = max(sum(self._counts[number - 1] for number in group) for group in filled)
        if largest > 0.9 * sum(self._counts):
            return self.judge("one topic took nearly everything: divide it.", usable=usable)
        return None


def _told(child: ChildText) -> str:
    """A child as the prompt shows it: title, then text."""
    return f"{child.title}\n{child.text}" if child.title else child.text


def _complete(levels: Sequence[str]) -> bool:
    return sum(bool(level) for level in levels) >= 5


def _five(levels: Sequence[str]) -> Levels:
    first, second, third, fourth, fifth = [shorten(level, LONGEST_PART) for level in levels if level][:5]
    return first, second, third, fourth, fifth
