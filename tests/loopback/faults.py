"""Every way that a model server is known to fail: HTTP errors, broken connections, wrong bodies, bad replies.

Each fault answers one call in the server's stead. `FAULTS` names them all; `kind` says what the client may do about
one: "again" (trying again helps once the fault is over), "refused" (it never will), "reply" (the model's fault),
"fine" (odd, but usable as it is).
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.loopback.server import Call, Fault, Reply


@dataclass(frozen=True)
class Kind:
    """A fault and what is to be expected of it."""

    name: str
    fault: Fault
    kind: Literal["again", "refused", "reply", "fine"]


FAULTS: dict[str, Kind] = {}
SCORE_FAULTS: set[str] = set()
"""Faults of a judge's scores; in other replies they change the numbers of items, which only the caller can check."""


def fault(kind: Literal["again", "refused", "reply", "fine"]) -> Callable[[Fault], Fault]:
    """Register a fault under its function's name."""

    def register(function: Any) -> Any:
        FAULTS[function.__name__] = Kind(function.__name__, function, kind)
        return function

    return register


def status(code: int, kind: Literal["again", "refused"], name: str = "", **headers: str) -> None:
    """Register an HTTP status as a fault."""

    async def send(reply: Reply, said: str) -> None:
        await reply.error(code, f"injected {code}", **headers)

    label = name or f"status_{code}"
    FAULTS[label] = Kind(label, send, kind)


for code in (400, 401, 403, 404, 422):
    status(code, "refused")
for code in (408, 409, 429, 500, 502, 503, 504):
    status(code, "again")
status(429, "again", "status_429_retry_after", retry_after="0.05")
status(429, "again", "status_429_retry_after_ms", retry_after_ms="20")
status(429, "again", "status_429_retry_after_date", retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
status(429, "again", "status_429_retry_after_absurd", retry_after="99999999999")
status(429, "again", "status_429_retry_after_negative", retry_after="-5")
status(429, "again", "status_429_retry_after_words", retry_after="soon")
status(503, "again", "status_503_retry_after", retry_after="0.05")


@fault("refused")
async def quota(reply: Reply, said: str) -> None:
    """429, but the money is gone."""
    await reply.error(
        429, "You exceeded your current quota, please check your plan and billing.", code="insufficient_quota"
    )


@fault("again")
async def error_page(reply: Reply, said: str) -> None:
    """A proxy's 502 page."""
    await reply.send(502, "<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")


@fault("again")
async def reset(reply: Reply, said: str) -> None:
    """The connection is reset before an answer."""
    reply.reset()


@fault("again")
async def closed(reply: Reply, said: str) -> None:
    """The connection is closed without a word."""
    reply.writer.close()


@fault("again")
async def half_body(reply: Reply, said: str) -> None:
    """Half of the announced body, then the end."""
    data = json.dumps(reply.body(said)).encode()
    reply.writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data))
    reply.writer.write(data[: len(data) // 2])
    await reply.writer.drain()
    reply.writer.close()


@fault("again")
async def slow_drip(reply: Reply, said: str) -> None:
    """A byte now and then: each arrives in time, the whole never does."""
    data = json.dumps(reply.body(said)).encode()
    reply.writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data))
    for byte in data:
        reply.writer.write(bytes([byte]))
        await reply.writer.drain()
        await asyncio.sleep(0.1)


@fault("again")
async def hang(reply: Reply, said: str) -> None:
    """No answer at all."""
    await asyncio.sleep(3_600)


@fault("again")
async def not_http(reply: Reply, said: str) -> None:
    """Something else listens on that port."""
    reply.writer.write(b"220 mail.example ESMTP\r\n")
    await reply.writer.drain()
    reply.writer.close()


@fault("again")
async def wrong_content_type(reply: Reply, said: str) -> None:
    """A right body that calls itself plain text."""
    await reply.send(200, json.dumps(reply.body(said)), content_type="text/plain")


@fault("again")
async def html_with_200(reply: Reply, said: str) -> None:
    """A login page."""
    await reply.send(200, "<html><body>Please log in</body></html>", content_type="text/html")


@fault("refused")
async def redirect(reply: Reply, said: str) -> None:
    """Elsewhere, with the key."""
    await reply.send(307, "", location="http://127.0.0.2:9/v1/chat/completions")


@fault("again")
async def broken_json_body(reply: Reply, said: str) -> None:
    """JSON that is none, with the right length."""
    await reply.send(200, json.dumps(reply.body(said))[:-20])


@fault("again")
async def other_json_body(reply: Reply, said: str) -> None:
    """JSON of another kind."""
    await reply.send(200, {"result": said})


@fault("again")
async def list_body(reply: Reply, said: str) -> None:
    """A list where an object should be."""
    await reply.send(200, json.dumps([reply.body(said)]))


@fault("again")
async def empty_body(reply: Reply, said: str) -> None:
    """200 and nothing."""
    await reply.send(200, "")


@fault("again")
async def error_with_200(reply: Reply, said: str) -> None:
    """An error in the body of a 200, as gateways send it."""
    await reply.send(200, {"error": {"message": "upstream overloaded", "code": 502}})


@fault("again")
async def empty_choices(reply: Reply, said: str) -> None:
    """No choices."""
    await reply.completion(said, choices=[])


@fault("again")
async def null_choices(reply: Reply, said: str) -> None:
    """Choices is null."""
    await reply.completion(said, choices=None)


@fault("reply")
async def null_content(reply: Reply, said: str) -> None:
    """A message without content."""
    await reply.completion(None)


@fault("reply")
async def null_message(reply: Reply, said: str) -> None:
    """A choice without message."""
    await reply.completion(said, choices=[{"index": 0, "finish_reason": "stop", "message": None}])


@fault("reply")
async def tool_call(reply: Reply, said: str) -> None:
    """The model calls a tool that nobody offered."""
    call = {"id": "1", "type": "function", "function": {"name": "score", "arguments": "{}"}}
    await reply.send(200, reply.body(None, finish="tool_calls", tool_calls=[call]))


@fault("reply")
async def refusal(reply: Reply, said: str) -> None:
    """The model declines."""
    await reply.send(200, reply.body(None, refusal="I cannot help with that."))


@fault("reply")
async def refusal_in_words(reply: Reply, said: str) -> None:
    """The model declines in its content."""
    await reply.completion("I'm sorry, but I cannot assist with that request.")


@fault("reply")
async def content_filter(reply: Reply, said: str) -> None:
    """The filter stopped the reply in the middle."""
    await reply.completion(said[: len(said) // 2], finish="content_filter")


@fault("reply")
async def length_cut(reply: Reply, said: str) -> None:
    """The reply reached its limit of tokens in the middle of a number."""
    numbers = [match.end() for match in re.finditer(r"\d", said)]
    await reply.completion(said[: numbers[len(numbers) // 2] if numbers else 3], finish="length")


@fault("reply")
async def cut_without_saying(reply: Reply, said: str) -> None:
    """The same, with finish_reason stop."""
    await reply.completion(said[: len(said) // 2])


@fault("reply")
async def garbage(reply: Reply, said: str) -> None:
    """Letters."""
    letters = random.Random(reply.call.number)
    await reply.completion("".join(letters.choice('abc {}[]",:0189\n') for _ in range(400)))


@fault("reply")
async def empty_content(reply: Reply, said: str) -> None:
    """An empty string."""
    await reply.completion("")


@fault("reply")
async def other_json_reply(reply: Reply, said: str) -> None:
    """Valid JSON that answers another question."""
    await reply.completion('{"answer": 42, "ok": true}')


@fault("reply")
async def json_null(reply: Reply, said: str) -> None:
    """null."""
    await reply.completion("null")


@fault("reply")
async def brackets(reply: Reply, said: str) -> None:
    """100,000 brackets."""
    await reply.completion("[" * 100_000)


@fault("reply")
async def megabyte(reply: Reply, said: str) -> None:
    """1 MB of text."""
    await reply.completion("lorem ipsum " * 87_000)


@fault("reply")
async def two_answers(reply: Reply, said: str) -> None:
    """One answer, then another."""
    await reply.completion(said + "\nNo, wait:\n" + re.sub(r": (\d+)", lambda m: f": {int(m[1]) + 1}", said))


@fault("fine")
async def fences(reply: Reply, said: str) -> None:
    """Markdown."""
    await reply.completion(f"```json\n{said}\n```")


@fault("fine")
async def prose_around(reply: Reply, said: str) -> None:
    """Politeness."""
    await reply.completion(f"Sure! Here is the JSON you asked for:\n\n{said}\n\nLet me know if you need more.")


@fault("fine")
async def think(reply: Reply, said: str) -> None:
    """A reasoning model thinks aloud, with braces."""
    await reply.completion(f'<think>Item {{1}} could be {{"scores": {{"1": 3}}}}...\n</think>\n\n{said}')


@fault("fine")
async def other_model(reply: Reply, said: str) -> None:
    """Another model answers."""
    await reply.completion(said, model="somebody-else-7b")


@fault("fine")
async def no_usage(reply: Reply, said: str) -> None:
    """The server does not count tokens."""
    await reply.completion(said, usage=None)


@fault("fine")
async def extra_fields(reply: Reply, said: str) -> None:
    """Fields that nobody knows."""
    await reply.completion(said, provider={"x": [1, 2]}, service_tier="auto", system_fingerprint=7)


def change_scores(change: Callable[[dict[str, Any]], Any], name: str, kind: Literal["reply", "fine"]) -> None:
    """Register a fault that changes the scores of a judge's reply; other replies get their numbers changed."""

    async def send(reply: Reply, said: str) -> None:
        data = json.loads(said)
        if "scores" in data:
            data["scores"] = change(data["scores"])
        elif "parts" in data:
            data["parts"] = [
                {**part, "number": number}
                for part, number in zip(data["parts"], _numbers(change, data["parts"]), strict=False)
            ]
        elif "sentences" in data:
            for sentence in data["sentences"]:
                for quote in sentence["citations"]:
                    quote["n"] = _numbers(change, [quote])[0]
        text = json.dumps(data).replace('"@NaN"', "NaN").replace('"@Inf"', "Infinity")
        await reply.completion(text)

    FAULTS[name] = Kind(name, send, kind)
    SCORE_FAULTS.add(name)


def _numbers(change: Callable[[dict[str, Any]], Any], entries: list[Any]) -> list[Any]:
    """What the change makes of the item numbers 1, 2, ... when they are taken for scores."""
    changed = change({str(n): n for n in range(1, len(entries) + 1)})
    if isinstance(changed, list):
        return [entry["n"] if isinstance(entry, dict) else entry[0] for entry in changed]
    return [([*list(changed.values()), 0])[min(i, len(changed))] for i in range(len(entries))]


change_scores(lambda s: {f"{int(n) + 500}": v for n, v in s.items()}, "wrong_ids", "reply")
change_scores(lambda s: {**s, "9999": 100, "abc": 100, "p:doc": 100}, "invented_ids", "fine")
change_scores(
    lambda s: (
        [{"n": n, "score": v} for n, v in s.items()] + [{"n": n, "score": 100 - v} for n, v in list(s.items())[:1]]
    ),
    "doubled_ids",
    "reply",
)
change_scores(lambda s: dict(list(s.items())[1:]), "missing_ids", "reply")
change_scores(lambda s: {n: -v - 1 for n, v in s.items()}, "negative", "reply")
change_scores(lambda s: {n: v + 0.5 if v < 100 else v for n, v in s.items()}, "floats", "fine")
change_scores(lambda s: {n: str(v) for n, v in s.items()}, "strings", "fine")
change_scores(lambda s: {n: f"{v}/100" for n, v in s.items()}, "out_of_hundred", "fine")
change_scores(lambda s: dict.fromkeys(s, "high"), "words", "reply")
change_scores(lambda s: dict.fromkeys(s, "@NaN"), "nan", "reply")
change_scores(lambda s: dict.fromkeys(s, "@Inf"), "infinity", "reply")
change_scores(lambda s: dict.fromkeys(s), "nulls", "reply")
change_scores(lambda s: dict.fromkeys(s, True), "booleans", "reply")
change_scores(lambda s: dict.fromkeys(s, 150), "a_hundred_and_fifty", "reply")
change_scores(lambda s: {n: v / 100 for n, v in s.items()}, "unit_scale", "fine")
change_scores(lambda s: {n: int(v == max(s.values())) for n, v in s.items()}, "zeros_and_ones", "reply")
change_scores(lambda s: dict.fromkeys(s, 10**400), "huge", "reply")
change_scores(lambda s: [{"n": n, "score": v} for n, v in s.items()], "list_of_objects", "fine")
change_scores(lambda s: [[int(n), v] for n, v in s.items()], "list_of_pairs", "fine")
change_scores(lambda s: {}, "no_scores", "reply")


def always(name: str) -> Callable[[Call], Fault | None]:
    """Every call fails in this way."""
    return lambda call: FAULTS[name].fault


def first(name: str, count: int = 1) -> Callable[[Call], Fault | None]:
    """The first `count` calls fail in this way."""
    return lambda call: FAULTS[name].fault if call.number < count else None


def at_random(share: float, names: list[str], *, seed: int = 0) -> Callable[[Call], Fault | None]:
    """A share of the calls fails, each in one of these ways."""
    draw = random.Random(seed)

    def choose(call: Call) -> Fault | None:
        return FAULTS[draw.choice(names)].fault if draw.random() < share else None

    return choose
