"""Any server that speaks OpenAI's chat protocol: OpenAI, vLLM, Ollama, llama.cpp, a gateway.

The only home of the `openai` package (2.54 and 3.x). Its own retries are off, redirects are not followed, and every
error of it becomes one of ours in one place. What a server understands of the protocol, its dialect, is found out once
and remembered: the form of a reply by json_schema, else json_object, else plain text; max_tokens or
max_completion_tokens; temperature and log-probabilities or none. Tested in tests/prompts/test_openai_chat.py and
test_faults.py against a real loopback server.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from branchwise.prompts.ask import PromptTooLong
from branchwise.prompts.connections import Connections
from branchwise.prompts.endpoint import Endpoint, find_endpoint
from branchwise.prompts.limits import Overloaded
from branchwise.prompts.model import ChatModel, ModelReply, Request, TokenChoice
from branchwise.prompts.profile import load_profile
from branchwise.stores.errors import InputError, ModelError, ModelRefused, ModelUnavailable, ReplyInvalid
from branchwise.stores.records import Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Structure = Literal["json_schema", "json_object", "text"]
WEAKER: dict[Structure, Structure] = {"json_schema": "json_object", "json_object": "text"}

THINKING_ROOM = 4_096  # tokens added to a reply's limit once a model is seen to think before it answers

DEFAULT_WINDOW = 32_768  # tokens, where neither the server nor the user says: what today's smallest servers offer

_TOO_LONG = re.compile(
    r"context[ _]?(?:length|window|size)|maximum context|max_model_len|too many tokens|too long"
    r"|exceeds? the (?:model|available)",
    re.IGNORECASE,
)
_WINDOW = re.compile(r"(?:length|window|size|limit|maximum)\D{0,30}?(\d[\d,]{2,})", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing|credit balance|payment", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What of the protocol a server understands; `limit_field` is its name for the most tokens of a reply."""

    structure: Structure = "json_schema"
    limit_field: str = "max_tokens"
    temperature: bool = True
    logprobs: bool = True

    def without(self, complaint: str, request: Request) -> Dialect | None:
        """The next simpler dialect after a server refused a request with this complaint; None where there is none."""
        if "max_completion_tokens" in complaint and self.limit_field == "max_tokens":
            return replace(self, limit_field="max_completion_tokens")
        if "temperature" in complaint and self.temperature:
            return replace(self, temperature=False)
        if "logprobs" in complaint and self.logprobs and request.top_logprobs:
            return replace(self, logprobs=False)
        if request.schema is not None and self.structure != "text":
            return replace(self, structure=WEAKER[self.structure])
        return None


class OpenAIChat:
    """A chat model behind an OpenAI-compatible server.

    `context_window` in tokens; where the server proves it smaller (its error says so), it shrinks to that. `dialect`
    is where to begin, the full protocol unless a profile knows better. `extra` goes into every request's body as it is
    (for example {"reasoning_effort": "low"}).
    """

    def __init__(
        self,
        name: str,
        base_url: str | None = None,
        *,
        key: str | None = None,
        context_window: int = DEFAULT_WINDOW,
        dialect: Dialect | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._endpoint: Endpoint = find_endpoint(base_url, key=key)
        self.name = name
        self.endpoint = self._endpoint.url
        self.context_window = context_window
        self.dialect = dialect or Dialect()
        self._proven: set[Dialect] = set()
        self._thinks = False
        self._extra = dict(extra or {})
        self._connections = Connections(self._open)
        self._lock = threading.Lock()

    async def complete(self, request: Request) -> ModelReply:
        """One reply; a server that refuses the dialect is asked at once in a simpler one."""
        first = self.dialect
        while True:
            dialect = self.dialect
            try:
                answer = await self._post(self._body(request, dialect))
            except ModelRefused as refusal:
                simpler = dialect.without(refusal.message, request) if self._may_be_dialect(refusal, dialect) else None
                with self._lock:
                    if simpler is None:
                        if dialect not in self._proven:  # the form was not what it minded: forget what was tried
                            self.dialect = first
                        raise
                    if self.dialect == dialect:
                        self.dialect = simpler
                continue
            if request.schema is not None:
                self._proven.add(dialect)
            return self._read(answer, request)

    async def stream(self, request: Request) -> AsyncIterator[str]:
        """The reply's text piece by piece."""
        from openai import AsyncStream
        from openai.types.chat import ChatCompletionChunk

        body = self._body(request, self.dialect) | {"stream": True}
        with self._our_errors():
            async with self._connections.client() as client:
                pieces = await client.post(
                    "/chat/completions",
                    body=body,
                    cast_to=ChatCompletionChunk,
                    stream=True,
                    stream_cls=AsyncStream[ChatCompletionChunk],
                )
                try:
                    async for piece in pieces:
                        choices = getattr(piece, "choices", None)
                        if choices and (text := getattr(choices[0].delta, "content", None)):
                            yield text
                finally:
                    await pieces.close()

    async def served(self) -> dict[str, int | None]:
        """The models that the server lists, each with the context window it declares, if it does (vLLM, llama.cpp)."""
        with self._our_errors():
            async with self._connections.client() as client:
                page = await client.models.list()
            cards = getattr(page, "data", None)
            if not isinstance(cards, list):
                raise ModelUnavailable(f"{self.endpoint} does not list its models as a chat server does.")
            return {str(getattr(card, "id", "")): _declared_window(card) for card in cards}

    async def embedding_dimension(self) -> int:
        """Length of the vectors that this model embeds texts into; ModelError where it does not."""
        with self._our_errors():
            async with self._connections.client() as client:
                answer = await client.embeddings.create(model=self.name, input=["ok"], encoding_format="float")
            data = getattr(answer, "data", None)
            if not data:
                raise ModelUnavailable(f"{self.endpoint} gave no embedding.")
            return len(data[0].embedding)

    async def aclose(self) -> None:
        """Close the connections of the running loop; those of other loops go with their loops."""
        await self._connections.aclose()

    async def _post(self, body: dict[str, Any]) -> Any:
        """What `chat.completions.create` does, but for its walk through the body, which costs more than the call."""
        from openai.types.chat import ChatCompletion

        with self._our_errors():
            async with self._connections.client() as client:
                return await client.post("/chat/completions", body=body, cast_to=ChatCompletion)

    def _may_be_dialect(self, refusal: ModelRefused, dialect: Dialect) -> bool:
        """Whether a refusal may be of the form of our request, and not of what it says."""
        status = getattr(refusal.__cause__, "status_code", None)
        return status in (400, 415, 422, 501) and dialect not in self._proven

    def _body(self, request: Request, dialect: Dialect) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            dialect.limit_field: request.max_tokens + (THINKING_ROOM if self._thinks else 0),
        }
        if dialect.temperature:
            body["temperature"] = request.temperature
        if request.schema is not None and dialect.structure == "json_schema":
            name = re.sub(r"\W", "_", request.name)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": name, "schema": request.schema, "strict": True},
            }
        elif request.schema is not None and dialect.structure == "json_object":
            body["response_format"] = {"type": "json_object"}
        if request.top_logprobs and dialect.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return body | self._extra

    def _read(self, answer: Any, request: Request) -> ModelReply:
        """The first choice of a completion; a 200 may still hold a web page, no choice, no content or a refusal."""
        if isinstance(answer, str) or not getattr(answer, "choices", None):
            body = answer if isinstance(answer, str) else str(answer)
            raise ModelUnavailable(
                f"{self.endpoint} answered, but not as a chat server does: {_first_line(self._endpoint.redact(body))}",
                hint="Check --base-url: it usually ends in /v1.",
            )
        choice = answer.choices[0]
        message = getattr(choice, "message", None)
        finish = str(getattr(choice, "finish_reason", None) or "stop")
        refusal = getattr(message, "refusal", None)
        if refusal and not getattr(message, "content", None):
            finish = "content_filter"
        text = str(getattr(message, "content", None) or "")
        details = getattr(getattr(answer, "usage", None), "completion_tokens_details", None)
        self._thinks = self._thinks or bool(getattr(details, "reasoning_tokens", 0)) or "<think>" in text[:200]
        return ModelReply(
            text=text,
            usage=_usage(answer, request, message),
            model=str(getattr(answer, "model", None) or self.name),
            finish=finish,
            tokens=_tokens(choice),
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext | bool:
        """One context for all clients, since making one reads every certificate."""
        return ssl.create_default_context() if self.endpoint.startswith("https") else True

    def _open(self) -> AsyncOpenAI:
        import openai

        # A loopback server is never reached through a proxy; a redirect could carry the key to another host.
        http_client = openai.DefaultAsyncHttpxClient(
            follow_redirects=False, trust_env=not self._endpoint.is_loopback, timeout=None, verify=self._tls
        )
        return openai.AsyncOpenAI(
            base_url=self.endpoint,
            api_key=self._endpoint.key or "none",
            max_retries=0,
            timeout=None,  # prompts.limits times the whole call: a read timeout never ends a slow drip
            http_client=http_client,
        )

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        """Every error of the SDK as one of ours; a bug stays what it is."""
        import openai

        try:
            yield
        except openai.APIStatusError as problem:
            raise self._from_status(problem) from problem
        except openai.APIConnectionError as problem:
            raise ModelUnavailable(
                f"{self.endpoint} cannot be reached: {_cause(problem)}.",
                hint="Is the server running? `branchwise doctor` finds out.",
            ) from problem
        except openai.LengthFinishReasonError as problem:
            raise ReplyInvalid(f"{self.name} reached its limit of tokens.") from problem
        except openai.ContentFilterFinishReasonError as problem:
            raise ReplyInvalid(f"{self.name}: the content filter stopped the reply.") from problem
        except (openai.OpenAIError, ValueError) as problem:
            # What is left concerns the body: no JSON, another shape, a stream that broke off in the middle.
            raise ModelUnavailable(
                f"{self.endpoint} sent a reply that cannot be read: {_first_line(self._endpoint.redact(str(problem)))}"
            ) from problem

    def _from_status(self, problem: Any) -> ModelError:
        status, headers = problem.status_code, problem.response.headers
        said = _first_line(self._endpoint.redact(_said(problem)))
        where = f"{self.name} at {self.endpoint}"
        if status in (400, 413, 422) and _TOO_LONG.search(said):
            self._learn_window(said)
            return PromptTooLong(f"{where} finds the prompt too long: {said}")
        if status == 429 and _QUOTA.search(f"{problem.code} {problem.type} {said}"):
            return ModelRefused(f"{where}: the quota is used up: {said}")
        if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
            kind = Overloaded if status in (429, 503) else ModelUnavailable
            return kind(f"{where} is not available ({status}): {said}", retry_after=_retry_after(headers))
        return ModelRefused(f"{where} refused the request ({status}): {said}", hint=_HINTS.get(status, ""))

    def _learn_window(self, said: str) -> None:
        """Shrink the context window to what the server's own message gives."""
        sizes = [int(size.replace(",", "")) for size in _WINDOW.findall(said)]
        if smaller := [size for size in sizes if 256 <= size < self.context_window]:
            self.context_window = max(smaller)


_HINTS = {
    401: "Check OPENAI_API_KEY.",
    403: "This key may not use this model.",
    404: "Check --model and --base-url; `branchwise doctor` lists the models of the server.",
}


def _said(problem: Any) -> str:
    body = problem.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("message") or inner) if isinstance(inner, dict) else str(inner)
    return str(body or problem.message)


def _cause(problem: BaseException) -> str:
    inner = problem.__cause__ or problem
    return f"{_first_line(str(inner))}" if str(inner) else type(inner).__name__


def _declared_window(card: Any) -> int | None:
    """What a model's card says of its window: vLLM, several gateways, llama.cpp."""
    meta = getattr(card, "meta", None)
    in_meta = meta.get("n_ctx") if isinstance(meta, dict) else None
    sizes = (getattr(card, "max_model_len", None), getattr(card, "context_length", None), in_meta)
    return next((size for size in sizes if isinstance(size, int) and size >= 256), None)


def _first_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _retry_after(headers: Any) -> float | None:
    """Seconds until the server wants to be asked again: retry-after-ms, Retry-After in seconds or as a date."""
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return float(milliseconds) / 1000
        if (value := headers.get("retry-after")) is None:
            return None
        return float(value)
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(str(value)).timestamp() - time())
        except (ValueError, TypeError, OverflowError):
            return None


def _usage(answer: Any, request: Request, message: Any) -> Usage:
    """What the server says was used; an estimate where it says nothing, for unknown is not free."""
    from branchwise.prompts.tokens import estimate_messages, estimate_tokens

    said = getattr(answer, "usage", None)
    prompt = getattr(said, "prompt_tokens", None)
    completion = getattr(said, "completion_tokens", None)
    details = getattr(said, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", None)
    content = str(getattr(message, "content", None) or "")
    inputs = prompt if isinstance(prompt, int) and prompt >= 0 else estimate_messages(request.messages)
    return Usage(
        calls=1,
        input_tokens=inputs,
        cached_tokens=min(cached, inputs) if isinstance(cached, int) and cached > 0 else 0,
        output_tokens=completion if isinstance(completion, int) and completion >= 0 else estimate_tokens(content),
    )


def _tokens(choice: Any) -> tuple[TokenChoice, ...]:
    content = getattr(getattr(choice, "logprobs", None), "content", None) or ()
    return tuple(
        TokenChoice(token=place.token, alternatives={other.token: other.logprob for other in place.top_logprobs or ()})
        for place in content
    )


def open_model(
    name: str, base_url: str | None = None, *, context_window: int | None = None, **options: Any
) -> ChatModel:
    """The chat model that `--model` and `--base-url` name: "vllm:<folder>" runs in this process, all else on a server.

    Begins with what `doctor` has found out about it. Opens no connection. Raises InputError for an empty name, a
    malformed URL, a missing key, or a foreign host while offline.
    """
    if not name.strip():
        raise InputError("No model is named.", hint="Give --model NAME, or leave it out to work without one.")
    if name.startswith("vllm:"):
        from branchwise.prompts.vllm_chat import VllmChat

        if context_window is not None:
            options["max_model_len"] = context_window
        return VllmChat(name.removeprefix("vllm:"), **options)
    model = OpenAIChat(name, base_url, context_window=context_window or DEFAULT_WINDOW, **options)
    if (profile := load_profile(name, model.endpoint)) is not None:
        model.dialect = Dialect(
            structure=cast(Structure, profile.structure) if profile.structure in get_args(Structure) else "json_schema",
            limit_field=profile.limit_field or "max_tokens",
            temperature=profile.temperature,
        )
        model.context_window = context_window or profile.context_window or DEFAULT_WINDOW
    return model
