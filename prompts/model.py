"""What a chat model is to the rest of Branchwise: messages in, one reply out, usage counted.

Implementations: prompts.openai_chat (any OpenAI-compatible server), prompts.vllm_chat (in process), prompts.testing
(scripted). A model knows nothing of caches, retries, limits or budgets: prompts.ask puts those around it, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from branchwise.stores.records import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that decides a reply, and so everything that the reply cache is keyed by.

    `schema` is a JSON schema that the reply must satisfy (None: free text), `name` the prompt it stems from
    ("judge_leaf.v1"), `max_tokens` the limit of the reply, `top_logprobs` how many alternatives a position
    to report (0: none).
    """

    messages: tuple[Message, ...]
    name: str
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 1024
    temperature: float = 0.0
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChoice:
    """A generated token and the alternatives that the server reported, as {token: log-probability}."""

    token: str
    alternatives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """A reply as the server gave it, not yet validated. `finish` is "stop", "length", "content_filter" or other."""

    text: str
    usage: Usage
    model: str
    finish: str = "stop"
    tokens: tuple[TokenChoice, ...] = ()


@runtime_checkable
class ChatModel(Protocol):
    """A chat model behind any protocol. Raises ModelUnavailable (may be retried), ModelRefused or ReplyInvalid."""

    name: str
    """What the server calls the model; part of the cache key."""
    endpoint: str
    """Where it is, without secrets: limits and concurrency are kept per endpoint."""
    context_window: int
    """Tokens of prompt and reply together."""

    async def complete(self, request: Request) -> ModelReply:
        """One reply to `request`."""
        ...

    def stream(self, request: Request) -> AsyncIterator[str]:
        """The reply's text piece by piece, without a schema."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
