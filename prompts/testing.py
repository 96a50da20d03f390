"""Models for tests: scripted, written as a function, or forbidden.

The seam is ChatModel: everything above it, caches, limits and ladders, runs as it does with a server. A stand-in that
really reads the prompts is prompts.stand_in. Tested in tests/prompts/test_ask.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from branchwise.prompts import ask
from branchwise.prompts.model import ModelReply, Request
from branchwise.prompts.tokens import estimate_messages, estimate_tokens
from branchwise.stores.records import Usage


class FunctionModel:
    """A model that is a function of the request: returns text or a ModelReply, or raises. Keeps what it was asked."""

    def __init__(
        self,
        function: Callable[[Request], str | ModelReply],
        *,
        name: str = "function",
        context_window: int = 32_768,
    ) -> None:
        self.function = function
        self.name = name
        self.endpoint = "in-process"
        self.context_window = context_window
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> ModelReply:
        """What the function says, with tokens counted by the estimate."""
        self.requests.append(request)
        said = self.function(request)
        if isinstance(said, ModelReply):
            return said
        usage = Usage(calls=1, input_tokens=estimate_messages(request.messages), output_tokens=estimate_tokens(said))
        return ModelReply(text=said, usage=usage, model=self.name)

    async def stream(self, request: Request) -> AsyncIterator[str]:
        """The same reply, word by word."""
        reply = await self.complete(replace(request, schema=None))
        for number, word in enumerate(reply.text.split(" ")):
            yield word if number == 0 else " " + word

    async def aclose(self) -> None:
        """Nothing to release."""


class ScriptedModel(FunctionModel):
    """A model that gives these replies in order, raising those that are errors; one call too many is an error."""

    def __init__(
        self, replies: Iterable[str | ModelReply | Exception], *, name: str = "scripted", context_window: int = 32_768
    ) -> None:
        self._replies = iter(replies)
        super().__init__(self._next, name=name, context_window=context_window)

    def _next(self, request: Request) -> str | ModelReply:
        try:
            said = next(self._replies)
        except StopIteration:
            raise AssertionError(f"ScriptedModel was asked once too often: {request.name}") from None
        if isinstance(said, Exception):
            raise said
        return said


@contextmanager
def forbid_model_calls() -> Iterator[None]:
    """Within the block every call of any model through an Asker is an AssertionError; cached replies still come."""
    before, ask._forbidden = ask._forbidden, True
    try:
        yield
    finally:
        ask._forbidden = before
