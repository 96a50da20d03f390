"""Asks a model one typed question: cache, budget, limits, call, validation, repair, one asking again.

    render -> reply cache -> fits the window? -> budget -> limits (retries) -> model -> parse -> validate -> accept
                                                              ^                                     |
                                                              +---- once more, naming the error <---+

What comes out is a value of the reply type that the caller has accepted, and only that is cached. What cannot be had
this way is ReplyInvalid (the caller makes its slate smaller, then falls back), ModelUnavailable or ModelRefused.
Knows nothing of trees or judges. Tested in tests/prompts/test_ask.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from branchwise.prompts import limits as around
from branchwise.prompts.budget import Meter
from branchwise.prompts.language import other_language
from branchwise.prompts.library import PromptLibrary, Rendered
from branchwise.prompts.limits import Limits, gate_for
from branchwise.prompts.model import ChatModel, Message, ModelReply, Request, TokenChoice
from branchwise.prompts.parse import read_json
from branchwise.prompts.prices import PriceList, load_prices
from branchwise.prompts.profile import load_profile
from branchwise.prompts.replies import Reply, strict_schema
from branchwise.prompts.tokens import estimate_messages, estimate_tokens
from branchwise.stores.errors import ModelUnavailable, ReplyInvalid
from branchwise.stores.records import Usage
from branchwise.stores.replies import ReplyStore

T = TypeVar("T", bound=BaseModel)

KEY_VERSION = 1  # of what `request_key` covers; a change makes every cached reply a miss
QUOTED = 2_000  # characters of an invalid reply that the asking again repeats

_forbidden = False


class PromptTooLong(ReplyInvalid):
    """The prompt and its reply do not fit the model's context window; fewer or shorter texts will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[T]):
    """A validated reply. `usage` is zero where it came from the cache; `repaired` where its form had to be mended.

    `model` is what the server says has answered; `tokens` the generated tokens where log-probabilities were asked for.
    """

    value: T
    usage: Usage
    cached: bool = False
    repaired: bool = False
    model: str = ""
    tokens: tuple[TokenChoice, ...] = ()


@dataclass(slots=True)
class _Attempt:
    """What one reply came to: a value, or the sentence to ask again with."""

    reply: ModelReply
    value: Any = None
    complaint: str = ""
    repaired: bool = False
    final: bool = field(default=False)


class Asker:
    """A model with everything around it. One Asker serves any number of concurrent callers, threads and event loops."""

    def __init__(
        self,
        model: ChatModel,
        *,
        library: PromptLibrary | None = None,
        cache: ReplyStore | None = None,
        limits: Limits | None = None,
        prices: PriceList | None = None,
        temperature: float = 0.0,
    ) -> None:
        self.model = model
        self.library = library or PromptLibrary()
        self.cache = cache
        self.gate = gate_for(model.endpoint, limits or _limits_for(model))
        self.price = (prices or load_prices()).find(model.name, model.endpoint)
        self.temperature = temperature

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def context_window(self) -> int:
        """Tokens of prompt and reply together."""
        return self.model.context_window

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, estimated on the high side."""
        return estimate_tokens(text)

    def hashes(self) -> dict[str, str]:
        """sha256 of every prompt by name, for the manifest."""
        return self.library.hashes()

    def fits(self, prompt: str, variables: Mapping[str, Any], *, max_tokens: int = 1024) -> bool:
        """Whether the prompt and a reply of `max_tokens` fit the context window."""
        messages = self.library.rendered(prompt, variables).messages
        return estimate_messages(messages) + max_tokens <= self.context_window

    async def ask(
        self,
        prompt: str,
        variables: Mapping[str, Any],
        reply: type[T],
        *,
        meter: Meter | None = None,
        accept: Callable[[T], str | None] | None = None,
        max_tokens: int = 1024,
        schema: Mapping[str, Any] | None = None,
        top_logprobs: int = 0,
    ) -> Asked[T]:
        """The reply to `prompt`, of type `reply`.

        `accept` returns None for a reply that fits this call, else the sentence to ask again with. `schema` replaces
        the JSON schema of the reply type where the call knows a narrower one. Raises BudgetSpent before a call that
        could pass a limit of `meter`; PromptTooLong, ReplyInvalid, ModelUnavailable or ModelRefused otherwise.
        """
        rendered = self.library.rendered(prompt, variables)
        request = Request(
            messages=rendered.messages,
            name=prompt,
            schema=schema or strict_schema(reply),
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_logprobs=top_logprobs,
        )
        key = request_key(self.name, request, rendered.sha256)
        if (kept := await self._recall(key, reply)) is not None:
            return kept
        meter = meter or Meter()
        spent = Usage()
        attempt = _Attempt(ModelReply(text="", usage=Usage(), model=self.name))
        for again in (False, True):
            asking = _asking_again(request, attempt, self.context_window) if again else request
            reply_now = await self._complete(asking, meter)
            spent += reply_now.usage
            attempt = _examine(reply_now, reply, accept, last=again)
            if rendered.follows_language and not attempt.complaint and not again:
                attempt.complaint = other_language(_prose(attempt.value), rendered.sources) or ""
            if attempt.value is not None and not attempt.complaint:
                asked = Asked(
                    value=attempt.value,
                    usage=spent,
                    repaired=attempt.repaired or again,
                    model=reply_now.model,
                    tokens=reply_now.tokens,
                )
                await self._keep(key, asked, rendered)
                return asked
            if attempt.final:
                break
        raise ReplyInvalid(
            f"{self.name} did not give the reply that {prompt} asks for: {attempt.complaint}",
            prompt=prompt,
            body=attempt.reply.text[:QUOTED],
        )

    async def stream(
        self, prompt: str, variables: Mapping[str, Any], *, meter: Meter | None = None, max_tokens: int = 1024
    ) -> AsyncIterator[str]:
        """The reply to `prompt` as free text, piece by piece; neither validated nor cached, and never tried again."""
        messages = self.library.rendered(prompt, variables).messages
        request = Request(messages=messages, name=prompt, max_tokens=max_tokens, temperature=self.temperature)
        meter = meter or Meter()
        _check_allowed(request)
        prompt_tokens = self._check_window(request)
        with self._reserved(request, prompt_tokens, meter) as settle:
            pieces: list[str] = []
            started = time.monotonic()
            try:
                async with self.gate.slot(prompt_tokens + max_tokens):
                    pieces_now = self.model.stream(request)
                    while True:
                        left = meter.remaining_seconds()
                        timeout = self.gate.limits.timeout if left is None else min(left, self.gate.limits.timeout)
                        try:
                            piece = await asyncio.wait_for(anext(pieces_now), timeout)
                        except StopAsyncIteration:
                            break
                        except TimeoutError as problem:
                            raise ModelUnavailable(f"{self.name} stopped in the middle of its reply.") from problem
                        pieces.append(piece)
                        yield piece
            finally:
                usage = Usage(
                    calls=1,
                    input_tokens=prompt_tokens,
                    output_tokens=estimate_tokens("".join(pieces)),
                    seconds=time.monotonic() - started,
                )
                settle(self._priced(usage))

    async def aclose(self) -> None:
        """Release the model's connections."""
        await self.model.aclose()

    async def _complete(self, request: Request, meter: Meter) -> ModelReply:
        """One reply within budget and limits; every attempt is reserved, and settled whatever becomes of it."""
        prompt_tokens = self._check_window(request)

        async def attempt() -> ModelReply:
            _check_allowed(request)
            started = time.monotonic()
            with self._reserved(request, prompt_tokens, meter) as settle:
                try:
                    reply = await self.model.complete(request)
                except asyncio.CancelledError:  # timed out: the server has read the prompt, and will charge for it
                    settle(self._priced(Usage(calls=1, input_tokens=prompt_tokens)))
                    raise
                usage = self._priced(replace(reply.usage, calls=1, seconds=time.monotonic() - started))
                settle(usage)
                return replace(reply, usage=usage)

        try:
            return await around.call(
                attempt, self.gate, tokens=prompt_tokens + request.max_tokens, remaining=meter.remaining_seconds
            )
        except ModelUnavailable:
            if meter.remaining_seconds() == 0.0:
                meter.check()  # the deadline has passed: that, not the server, is what ended the call
            raise

    @contextmanager
    def _reserved(self, request: Request, prompt_tokens: int, meter: Meter) -> Iterator[Callable[[Usage], None]]:
        cost = None
        if self.price is not None:
            cost = self.price.cost(input_tokens=prompt_tokens, output_tokens=request.max_tokens)
        reservation = meter.reserve(prompt_tokens + request.max_tokens, cost)
        try:
            yield reservation.settle
        finally:
            reservation.settle(Usage(calls=1, cost=None if self.price is None else 0.0))

    def _priced(self, usage: Usage) -> Usage:
        if self.price is None:
            return replace(usage, cost=None)
        tokens = {name: getattr(usage, name) for name in ("input_tokens", "cached_tokens", "output_tokens")}
        return replace(usage, cost=self.price.cost(**tokens))

    def _check_window(self, request: Request) -> int:
        tokens = estimate_messages(request.messages)
        if tokens + request.max_tokens > self.context_window:
            raise PromptTooLong(
                f"{request.name} needs about {tokens:,} tokens and {request.max_tokens:,} for the reply; "
                f"{self.name} has a window of {self.context_window:,}.",
                prompt=request.name,
            )
        return tokens

    async def _recall(self, key: str, reply: type[T]) -> Asked[T] | None:
        if self.cache is None or (body := await asyncio.to_thread(self.cache.get, key)) is None:
            return None
        try:
            data = json.loads(body)
            tokens = tuple(TokenChoice(token=token, alternatives=found) for token, found in data.get("tokens", ()))
            value = reply.model_validate(data["value"])
        except (ValueError, KeyError, TypeError):
            return None  # written by another version: ask again
        return Asked(
            value=value,
            usage=Usage(),
            cached=True,
            repaired=data.get("repaired", False),
            model=data["model"],
            tokens=tokens,
        )

    async def _keep(self, key: str, asked: Asked[T], rendered: Rendered) -> None:
        if self.cache is None:
            return
        data: dict[str, Any] = {"value": asked.value.model_dump(), "model": asked.model, "repaired": asked.repaired}
        if asked.tokens:
            data["tokens"] = [[choice.token, dict(choice.alternatives)] for choice in asked.tokens]
        # Shielded: a search that is cancelled now has still paid for this reply.
        await asyncio.shield(
            asyncio.to_thread(
                self.cache.put,
                key,
                json.dumps(data, ensure_ascii=False),
                model=self.name,
                prompt=rendered.name,
                usage=asked.usage,
                sources=rendered.sources,
            )
        )


def _check_allowed(request: Request) -> None:
    if _forbidden:
        raise AssertionError(f"A model call was made where none is allowed: {request.name}")


def _limits_for(model: ChatModel) -> Limits:
    """The usual limits, with what `doctor` found useful or the user wrote into the profile."""
    profile = load_profile(model.name, model.endpoint)
    if profile is None:
        return Limits()
    told = {name: getattr(profile, name) for name in ("concurrency", "requests_per_minute", "tokens_per_minute")}
    return Limits(**{name: value for name, value in told.items() if value is not None})


def request_key(model: str, request: Request, template_sha256: str) -> str:
    """sha256 of all that decides a reply: model, settings, every message, the schema, the template's file."""
    data = [KEY_VERSION, model, template_sha256, asdict(request)]
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _examine(reply: ModelReply, kind: type[T], accept: Callable[[T], str | None] | None, *, last: bool) -> _Attempt:
    """Parse, validate and let the caller judge one reply."""
    attempt = _Attempt(reply)
    if reply.finish == "content_filter":
        attempt.complaint, attempt.final = "its content filter stopped the reply.", True
        return attempt
    try:
        parsed = read_json(reply.text)
        cut = parsed.cut or (reply.finish == "length" and parsed.repaired)
        if cut and not (last and issubclass(kind, Reply) and kind.may_be_cut):
            attempt.complaint = "The reply was cut off before its end. Answer more briefly."
            return attempt
        attempt.value, attempt.repaired = kind.model_validate(parsed.value), parsed.repaired
    except ValidationError as problem:
        attempt.complaint = "; ".join(_describe(error) for error in problem.errors()[:3])
        return attempt
    except ValueError as problem:
        attempt.complaint = "The reply was cut off before its end." if reply.finish == "length" else str(problem)
        return attempt
    attempt.complaint = (accept(attempt.value) if accept else None) or ""
    return attempt


def _prose(value: Any) -> str:
    """All texts of a reply, one after the other."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        value = list(value.values())
    return (
        " ".join(filter(None, map(_prose, value)))
        if isinstance(value, list)
        else value
        if isinstance(value, str)
        else ""
    )


def _describe(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"])) or "The reply"
    return f"{place}: {error['msg']}"


def _asking_again(request: Request, attempt: _Attempt, window: int) -> Request:
    """The same question with the reply and what is wrong with it; a reply that was cut gets twice the room."""
    from branchwise.prompts.fence import neutralise

    max_tokens = request.max_tokens
    if attempt.reply.finish == "length":
        room = window - estimate_messages(request.messages) - estimate_tokens(attempt.reply.text[:QUOTED]) - 128
        max_tokens = max(max_tokens, min(2 * max_tokens, room))
    complaint = f"That reply cannot be used: {attempt.complaint}\nReply again with the complete JSON only."
    said = neutralise(attempt.reply.text[:QUOTED]).strip()
    return replace(
        request,
        max_tokens=max_tokens,
        messages=(
            *request.messages,
            Message(role="assistant", content=said or "(nothing)"),
            Message(role="user", content=complaint),
        ),
    )
