"""A server on 127.0.0.1 that speaks OpenAI's chat protocol, thinks with the stand-in model, and can be told to fail.

It is written on bare sockets so that a fault can be anything that a real server, proxy or network does: a half body, a
reset, a byte a second. It runs in a thread of its own, counts what it is asked, and keeps a prefix cache of prompts, so
that cached tokens are reported as vLLM reports them. `python tests/loopback/server.py --port 8000` serves by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from branchwise.prompts.stand_in import answer
from branchwise.prompts.tokens import estimate_tokens

BLOCK = 64  # characters of prompt a block of the prefix cache, about 16 tokens


@dataclass(kw_only=True)
class Call:
    """One chat request as it came in; `number` counts from 0."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]
    reply: str = ""
    status: int = 200


class Reply:
    """What a handler writes back: helpers for honest answers, and the raw stream for dishonest ones."""

    def __init__(self, writer: asyncio.StreamWriter, server: LoopbackServer, call: Call) -> None:
        self.writer = writer
        self.server = server
        self.call = call

    async def send(
        self, status: int, body: bytes | str | dict[str, Any], *, content_type: str = "application/json", **headers: str
    ) -> None:
        """One complete HTTP response. Header names are written with underscores."""
        self.call.status = status
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        await self.writer.drain()

    async def error(self, status: int, message: str = "injected", *, code: str = "", **headers: str) -> None:
        """An error in OpenAI's form."""
        await self.send(
            status, {"error": {"message": message, "type": code or "error", "code": code or None}}, **headers
        )

    async def completion(self, text: str | None, *, finish: str = "stop", **changes: Any) -> None:
        """A chat completion that says `text`; `changes` replace top-level fields of the body."""
        await self.send(200, self.body(text, finish=finish) | changes)

    def body(self, text: str | None, *, finish: str = "stop", **message: Any) -> dict[str, Any]:
        """The body of a chat completion."""
        self.call.reply = text or ""
        prompt = "".join(str(part["content"]) for part in self.call.body["messages"])
        used, cached = estimate_tokens(prompt), self.server.remember(prompt)
        used = min(used, self.server.context_window)
        said = estimate_tokens(text or "")
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": finish,
            "message": {"role": "assistant", "content": text, **message},
        }
        if self.call.body.get("logprobs"):
            choice["logprobs"] = {"content": log_probabilities(text or "")}
        return {
            "id": f"loopback-{self.call.number}",
            "object": "chat.completion",
            "created": 0,
            "model": self.call.body["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": used,
                "completion_tokens": said,
                "total_tokens": used + said,
                "prompt_tokens_details": {"cached_tokens": min(cached // 4, used)},
            },
        }

    async def stream(self, text: str) -> None:
        """The text as server-sent events, word by word."""
        self.call.reply = text
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for piece in re.findall(r"\S+\s*", text):
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": self.call.body["model"]}
            chunk["choices"] = [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]
            self.writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
            await self.writer.drain()
        self.writer.write(b"data: [DONE]\n\n")
        await self.writer.drain()
        self.writer.close()

    def reset(self) -> None:
        """Break the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Reply, str], Awaitable[None]]
"""Answers a call instead of the server; the string is what the model would have said."""


@dataclass
class LoopbackServer:
    """The running server. `fault_for` is asked before each call which fault, if any, to answer it with."""

    fault_for: Callable[[Call], Fault | None] = lambda call: None
    models: tuple[str, ...] = ("stand-in",)
    think: Callable[[str, str], str] = answer
    latency: float = 0.0
    context_window: int = 32_768
    structures: tuple[str, ...] = ("json_schema", "json_object")
    slots: int = 1_000
    declares: bool = True  # the window, in the list of models
    truncates: bool = False  # a prompt that is too long, instead of refusing it
    calls: list[Call] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    busy_seconds: float = 0.0
    base_url: str = ""

    def __post_init__(self) -> None:
        self._blocks: set[bytes] = set()
        self._free = asyncio.Semaphore(self.slots)

    def remember(self, prompt: str) -> int:
        """Characters of `prompt` that earlier prompts began with, in whole blocks; then remember this one."""
        known, digest, counting = 0, hashlib.blake2b(digest_size=12), True
        for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
            digest.update(prompt[start : start + BLOCK].encode())
            key = digest.digest()
            counting = counting and key in self._blocks
            known += BLOCK if counting else 0
            self._blocks.add(key)
        return known

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive for any number of requests."""
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._route(head[0].split(" ")[1], headers, body, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the client is gone, or the server is being stopped
        finally:
            writer.close()

    async def _route(self, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> None:
        data = json.loads(body) if body else {}
        if path.endswith("/models"):
            window = {"max_model_len": self.context_window} if self.declares else {}
            cards = [{"id": name, "object": "model", **window} for name in self.models]
            await Reply(writer, self, Call(number=-1, body={}, headers=headers)).send(
                200, {"object": "list", "data": cards}
            )
        elif path.endswith("/embeddings"):
            rows = [{"index": i, "embedding": embed(text)} for i, text in enumerate(data["input"])]
            answer_body = {
                "object": "list",
                "model": data["model"],
                "data": rows,
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
            await Reply(writer, self, Call(number=-1, body=data, headers=headers)).send(200, answer_body)
        elif path.endswith("/chat/completions"):
            await self._chat(data, headers, writer)
        else:
            await Reply(writer, self, Call(number=-1, body=data, headers=headers)).error(404, f"no such path: {path}")

    async def _chat(self, data: dict[str, Any], headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        call = Call(number=len(self.calls), body=data, headers=headers)
        self.calls.append(call)
        reply = Reply(writer, self, call)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            async with self._free:
                started = time.monotonic()
                try:
                    await self._answer(call, reply)
                finally:
                    self.busy_seconds += time.monotonic() - started
        finally:
            self.in_flight -= 1

    async def _answer(self, call: Call, reply: Reply) -> None:
        data = call.body
        if data["model"] not in self.models:
            return await reply.error(404, f"The model `{data['model']}` does not exist.", code="model_not_found")
        wanted = data.get("response_format", {}).get("type", "text")
        if wanted != "text" and wanted not in self.structures:
            return await reply.error(400, f"response_format {wanted} is not supported")
        tokens = sum(estimate_tokens(str(part["content"])) for part in data["messages"])
        if tokens + data.get("max_tokens", 0) > self.context_window and not self.truncates:
            return await reply.error(
                400,
                f"This model's maximum context length is {self.context_window} tokens. However, you requested "
                f"{tokens + data.get('max_tokens', 0)} tokens.",
                code="context_length_exceeded",
            )
        if self.latency:
            await asyncio.sleep(self.latency)
        system, user = (
            data["messages"][0]["content"],
            data["messages"][1]["content"] if len(data["messages"]) > 1 else "",
        )
        said = self.think(system, user)
        if wanted == "json_schema" and not said.startswith("{"):
            said = json.dumps(example(data["response_format"]["json_schema"]["schema"]))
        if fault := self.fault_for(call):
            return await fault(reply, said)
        if data.get("stream"):
            return await reply.stream(said)
        return await reply.completion(said)


def example(schema: dict[str, Any]) -> Any:
    """A value that a JSON schema of ours allows: what constrained decoding makes of an answer in prose."""
    if schema["type"] == "object":
        return {name: example(value) for name, value in schema["properties"].items()}
    return {"array": [], "integer": 1, "number": 1.0, "boolean": True, "string": "text"}[schema["type"]]


def embed(text: str) -> list[float]:
    """A hashed bag of words, 64 dimensions: enough to test a client."""
    vector = [0.0] * 64
    for word in re.findall(r"\w+", text.casefold()):
        vector[hashlib.blake2b(word.encode(), digest_size=2).digest()[0] % 64] += 1.0
    norm = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / norm for x in vector]


def log_probabilities(text: str) -> list[dict[str, Any]]:
    """Tokens of a reply as a server reports them: a number gets a near neighbour as its alternative."""
    content = []
    for token in re.findall(r"\d+|\D", text):
        best = {"token": token, "logprob": math.log(0.75), "bytes": list(token.encode())}
        near = str(max(0, int(token) - 10)) if token.isdigit() else "x"
        other = {"token": near, "logprob": math.log(0.25), "bytes": list(near.encode())}
        content.append(best | {"top_logprobs": [best, other]})
    return content


@contextmanager
def run_server(**options: Any) -> Iterator[LoopbackServer]:
    """A LoopbackServer in a thread of its own, on a free port of 127.0.0.1, until the block ends."""
    port = options.pop("port", 0)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    server: list[LoopbackServer] = []

    async def serve() -> asyncio.Server:
        server.append(LoopbackServer(**options))
        return await asyncio.start_server(server[0].handle, "127.0.0.1", port, backlog=2_048)

    def work() -> None:
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(serve())
        server[0].base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        ready.set()
        loop.run_forever()
        listening.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--latency", type=float, default=0.0)
    arguments = parser.parse_args()
    with run_server(port=arguments.port, latency=arguments.latency) as running:
        print(f"export OPENAI_BASE_URL={running.base_url} BRANCHWISE_MODEL=stand-in", flush=True)
        threading.Event().wait()
