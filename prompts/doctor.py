"""Finds out, by asking, what a model server can really do, and saves it as a profile.

Reachable, model listed, context window, JSON schema, log-probabilities, prefix cache, embeddings, speed at 1, 4 and 8
calls at once. It spends about 2,000 tokens, on a server of this machine more where the window has to be measured. Every
finding says what to do about it. Tested in tests/prompts/test_doctor.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from branchwise.prompts.ask import Asker, PromptTooLong
from branchwise.prompts.model import Message, ModelReply, Request
from branchwise.prompts.openai_chat import OpenAIChat
from branchwise.prompts.parse import read_json
from branchwise.prompts.prices import is_loopback
from branchwise.prompts.profile import Profile, save_profile
from branchwise.stores.errors import ModelError, ModelRefused, ModelUnavailable

PARALLEL = (1, 4, 8)
REPLY_TOKENS = 64
PATIENCE = 60.0  # seconds for one probe; a model that is still being loaded takes that long
LONGEST_PROBE = 65_536  # tokens; a larger window is of no use to any prompt of ours
FILLER = "The quick brown fox jumps over the lazy dog. "  # 10 tokens in every common vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One thing found out. `status` "fault" means that the model cannot be used; `hint` is what to do."""

    name: str
    status: Literal["ok", "note", "warning", "fault"]
    detail: str
    hint: str = ""


async def probe(asker: Asker, *, save_to: Path | None = None) -> list[Probe]:
    """All findings about the asker's model, the saved profile last; a fault ends the probing."""
    return [found async for found in probes(asker, save_to=save_to)]


async def probes(asker: Asker, *, save_to: Path | None = None) -> AsyncIterator[Probe]:
    """The same, one by one as they are found."""
    model = asker.model
    profile = Profile(model=model.name, endpoint=model.endpoint)
    declared: int | None = None
    if isinstance(model, OpenAIChat):
        listed, declared = await _listed(model)
        yield listed
        if listed.status == "fault":
            return
    try:
        first = await _complete(asker, "Reply with the word ok.", max_tokens=16)
    except ModelError as problem:
        yield Probe(name="reply", status="fault", detail=problem.message, hint=problem.hint)
        return
    yield _answered(model.name, first)
    for look in (_schema, _logprobs, _prefix_cache):
        try:
            found, profile = await look(asker, profile)
        except ModelError as problem:
            found = Probe(name=look.__name__.strip("_"), status="warning", detail=problem.message, hint=problem.hint)
        yield found
    found, window = await _window(asker, declared)
    profile = replace(profile, context_window=window)
    yield found
    if isinstance(model, OpenAIChat):
        yield await _embeddings(model)
        profile = replace(profile, limit_field=model.dialect.limit_field, temperature=model.dialect.temperature)
    found, profile = await _speed(asker, profile)
    yield found
    path = save_profile(profile, save_to)
    yield Probe(name="profile", status="ok", detail=f"saved to {path}; it is used from now on")


async def _complete(asker: Asker, text: str, *, max_tokens: int = REPLY_TOKENS, **more: Any) -> ModelReply:
    """One bare call, within the patience of a probe; its seconds are counted."""
    messages = (Message(role="system", content="You are a careful assistant."), Message(role="user", content=text))
    request = Request(messages=messages, name="doctor", max_tokens=max_tokens, **more)
    started = time.monotonic()
    try:
        reply = await asyncio.wait_for(asker.model.complete(request), PATIENCE)
    except TimeoutError as problem:
        raise ModelUnavailable(f"No answer within {PATIENCE:.0f} seconds.") from problem
    return replace(reply, usage=replace(reply.usage, seconds=time.monotonic() - started))


def _answered(name: str, reply: ModelReply) -> Probe:
    """That the model answers, and whether it calls itself by another name (dated and prefixed names are usual)."""
    detail = f"{reply.model} answered within {reply.usage.seconds:.1f} s"
    if name.rsplit("/", 1)[-1] in reply.model or reply.model in name:
        return Probe(name="reply", status="ok", detail=detail)
    hint = f"You asked for {name}: cached replies and results will carry that name."
    return Probe(name="reply", status="warning", detail=detail, hint=hint)


async def _listed(model: OpenAIChat) -> tuple[Probe, int | None]:
    """Whether the server can be reached and serves the model, and the window that it declares."""
    try:
        served = await asyncio.wait_for(model.served(), PATIENCE)
    except ModelRefused as problem:
        # Some gateways list nothing, and serve all the same; a wrong key shows at the first reply.
        return Probe(name="server", status="note", detail=f"reachable, lists no models: {problem.message}"), None
    except (ModelError, TimeoutError) as problem:
        hint = getattr(problem, "hint", "")
        return Probe(name="server", status="fault", detail=str(getattr(problem, "message", problem)), hint=hint), None
    if model.name in served:
        return Probe(name="server", status="ok", detail=f"{model.endpoint} serves {model.name}"), served[model.name]
    names = ", ".join(sorted(served)[:8]) or "none"
    detail = f"{model.endpoint} is reachable, but does not list {model.name!r}"
    return Probe(name="server", status="warning", detail=detail, hint=f"It lists: {names}."), None


async def _schema(asker: Asker, profile: Profile) -> tuple[Probe, Profile]:
    """Whether a reply can be forced into a JSON schema: asked for prose, does it give the object?"""
    schema = {
        "type": "object",
        "properties": {"score": {"type": "integer"}},
        "required": ["score"],
        "additionalProperties": False,
    }
    reply = await _complete(asker, "Write one short sentence about the sea.", schema=schema)
    structure = asker.model.dialect.structure if isinstance(asker.model, OpenAIChat) else "json_schema"
    profile = replace(profile, structure=structure)
    try:
        value = read_json(reply.text).value
    except ValueError:
        value = None
    if structure == "json_schema" and isinstance(value, dict) and set(value) == {"score"}:
        return Probe(name="schema", status="ok", detail="JSON schemas are enforced"), profile
    hint = "Replies are checked and repaired; a server that enforces schemas (vLLM, OpenAI, llama.cpp) saves calls."
    said = "accepted but not enforced" if structure == "json_schema" else f"not supported; {structure} is used"
    return Probe(name="schema", status="note", detail=f"JSON schemas are {said}", hint=hint), profile


async def _logprobs(asker: Asker, profile: Profile) -> tuple[Probe, Profile]:
    """Whether token probabilities come with a reply."""
    reply = await _complete(asker, "Reply with one number from 1 to 9.", max_tokens=8, top_logprobs=5)
    if any(token.alternatives for token in reply.tokens):
        return Probe(name="logprobs", status="ok", detail="offered: expected scores are possible"), replace(
            profile, logprobs=True
        )
    return Probe(name="logprobs", status="note", detail="not offered: scores are taken as written"), profile


async def _prefix_cache(asker: Asker, profile: Profile) -> tuple[Probe, Profile]:
    """Whether a prompt that begins like an earlier one is cheaper: the second of two like prompts says so."""
    for question in ("How many foxes?", "How many dogs?"):
        reply = await _complete(asker, FILLER * 120 + question, max_tokens=8)
    if reply.usage.cached_tokens:
        share = reply.usage.cached_tokens / max(1, reply.usage.input_tokens)
        detail = f"{share:.0%} of a repeated prompt came from the server's cache"
        return Probe(name="cache", status="ok", detail=detail), replace(profile, prefix_cache=True)
    hint = "vLLM: --enable-prefix-caching --enable-prompt-tokens-details; a slate's prompt is made for it."
    return Probe(name="cache", status="note", detail="no cached tokens are reported", hint=hint), profile


async def _window(asker: Asker, declared: int | None) -> tuple[Probe, int | None]:
    """The context window: as declared, as an error message gives it, or measured on a server of this machine."""
    model, before = asker.model, asker.model.context_window
    window, how = declared, "declared by the server"
    if window is None and isinstance(model, OpenAIChat):
        model.context_window = unknown = 1 << 40
        with contextlib.suppress(ModelError):  # free: more than any window is refused, with the window in the message
            await _complete(asker, "ok", max_tokens=20_000_000)
        if model.context_window < unknown:
            window, how = model.context_window, "as its error message says"
        model.context_window = before
    if window is None and is_loopback(model.endpoint):
        window, how = await _measure(asker), "measured"
    if window is None:
        detail = f"not known; {before:,} tokens are assumed"
        return Probe(name="window", status="note", detail=detail, hint="Give --context-window if you know it."), None
    model.context_window = window
    if window < 4_096:
        hint = "Slates will be small. Ollama: OLLAMA_CONTEXT_LENGTH=16384; vLLM: --max-model-len; llama.cpp: -c 16384."
        return Probe(name="window", status="warning", detail=f"{window:,} tokens, {how}", hint=hint), window
    return Probe(name="window", status="ok", detail=f"{window:,} tokens, {how}"), window


async def _measure(asker: Asker) -> int | None:
    """The largest prompt, doubling from 1,024 tokens, that the server takes and counts in full.

    Some servers cut a long prompt without a word; their own count of its tokens tells.
    """
    good, size = None, 1_024
    while size <= LONGEST_PROBE:
        try:
            reply = await _complete(asker, FILLER * (size // 10) + "Reply with ok.", max_tokens=4)
        except (PromptTooLong, ModelError):
            break
        if reply.usage.input_tokens < 0.8 * size:
            break
        good, size = size, size * 2
    return good


async def _embeddings(model: OpenAIChat) -> Probe:
    """Whether the server embeds texts, by this very model."""
    try:
        dimension = await asyncio.wait_for(model.embedding_dimension(), PATIENCE)
    except (ModelError, TimeoutError):
        return Probe(name="embeddings", status="note", detail="not by this model; the embedded embedder needs none")
    return Probe(name="embeddings", status="ok", detail=f"{dimension} dimensions (--embedder openai:{model.name})")


async def _speed(asker: Asker, profile: Profile) -> tuple[Probe, Profile]:
    """Tokens a second at 1, 4 and 8 calls at once, and the concurrency that this suggests."""
    rates: dict[int, float] = {}
    for parallel in PARALLEL:
        started = time.monotonic()
        calls = [_complete(asker, f"Count upwards from {start}.") for start in range(1, parallel + 1)]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        good = [reply for reply in replies if isinstance(reply, ModelReply)]
        if len(good) < parallel:
            break
        rates[parallel] = sum(reply.usage.output_tokens for reply in good) / (time.monotonic() - started)
    if not rates:
        return Probe(name="speed", status="warning", detail="no call came back"), profile
    best = max(rates, key=lambda parallel: rates[parallel])
    useful = 16 if best == PARALLEL[-1] and len(rates) == len(PARALLEL) else best
    detail = ", ".join(f"{rate:,.0f} tokens/s at {parallel}" for parallel, rate in rates.items())
    found = Probe(name="speed", status="ok", detail=f"{detail}; up to {useful} calls at once will be made")
    return found, replace(profile, concurrency=useful, tokens_per_second=round(rates[best], 1))
