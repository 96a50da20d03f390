"""The judge that asks a language model: a slate in, one call, calibrated nowhere, failures stood in for.

The ladder, when a reply cannot be used: repaired (prompts.parse), asked again with the error named (prompts.ask), asked
again in two halves, and at last judged by the embedded judge, which marks the judgement `weak` and says why in `note`.
Items that a good reply leaves out are asked for once more by themselves, and are None if they stay out. A model that
refuses for good (key, name, quota), or has never answered at all, is an error and not stood in for: the user must know.
Node ids never reach the model. Tested in tests/agent/test_judge_model.py and tests/prompts/test_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from branchwise.agent.search.judge import Judge
from branchwise.agent.search.node_texts import visible_texts
from branchwise.prompts.ask import Asked, Asker, PromptTooLong
from branchwise.prompts.budget import Meter
from branchwise.prompts.expected import expected_scores
from branchwise.prompts.replies import SlateReply, settle, slate_schema
from branchwise.prompts.tokens import shorten_to
from branchwise.stores.errors import ModelUnavailable, ReplyInvalid
from branchwise.stores.index import Index
from branchwise.stores.records import Judgement, Question, Slate

LARGEST_SLATE = 32
LONGEST_ITEM = 800
"""Tokens of one item at most, about 500 words: longer passages are shown in part, and the prompt says so."""
OVERHEAD = 1_100
"""Tokens of instructions, query and chat template that a slate takes beside its items."""
TOKENS_A_SCORE = 8
TOKENS_A_REASON = 24
LOGPROBS = 10


@dataclass(frozen=True, slots=True)
class _Heard:
    """Scores of some nodes of a slate; `failed` nodes have none because of `note`."""

    scores: Mapping[str, float | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    note: str = ""

    def __add__(self, other: _Heard) -> _Heard:
        return _Heard(
            {**self.scores, **other.scores},
            {**self.reasons, **other.reasons},
            self.failed + other.failed,
            self.note or other.note,
        )


class ModelJudge:
    """Judges slates by a language model, listwise. One instance may judge for many searches at once.

    `reasons` asks for a short reason for each item that scores half or more. `expected` takes the expected score from
    token probabilities where the server gives them. `relevance` says what counts as relevant where the question does
    not. `meter` counts, and limits, what all judgements cost together.
    """

    def __init__(
        self,
        asker: Asker,
        index: Index,
        *,
        fallback: Judge | None = None,
        meter: Meter | None = None,
        relevance: str = "",
        reasons: bool = True,
        expected: bool = False,
    ) -> None:
        self.name = asker.name
        self._asker = asker
        self._index = index
        self._fallback = fallback
        self._meter = meter
        self._relevance = relevance
        self._reasons = reasons
        self._expected = expected
        self._answered = False
        room = asker.context_window - OVERHEAD
        an_item = TOKENS_A_SCORE + (TOKENS_A_REASON if reasons else 0)
        self.max_slate = max(2, min(LARGEST_SLATE, room // (250 + an_item)))
        self._item_tokens = max(48, min(LONGEST_ITEM, room // self.max_slate - an_item))

    def with_meter(self, meter: Meter) -> ModelJudge:
        """The same judge, counting on `meter`: one for each search."""
        judge = ModelJudge(
            self._asker,
            self._index,
            fallback=self._fallback,
            meter=meter,
            relevance=self._relevance,
            reasons=self._reasons,
            expected=self._expected,
        )
        judge._answered = self._answered
        return judge

    async def judge(self, slate: Slate, question: Question) -> Judgement:
        """Scores in [0, 1] for the nodes of `slate`.

        Raises BudgetSpent, ModelRefused, and ModelUnavailable where the model has never answered; ReplyInvalid and
        ModelUnavailable also where there is no fallback.
        """
        meter = Meter(parent=self._meter)
        node_ids = in_order(slate)
        heard = await self._score(node_ids, slate, question, meter, halve=True)
        judgement = Judgement(
            slate=slate,
            scores={node_id: heard.scores.get(node_id) for node_id in slate.node_ids},
            reasons=heard.reasons,
            usage=meter.spent,
            judge=self.name,
        )
        return await self._stand_in(judgement, heard, question) if heard.failed else judgement

    async def _score(
        self, node_ids: Sequence[str], slate: Slate, question: Question, meter: Meter, *, halve: bool
    ) -> _Heard:
        """One call for these nodes, or two for its halves, and one more for what it left out."""
        try:
            heard = await self._ask(node_ids, slate, question, meter)
        except PromptTooLong as problem:
            if len(node_ids) == 1:
                return self._gave_up(node_ids, problem)
            return await self._halves(node_ids, slate, question, meter, halve=halve)
        except ReplyInvalid as problem:
            self._answered = True
            if not halve or len(node_ids) == 1:
                return self._gave_up(node_ids, problem)
            return await self._halves(node_ids, slate, question, meter, halve=False)
        except ModelUnavailable as problem:
            if not self._answered:
                raise
            return self._gave_up(node_ids, problem)
        self._answered = True
        left_out = [node_id for node_id in node_ids if heard.scores.get(node_id) is None]
        if not left_out:
            return heard
        try:
            return heard + await self._ask(left_out, slate, question, meter)
        except (ReplyInvalid, ModelUnavailable):
            return heard

    async def _halves(
        self, node_ids: Sequence[str], slate: Slate, question: Question, meter: Meter, *, halve: bool
    ) -> _Heard:
        middle = (len(node_ids) + 1) // 2
        heard = await self._score(node_ids[:middle], slate, question, meter, halve=halve)
        return heard + await self._score(node_ids[middle:], slate, question, meter, halve=halve)

    async def _ask(self, node_ids: Sequence[str], slate: Slate, question: Question, meter: Meter) -> _Heard:
        texts = visible_texts(self._index, question, node_ids)
        shown = [shorten_to(texts[node_id], self._item_tokens) for node_id in node_ids]
        anchors = set(slate.anchor_ids)
        own = next((i for i, node_id in enumerate(node_ids) if node_id in anchors), len(node_ids))
        count = len(node_ids)
        variables = {
            "relevance": question.relevance or self._relevance,
            "reasons": self._reasons,
            "candidates": shown[:own],
            "anchors": shown[own:],
            "count": count,
            "query": asked_text(question),
        }
        asked = await self._asker.ask(
            "judge_leaf.v1" if slate.kind == "leaf" else "judge_inner.v1",
            variables,
            SlateReply,
            meter=meter,
            accept=_strict_then_lenient(count),
            max_tokens=64 + count * (TOKENS_A_SCORE + (TOKENS_A_REASON if self._reasons else 0)),
            schema=slate_schema(count, reasons=self._reasons),
            top_logprobs=LOGPROBS if self._expected else 0,
        )
        scores = self._read_scores(asked, count)
        why = {entry.n: entry.why for entry in asked.value.scores if entry.why}
        return _Heard(
            {node_id: scores[n] for n, node_id in enumerate(node_ids, 1)},
            {node_id: why[n] for n, node_id in enumerate(node_ids, 1) if n in why},
        )

    def _read_scores(self, asked: Asked[SlateReply], count: int) -> dict[int, float | None]:
        scores, _ = settle(asked.value, count)
        if self._expected and not asked.repaired:
            expected = expected_scores(asked.tokens)
            scores = {
                n: score if score is None or n not in expected else expected[n] / 100 for n, score in scores.items()
            }
        return scores

    def _gave_up(self, node_ids: Sequence[str], problem: ReplyInvalid | ModelUnavailable) -> _Heard:
        if self._fallback is None:
            raise problem
        return _Heard(failed=tuple(node_ids), note=problem.message)

    async def _stand_in(self, judgement: Judgement, heard: _Heard, question: Question) -> Judgement:
        """The embedded judge's scores for what failed; the judgement is weak as a whole, since it mixes two judges."""
        if self._fallback is None:
            raise AssertionError("nothing can have failed without a fallback")
        slate = judgement.slate
        failed = replace(
            slate,
            candidate_ids=tuple(node_id for node_id in slate.candidate_ids if node_id in heard.failed),
            anchor_ids=tuple(node_id for node_id in slate.anchor_ids if node_id in heard.failed),
        )
        weak = await self._fallback.judge(failed, question)
        return replace(
            judgement,
            scores={**judgement.scores, **weak.scores},
            judge=f"{self._fallback.name} for {self.name}",
            weak=True,
            note=f"{len(heard.failed)} of {len(slate.node_ids)} scores by {self._fallback.name}: {heard.note}",
        )


def in_order(slate: Slate) -> tuple[str, ...]:
    """The order in which a slate is shown: candidates before anchors; a repeat turns each of them by some places.

    So a repeat is another prompt, which no cache answers, and measures how much the order matters.
    """

    def turned(ids: tuple[str, ...]) -> tuple[str, ...]:
        shift = slate.repeat * max(1, len(ids) // 3) % len(ids) if ids else 0
        return ids[shift:] + ids[:shift] if slate.repeat % 2 == 0 else (ids[shift:] + ids[:shift])[::-1]

    return turned(slate.candidate_ids) + turned(slate.anchor_ids)


def asked_text(question: Question) -> str:
    """The user's own words; after earlier turns, the last four of them first."""
    turns = [f"{turn.role}: {' '.join(turn.text.split())[:400]}" for turn in question.history[-4:]]
    return "\n".join([*turns, question.text]) if turns else question.text


def _strict_then_lenient(count: int) -> Callable[[SlateReply], str | None]:
    """The first reply must be right in every way, the second only usable: what stays doubtful has no score."""
    replies = 0

    def accept(reply: SlateReply) -> str | None:
        nonlocal replies
        replies += 1
        scores, complaint = settle(reply, count)
        usable = any(score is not None for score in scores.values())
        return complaint if replies == 1 or not usable else None

    return accept
