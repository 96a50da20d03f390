"""A stand-in for a language model that really reads the prompts: it finds the items, the query, and answers in form.

It judges by shared words (idf over the slate, stems of five letters), summarises by first sentences and frequent words,
sorts by shared words, quotes literally. Deterministic, so a build with it can be repeated byte for byte. It serves the
loopback server of the tests and the cost measurements of agent.bench; no user's answer ever comes from it. Tested in
tests/prompts/test_stand_in.py.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from branchwise.prompts.testing import FunctionModel

_ITEM = re.compile(r"^<item (\d+)>\n(.*?)\n</item>$", re.MULTILINE | re.DOTALL)
_QUERY = re.compile(r"^<query>\n(.*?)\n</query>$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]?")
_STOP_WORDS = """the a an of and or to in is are was were be been for on with as by at from that this it its which what
who how why when where does do did can could would should not no if then than into about there"""
_STOP = frozenset(_STOP_WORDS.split())


def stand_in_model(*, name: str = "stand-in", context_window: int = 32_768) -> FunctionModel:
    """The stand-in as a ChatModel in this process."""
    return FunctionModel(
        lambda request: answer(request.messages[0].content, request.messages[1].content),
        name=name,
        context_window=context_window,
    )


def answer(system: str, user: str) -> str:
    """The reply, as JSON, to a prompt of ours: which one it is, is told by the form it asks for."""
    items = [(int(number), text) for number, text in _ITEM.findall(user)]
    queries = _QUERY.findall(user)
    query = queries[-1] if queries else ""
    if '"scores"' in system:
        return _judge(items, query, reasons='"why"' in system)
    if '"levels"' in system:
        return json.dumps(
            {"passages": [{"number": n, "levels": _levels(text)} for n, text in items]}, ensure_ascii=False
        )
    if '"theme"' in system:
        return _summarise(items)
    if '"topics"' in system:
        return _sort(items, system)
    if '"citations"' in system:
        return _read(items, query)
    if '"keywords"' in system:
        keywords = [word for word, _ in Counter(_words(query)).most_common(8)]
        evidence = " ".join(keywords)
        return json.dumps(
            {"standalone": _standalone(items, query), "keywords": keywords, "sub_questions": [], "evidence": evidence},
            ensure_ascii=False,
        )
    if '"standalone"' in system:
        return json.dumps({"standalone": _standalone(items, query)}, ensure_ascii=False)
    return "ok"


def _words(text: str) -> list[str]:
    return [word[:6] for word in _WORD.findall(text.casefold()) if word not in _STOP and len(word) > 1]


def _judge(items: Sequence[tuple[int, str]], query: str, *, reasons: bool) -> str:
    texts = {n: Counter(_words(text)) for n, text in items}
    holders = Counter(word for words in texts.values() for word in words)
    weights = {word: math.log(1 + (len(items) + 1) / (holders[word] + 0.5)) for word in set(_words(query))}
    total = sum(weights.values()) or 1.0
    scores = {
        n: round(100 * sum(weight for word, weight in weights.items() if words[word]) / total)
        for n, words in texts.items()
    }
    said: dict[str, Any] = {"scores": {str(n): score for n, score in scores.items()}}
    if reasons:
        said["why"] = [
            {"n": n, "text": "shares " + ", ".join(sorted(word for word in weights if texts[n][word])[:4])}
            for n, score in scores.items()
            if score >= 50
        ]
    return json.dumps(said, ensure_ascii=False)


def _frequent(text: str, count: int) -> list[str]:
    words = [word for word in _WORD.findall(text) if word.casefold() not in _STOP and len(word) > 2]
    return [word for word, _ in Counter(words).most_common(count)] or text.split()[:count] or ["empty"]


def _levels(text: str) -> list[str]:
    frequent = _frequent(text, 10)
    return [" ".join(frequent[:size]) for size in (1, 3, 5, 8)] + [" ".join(text.split()[:20]) or "empty"]


def _summarise(items: Sequence[tuple[int, str]]) -> str:
    parts = []
    for n, text in items:
        first = next((match.group().strip() for match in _SENTENCE.finditer(text) if match.group().strip()), "empty")
        parts.append({"number": n, "text": " ".join(first.split()[:25])})
    everything = "\n".join(text for _, text in items)
    theme = " ".join(_frequent(everything, 40))
    return json.dumps({"parts": parts, "theme": theme, "title": " ".join(_frequent(everything, 4))}, ensure_ascii=False)


def _sort(items: Sequence[tuple[int, str]], system: str) -> str:
    bounds = re.search(r"at least (\d+) and at most (\d+)", system)
    most = int(bounds.group(2)) if bounds else 8
    words = {n: set(_words(text)) for n, text in items}
    common = [word for word, _ in Counter(word for found in words.values() for word in found).most_common(4 * most)]
    members: dict[str, list[int]] = {}
    for word in common[: most - 1]:
        taken = {n for group in members.values() for n in group}
        group = [n for n in words if word in words[n] and n not in taken]
        if group:
            members[word] = group
    rest = [n for n in words if n not in {n for group in members.values() for n in group}]
    if rest:
        members["other"] = rest
    topics = [
        {"name": word, "description": f"Everything on {word}", "keywords": [word], "members": group}
        for word, group in members.items()
    ]
    return json.dumps({"topics": topics}, ensure_ascii=False)


def _read(items: Sequence[tuple[int, str]], query: str) -> str:
    wanted = set(_words(query))
    sentences = []
    for n, text in items:
        for match in _SENTENCE.finditer(text):
            quote = " ".join(match.group().split(" ")[:40]).strip()
            shared = len(wanted & set(_words(quote)))
            if quote and shared:
                sentences.append((-shared, n, quote))
    best = sorted(sentences)[:2]
    said = [{"text": quote, "citations": [{"n": n, "quote": quote}]} for _, n, quote in best]
    return json.dumps({"found": bool(said), "sentences": said, "conflicts": []}, ensure_ascii=False)


def _standalone(items: Sequence[tuple[int, str]], query: str) -> str:
    if not items:
        return query
    known = set(_words(query))
    context = [word for _, text in items[-2:] for word in _frequent(text, 4) if word[:6].casefold() not in known]
    return f"{query} ({' '.join(dict.fromkeys(context))})" if context else query
