"""What each prompt is answered with: one type a prompt, lenient in form, strict in meaning.

Numbers as strings, "[3]" for 3, other shapes of the same list are accepted; what cannot be told for sure is None, never
a guess. Whether a reply fits the very call (all items covered, numbers that exist) is for the caller to say, through
the `accept` of Asker.ask. Tested in tests/prompts/test_replies.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

CLIPPED = 5  # points outside 0..100 that are taken for zeal, not for another scale

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE | re.ASCII)
_ITEM = re.compile(r"\s*(?:item|passage|candidate|no\.?|#)?\s*[\[(<#]?\s*(\d{1,6})\s*[\])>.:]?\s*", re.IGNORECASE)


def read_number(value: Any) -> float | None:
    """A finite number out of 85, "85", "85/100", "85 %", "+8.5e1"; None for anything else, NaN and infinities too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    if isinstance(value, str):
        text = re.sub(r"\s*(?:/\s*100|%|points?)\s*$", "", value.strip())
        return read_number(float(text)) if _NUMBER.fullmatch(text) and len(text) < 40 else None
    return None


def read_item(value: Any) -> int:
    """The number of an item out of 3, 3.0, "3", "[3]", "item 3"; 0, which no item has, for anything else."""
    if isinstance(value, str):
        found = _ITEM.fullmatch(value[:40])
        return int(found.group(1)) if found else 0
    number = read_number(value)
    return int(number) if number is not None and number == int(number) and 0 < number < 1e6 else 0


def _read_text(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else "" if value is None else value


def _read_list(value: Any) -> Any:
    if value is None:
        return []
    return [value] if isinstance(value, str | dict) else value


ItemNumber = Annotated[int, BeforeValidator(read_item)]
Line = Annotated[str, BeforeValidator(_read_text)]
Lines = Annotated[list[Line], BeforeValidator(_read_list)]
Number = Annotated[float | None, BeforeValidator(read_number)]


class Reply(BaseModel):
    """Base of all replies. `may_be_cut`: what is left of a reply cut at the token limit is still worth reading."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    may_be_cut: ClassVar[bool] = False


class Level(Reply):
    """Five summaries of passage `number`, from broad to specific."""

    number: ItemNumber
    levels: Lines


class FingerprintReply(Reply):
    """Reply to fingerprint.v1."""

    passages: Annotated[list[Level], BeforeValidator(_read_list)]


class PartLine(Reply):
    """What the signpost says of item `number`."""

    number: ItemNumber
    text: Line


class SummaryReply(Reply):
    """Reply to summarise.v1."""

    parts: Annotated[list[PartLine], BeforeValidator(_read_list)]
    theme: Line
    title: Line


class TopicReply(Reply):
    """One topic; `members` are the numbers of its items."""

    name: Line
    description: Line = ""
    keywords: Lines = []
    members: Annotated[list[ItemNumber], BeforeValidator(_read_list)]


class TopicsReply(Reply):
    """Reply to topics.v1."""

    topics: Annotated[list[TopicReply], BeforeValidator(_read_list)]


class ItemScore(Reply):
    """The score of item `n`, from 0 to 100; None where none could be read."""

    n: ItemNumber
    score: Number = None
    why: Line = ""


class SlateReply(Reply):
    """Reply to judge_inner.v1 and judge_leaf.v1: {"scores": {"1": 73}, "why": [{"n": 1, "text": "..."}]}.

    Accepted too: scores as a list of objects or pairs, or without the outer object; reasons by number.

    `scores` is as the model gave it: scale, doubles and gaps are settled by `settle`.
    """

    may_be_cut: ClassVar[bool] = True
    scores: list[ItemScore]

    @model_validator(mode="before")
    @classmethod
    def _from_any_shape(cls, data: Any) -> Any:
        if isinstance(data, list):
            data = {"scores": data}
        if not isinstance(data, Mapping):
            return data
        reasons = data.get("why") or data.get("reasons")
        scores = data.get("scores", None if "why" in data else data)
        if isinstance(scores, Mapping):
            scores = [{"n": key, **_score_fields(value)} for key, value in scores.items()]
        elif isinstance(scores, list):
            scores = [_score_item(entry) for entry in scores]
        if isinstance(reasons, list):
            reasons = {entry.get("n"): entry.get("text") for entry in reasons if isinstance(entry, Mapping)}
        if isinstance(scores, list) and isinstance(reasons, Mapping):
            why = {read_item(key): text for key, text in reasons.items() if isinstance(text, str)}
            scores = [{**entry, "why": entry.get("why") or why.get(read_item(entry["n"]))} for entry in scores]
        return {"scores": scores}


def _score_fields(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"score": value.get("score"), "why": value.get("why") if isinstance(value.get("why"), str) else ""}
    return {"score": value}


def _score_item(entry: Any) -> dict[str, Any]:
    if isinstance(entry, list | tuple) and len(entry) >= 2:
        return {"n": entry[0], "score": entry[1]}
    if isinstance(entry, Mapping):
        number = next((entry[key] for key in ("n", "number", "item", "id", "index") if key in entry), 0)
        return {"n": number, **_score_fields(entry)}
    return {"n": 0}


class CondenseReply(Reply):
    """Reply to condense.v1."""

    standalone: Line


class RewriteReply(Reply):
    """Reply to rewrite.v1."""

    standalone: Line
    keywords: Lines = []
    sub_questions: Lines = []
    evidence: Line = ""


class Quote(Reply):
    """A literal quote from passage `n`."""

    n: ItemNumber
    quote: Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]


class ReadSentence(Reply):
    """One sentence of the answer with what supports it."""

    text: Line
    citations: Annotated[list[Quote], BeforeValidator(_read_list)] = []


class ReadReply(Reply):
    """Reply to read.v1; `conflicts` are pairs of passage numbers that contradict each other."""

    found: bool
    sentences: Annotated[list[ReadSentence], BeforeValidator(_read_list)] = []
    conflicts: Annotated[list[list[ItemNumber]], BeforeValidator(_read_list)] = []


def settle(reply: SlateReply, count: int) -> tuple[dict[int, float | None], str | None]:
    """Scores in [0, 1] of the items 1 to `count`, None where none can be trusted, and what to complain of, if anything.

    Invented numbers are dropped. An item scored twice differently has no score. Scores in 0..1 with a fraction among
    them are taken for a 0-1 scale; a few such among whole numbers have none; a slate of nothing but 0 and 1 could be
    either scale, so it has no scores. A score a little outside 0..100 is clipped, one far outside is on another scale
    and none. Each of these is a complaint that is worth asking again for.
    """
    given: dict[int, float | None] = {}
    doubled = set()
    for entry in reply.scores:
        real = 1 <= entry.n <= count and entry.score is not None
        if real and given.setdefault(entry.n, entry.score) != entry.score:
            doubled.add(entry.n)
    known = {n: score for n, score in given.items() if score is not None and n not in doubled}
    complaint = None
    if doubled:
        complaint = f"Items {_numbers(doubled)} have two different scores; give every item one."
    if known and all(0 <= score <= 1 for score in known.values()) and max(known.values()) > 0:
        if all(score in (0, 1) for score in known.values()):
            known = {}
            complaint = complaint or "Scores go from 0 to 100, not from 0 to 1."
        else:
            known = {n: 100 * score for n, score in known.items()}
    elif (fractions := {n for n, score in known.items() if 0 < score < 1}) and not any(
        score > 1 and score != int(score) for score in known.values()
    ):
        known = {n: score for n, score in known.items() if n not in fractions}
        complaint = complaint or f"Items {_numbers(fractions)} are scored on another scale; use 0 to 100 for all."
    if outside := {n for n, score in known.items() if not 0 <= score <= 100}:
        complaint = complaint or f"The scores of items {_numbers(outside)} are not between 0 and 100."
        known = {n: score for n, score in known.items() if -CLIPPED <= score <= 100 + CLIPPED}
    if not known:
        complaint = complaint or f"No item from 1 to {count} has a score."
    scores = {n: min(max(known[n], 0.0), 100.0) / 100 if n in known else None for n in range(1, count + 1)}
    return scores, complaint


def _numbers(items: set[int]) -> str:
    return ", ".join(map(str, sorted(items)[:8]))


def slate_schema(count: int, *, reasons: bool) -> dict[str, Any]:
    """JSON schema of a slate's reply: one whole number for each of the items 1 to `count`, so none can be left out."""
    numbers = [str(n) for n in range(1, count + 1)]
    properties: dict[str, Any] = {"scores": _object({n: {"type": "integer"} for n in numbers})}
    if reasons:
        reason = _object({"n": {"type": "integer"}, "text": {"type": "string"}})
        properties["why"] = {"type": "array", "items": reason}
    return _object(properties)


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


@cache
def strict_schema(reply: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of a reply type in the subset that servers enforce: everything required, nothing else allowed."""
    schema = reply.model_json_schema()
    return _strict(schema, schema.get("$defs", {}))


def _strict(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _strict(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "properties" in schema:
        return _object({name: _strict(value, definitions) for name, value in schema["properties"].items()})
    if schema.get("type") == "array":
        return {"type": "array", "items": _strict(schema.get("items", {}), definitions)}
    if "anyOf" in schema:
        return {"type": next(kind["type"] for kind in schema["anyOf"] if kind.get("type") != "null")}
    return {"type": schema["type"]}
