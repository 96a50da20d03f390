"""OpenAI's chat protocol over an index, so that any chat client can talk to documents.

A model is an index by its name. The last user message is the question and the turns before it are its history; system
messages and sampling settings are accepted and have no meaning here. Citations come as `url_citation` annotations at
their marks in the text, and as the full list, with document and character span, under `branchwise`. Tested in
tests/surfaces/server/test_openai.py, with the openai client among others.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent

from branchwise.agent.surfaces.server.desk import Desk, unless_gone
from branchwise.agent.surfaces.server.wire import QuestionIn, TurnIn
from branchwise.agent.surfaces.shapes import answer_json
from branchwise.stores.errors import BranchwiseError, InputError
from branchwise.stores.records import Answer, Event, Usage

router = APIRouter(prefix="/v1")
PING_SECONDS = 15
_OPTIONS = ("k", "budget", "filters", "excluded_ids")
_MARK = re.compile(r"\[(\d+)\]")


class TextPart(BaseModel):
    """A piece of a message's content; only text can be searched."""

    type: str
    text: str | None = Field(default=None, max_length=100_000)


class ChatMessage(BaseModel):
    """A message as OpenAI's clients send it; what they add to it is ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """The text of the message. Raises InputError for images, sound and files."""
        if not isinstance(self.content, list):
            return self.content or ""
        if other := [part.type for part in self.content if part.type != "text"]:
            raise InputError(f"a message holds {other[0]}; only text can be asked")
        return "\n".join(part.text or "" for part in self.content)


class StreamOptions(BaseModel):
    """OpenAI's option for a last chunk with the usage."""

    include_usage: bool = False


class ChatIn(BaseModel):
    """The body of /v1/chat/completions. `branchwise` takes fields of /ask: k, budget, filters, excluded_ids.

    The last two may stand beside it as well: what they hide must never be shown because they stood in another place.
    """

    model_config = ConfigDict(extra="ignore")
    model: str = Field(max_length=200)
    messages: list[ChatMessage] = Field(min_length=1, max_length=400)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    filters: Any = None
    excluded_ids: Any = None
    branchwise: dict[str, Any] = Field(default_factory=dict)

    def to_question(self) -> QuestionIn:
        """What is asked. Raises InputError where the last message is no question, or more than one reply is wanted."""
        if self.n not in (None, 1):
            raise InputError(f"n is {self.n}: a question has one answer here")
        turns = [turn for turn in self.messages if turn.role in {"user", "assistant"} and turn.text().strip()]
        if not turns or turns[-1].role != "user":
            raise InputError("the last message must be the user's question")
        beside = {"filters": self.filters, "excluded_ids": self.excluded_ids}
        beside = {key: value for key, value in beside.items() if value is not None}
        if twice := beside.keys() & self.branchwise.keys():
            raise InputError(f"{min(twice)} is given twice", hint="Give it beside branchwise or within, not both.")
        options = beside | self.branchwise
        if unknown := next((key for key in options if key not in _OPTIONS), None):
            raise InputError(f"branchwise.{unknown}: there is no such option", hint=f"There are {', '.join(_OPTIONS)}.")
        try:
            return QuestionIn(
                question=turns[-1].text(),
                index=self.model,
                history=[TurnIn(role=turn.role, text=turn.text()) for turn in turns[:-1]],  # type: ignore[arg-type]
                **options,
            )
        except ValueError as error:
            first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": "invalid"}
            raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """The indexes, as models."""
    return {"object": "list", "data": [_model(name) for name in _desk(request).shelf.names]}


@router.get("/models/{name}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """One index, as a model."""
    return _model(_desk(request).shelf.name_of(name))


@router.post("/chat/completions")
async def chat(request: Request, asked: ChatIn) -> Any:
    """A cited answer as a chat completion, whole or in chunks."""
    desk = _desk(request)
    question = asked.to_question()
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}
    base = str(request.base_url)
    if not asked.stream:
        answer = await unless_gone(request, desk.ask(question))
        message = {"role": "assistant", "content": answer.text, "annotations": _annotations(answer, base, asked.model)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        said = {"object": "chat.completion", "choices": [choice], "usage": _usage(answer.usage)}
        return head | said | {"branchwise": answer_json(answer)}
    desk.shelf.name_of(question.index)
    desk.gate.check()
    wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
    return EventSourceResponse(
        _chunks(desk, question, head, base, wants_usage=wants_usage), ping=PING_SECONDS, shutdown_grace_period=5
    )


async def _chunks(
    desk: Desk, question: QuestionIn, head: Mapping[str, Any], base: str, *, wants_usage: bool
) -> AsyncIterator[ServerSentEvent]:
    """The answer as it is written; whoever stops reading cancels the search."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(event: Event) -> None:
        if event.kind == "token":
            pieces.put_nowait(str(event.payload["text"]))

    def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> JSONServerSentEvent:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return JSONServerSentEvent({**head, "object": "chat.completion.chunk", "choices": [choice], **more})

    asking = asyncio.create_task(desk.ask(question, on_event=hear))
    asking.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        yield chunk({"role": "assistant", "content": ""})
        written = ""
        while (piece := await pieces.get()) is not None:
            written += piece
            yield chunk({"content": piece})
        try:
            answer = await asking
        except BranchwiseError as error:
            yield JSONServerSentEvent({"error": {"type": type(error).__name__, "message": error.message, "code": None}})
            return
        if answer.text.startswith(written) and answer.text != written:
            yield chunk({"content": answer.text[len(written) :]})
        annotations = _annotations(answer, base, str(head["model"]))
        yield chunk({"annotations": annotations}, finish="stop", branchwise=answer_json(answer))
        if wants_usage:
            last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer.usage)}
            yield JSONServerSentEvent(last)
        yield ServerSentEvent("[DONE]")
    finally:
        asking.cancel()


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "branchwise"}


def _annotations(answer: Answer, base: str, index: str) -> list[dict[str, Any]]:
    """Each mark [n] of the text, as a link to the cited characters on the server's own page."""
    by_number = {citation.number: citation for citation in answer.citations}
    found = []
    for mark in _MARK.finditer(answer.text):
        citation = by_number.get(int(mark[1]))
        if citation is None:
            continue
        place = {"index": index, "doc": citation.doc_id, "start": citation.start, "end": citation.end}
        link = {
            "start_index": mark.start(),
            "end_index": mark.end(),
            "url": f"{base}#{urlencode(place)}",
            "title": citation.title or citation.doc_id,
        }
        found.append({"type": "url_citation", "url_citation": link})
    return found


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
