"""A language model reads the passages and answers; code lets through only what their text bears out.

Every sentence comes with quotes. A quote is looked up in the passages shown (agent.citations); a sentence none of whose
quotes stands there is left out, as is one with a link that the passages do not hold, and figures that no cited passage
holds are marked. Sentences are streamed as they pass. A model that fails, or leaves no sentence standing, is stood in
for by the extractive reader, with a note. Knows nothing of search. Tested in tests/agent/test_reader_model.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from branchwise.agent.citations import Span, cite, locate_quote, verify
from branchwise.agent.read_extractive import SUPPORT, ExtractiveReader, support
from branchwise.agent.reader import NOT_FOUND, Library, Reading, not_found
from branchwise.agent.rewrite import since, stand_alone, transcript
from branchwise.agent.words import content_words
from branchwise.prompts.budget import Meter
from branchwise.stores.errors import BudgetSpent, ModelError, ReplyInvalid
from branchwise.stores.language import sentences, tokens
from branchwise.stores.records import Citation, Hit, Passage, Question

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker
    from branchwise.prompts.replies import ReadReply, ReadSentence
    from branchwise.stores.lexical import LexicalIndex

PASSAGES = 8
"""How many of the best hits the model is shown."""
PASSAGE_CHARS = 2000
"""How much of a passage it is shown: the stretch that fits the question best. Halved until the prompt fits."""
SHORTEST_CHARS = 250
REPLY_TOKENS = 1024

_PROMPT = "read.v1"
_MARKER = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\](?=[\s.,;:!?)]|$)")
_LINK = re.compile(r"(?:https?:|www\.|\]\()[^\s)\]>\"']*", re.IGNORECASE)


class ModelReader:
    """Answers with a model, in the language of the question; labelled with the model's name."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.name = asker.name

    async def read(
        self,
        question: Question,
        hits: Sequence[Hit],
        library: Library,
        *,
        meter: Meter | None = None,
        on_token: Callable[[str], None] | None = None,
    ) -> Reading:
        """The model's answer as far as the passages bear it out; see `Reader.read`."""
        if not hits:
            return not_found(written_by=self.name)
        meter = meter or Meter()
        before = meter.spent
        draft = _Draft(stand_alone(question), [hit.passage for hit in hits[:PASSAGES]], library, on_token)
        try:
            variables = await asyncio.to_thread(self._variables, question, draft.passages, library.lexical)
            reply = await self._reply(variables, draft, meter, stream=on_token is not None)
            for sentence in reply.sentences[draft.taken :]:
                await draft.take(sentence)
        except (ModelError, BudgetSpent) as problem:
            if not draft.lines:
                reading = await self._stand_in(
                    question, hits, library, on_token, f"{self.name} failed: {problem.message}"
                )
                return replace(reading, usage=since(before, meter.spent))
            draft.notes.append(f"The answer breaks off, {self.name} failed: {problem.message}")
            reply = None
        usage = since(before, meter.spent)
        if reply is not None and not draft.lines:
            return replace(await self._nothing_stands(question, hits, library, reply, on_token), usage=usage)
        conflicts = draft.conflicts(reply.conflicts) if reply is not None else ()
        return Reading(
            text=draft.text,
            citations=tuple(draft.citations),
            usage=usage,
            conflicts=conflicts,
            notes=tuple(draft.notes + draft.omissions()),
            written_by=self.name,
        )

    async def _reply(self, variables: dict[str, Any], draft: _Draft, meter: Meter, *, stream: bool) -> ReadReply:
        """The whole reply, its sentences already taken as they came where it is streamed."""
        from branchwise.prompts.replies import ReadReply

        if stream:
            text = ""
            async for piece in self.asker.stream(_PROMPT, variables, meter=meter, max_tokens=REPLY_TOKENS):
                text += piece
                if "{" in piece or "}" in piece:
                    for sentence in _finished(text)[draft.taken :]:
                        await draft.take(sentence)
            reply = _read_whole(text)
            if reply is not None and (draft.lines or draft.complaint(reply) is None):
                return reply
            if draft.lines:
                raise ReplyInvalid("its reply broke off.", prompt=_PROMPT, body=text[:2000])
            draft.start_again()
        asked = await self.asker.ask(
            _PROMPT, variables, ReadReply, meter=meter, accept=draft.complaint, max_tokens=REPLY_TOKENS
        )
        return asked.value

    def _variables(self, question: Question, passages: Sequence[Passage], lexical: LexicalIndex) -> dict[str, Any]:
        """What the prompt is filled with, shortened until it fits the model's window."""
        asked = stand_alone(question)
        chars, shown = PASSAGE_CHARS, len(passages)
        while True:
            variables = {
                "passages": [_excerpt(passage, asked, lexical, chars) for passage in passages[:shown]],
                "history": transcript(question.history),
                "query": question.text,
            }
            fits = self.asker.fits(_PROMPT, variables, max_tokens=REPLY_TOKENS)
            if fits or (chars <= SHORTEST_CHARS and shown == 1):
                return variables
            if chars > SHORTEST_CHARS:
                chars //= 2
            else:
                shown -= 1

    async def _nothing_stands(
        self,
        question: Question,
        hits: Sequence[Hit],
        library: Library,
        reply: ReadReply,
        on_token: Callable[[str], None] | None,
    ) -> Reading:
        """What is said where no sentence of the model stands: that it found none, or what can be quoted instead."""
        if reply.found:
            return await self._stand_in(
                question, hits, library, on_token, f"No quote of {self.name} stands in the passages."
            )
        closest = await ExtractiveReader().read(question, hits, library)
        text = NOT_FOUND
        if closest.found and support(stand_alone(question), hits, library) >= SUPPORT:
            # One passage can talk a model into finding nothing; what stands in the others is shown all the same.
            text = f"{NOT_FOUND} The closest passages say:\n{closest.text}"
        else:
            closest = not_found()
        if on_token:
            on_token(text)
        return replace(closest, text=text, found=False, written_by=self.name)

    async def _stand_in(
        self,
        question: Question,
        hits: Sequence[Hit],
        library: Library,
        on_token: Callable[[str], None] | None,
        note: str,
    ) -> Reading:
        reading = await ExtractiveReader(support=0.0).read(question, hits, library, on_token=on_token)
        return replace(reading, notes=(f"{note} Sentences are quoted instead.", *reading.notes))


@dataclass(slots=True)
class _Draft:
    """The answer so far: the sentences that stand, and their citations in order of first use."""

    question: str
    passages: Sequence[Passage]
    library: Library
    on_token: Callable[[str], None] | None
    lines: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: int = 0
    dropped: int = 0

    @property
    def text(self) -> str:
        """The answer, sentence after sentence."""
        return " ".join(self.lines)

    def start_again(self) -> None:
        """Forget a reply of which nothing stood."""
        self.taken = self.dropped = 0

    def complaint(self, reply: ReadReply) -> str | None:
        """What a model is asked again for: an answer without one quote that stands."""
        if not reply.found:
            return '"found" is false, yet there are sentences.' if reply.sentences else None
        if any(self._located(sentence) for sentence in reply.sentences):
            return None
        return "No quote stands in the passages letter by letter. Copy the quotes exactly, 5 to 40 words each."

    async def take(self, sentence: ReadSentence) -> None:
        """Let a sentence in if a quote of it stands."""
        self.taken += 1
        located = await asyncio.to_thread(self._located, sentence)
        text = _MARKER.sub("", sentence.text).strip()
        held = " ".join(f"{passage.title} {passage.text}" for passage, _ in located)
        if not text or not located or any(link not in held for link in _LINK.findall(text)):
            self.dropped += 1
            return
        marks = "".join(f"[{number}]" for number in dict.fromkeys(self._number(*place) for place in located))
        strange = [f for f in _figures(text) if f not in {*_figures(held), *_figures(self.question)}]
        mark = f" (not in the cited text: {', '.join(strange)})" if strange else ""
        line = f"{text} {marks}{mark}"
        if self.on_token:
            self.on_token(f" {line}" if self.lines else line)
        self.lines.append(line)

    def omissions(self) -> list[str]:
        """What the answer says of the sentences left out."""
        if not self.dropped:
            return []
        return [f"{self.dropped} sentences were left out: nothing in the passages bears them out."]

    def conflicts(self, pairs: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
        """Pairs of passage numbers as pairs of citation numbers; a passage not yet cited is, by its best sentence."""
        found: dict[tuple[int, int], None] = {}
        for pair in pairs:
            numbers = sorted({n for n in pair if 1 <= n <= len(self.passages)})
            cited = [number for n in numbers if (number := self._cited(self.passages[n - 1])) is not None]
            if len(cited) == 2 and cited[0] != cited[1]:
                found[(min(cited), max(cited))] = None
        return tuple(found)

    def _located(self, sentence: ReadSentence) -> list[tuple[Passage, Span]]:
        """Where the sentence's quotes stand; a quote with a wrong number may stand in another passage shown."""
        found = []
        for citation in sentence.citations:
            if len(tokens(citation.quote)) < 2 or not content_words(citation.quote):
                continue
            first = [self.passages[citation.n - 1]] if 1 <= citation.n <= len(self.passages) else []
            for passage in [*first, *self.passages]:
                if (span := locate_quote(citation.quote, passage)) and self._verifies(passage, span):
                    found.append((passage, span))
                    break
        return found

    def _verifies(self, passage: Passage, span: Span) -> bool:
        return verify(cite(0, passage, span), self.library.document(passage.doc_id))

    def _number(self, passage: Passage, span: Span) -> int:
        """The number of a citation, a new one at its first use."""
        for citation in self.citations:
            if (citation.passage_id, citation.start, citation.end) == (passage.passage_id, *span):
                return citation.number
        self.citations.append(cite(len(self.citations) + 1, passage, span))
        return len(self.citations)

    def _cited(self, passage: Passage) -> int | None:
        number = next((c.number for c in self.citations if c.passage_id == passage.passage_id), None)
        spans = sentences(passage.text)
        if number is not None or not spans:
            return number
        scores = self.library.lexical.score_texts(self.question, [passage.text[slice(*span)] for span in spans])
        start, end = spans[scores.index(max(scores))]
        span = (passage.start + start, passage.start + end)
        return self._number(passage, span) if self._verifies(passage, span) else None


def best_stretch(text: str, question: str, lexical: LexicalIndex, *, max_chars: int) -> Span:
    """The run of whole sentences of at most `max_chars` characters that holds most of what the question asks for.

    Of equal runs the first. A first sentence longer than that is cut.
    """
    if len(text) <= max_chars:
        return 0, len(text)
    spans = sentences(text)
    scores = lexical.score_texts(question, [text[start:end] for start, end in spans])
    best, best_worth = (0, max_chars), -1.0
    first, worth = 0, 0.0
    for last, (_, end) in enumerate(spans):
        worth += scores[last]
        while first < last and end - spans[first][0] > max_chars:
            worth -= scores[first]
            first += 1
        if worth > best_worth + 1e-9:
            best, best_worth = (spans[first][0], min(end, spans[first][0] + max_chars)), worth
    return best


def _excerpt(passage: Passage, question: str, lexical: LexicalIndex, max_chars: int) -> str:
    start, end = best_stretch(passage.text, question, lexical, max_chars=max_chars)
    return f"{passage.title}\n{passage.text[start:end]}" if passage.title else passage.text[start:end]


def _finished(text: str) -> list[ReadSentence]:
    """The sentences of an unfinished reply that will not change any more; none unless it says that it found some."""
    from pydantic import ValidationError
    from pydantic_core import from_json

    from branchwise.prompts.replies import ReadReply

    begin = text.find("{", text.rfind("</think>") + 1)
    if begin < 0:
        return []
    try:
        data = from_json(text[begin:], allow_partial=True)
        reply = ReadReply.model_validate({**data, "sentences": (data.get("sentences") or [])[:-1]})
    except (ValueError, ValidationError, TypeError, AttributeError):
        return []
    return reply.sentences if reply.found else []


def _read_whole(text: str) -> ReadReply | None:
    from pydantic import ValidationError

    from branchwise.prompts.parse import read_json
    from branchwise.prompts.replies import ReadReply

    try:
        parsed = read_json(text)
        return None if parsed.cut else ReadReply.model_validate(parsed.value)
    except (ValueError, ValidationError):
        return None


def _figures(text: str) -> list[str]:
    """The numbers in a text, thousands separators gone."""
    return [re.sub(r"[,.](?=\d{3}\b)", "", figure) for figure in re.findall(r"\d+(?:[.,]\d+)*", text)]
