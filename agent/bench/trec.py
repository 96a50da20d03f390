"""TREC's plain files: topics, qrels and runs, read with file and line in every complaint, written byte for byte alike.

Knows nothing of metrics or methods. Tested in tests/bench/test_trec.py.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from branchwise.stores.errors import InputError

Scored = Mapping[str, Sequence[tuple[str, float]]]
"""Document id and score by query id, best first."""


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file (or its .gz) that are not empty, with their number from 1."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as lines
        ):
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and document: four columns (query, 0, document, grade), or BEIR's three with its header.

    Raises InputError with file and line on a wrong number of columns, a grade that is no whole number, or a pair that
    is graded twice, differently.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in numbered_lines(path):
        fields = line.split("\t") if "\t" in line else line.split()
        if number == 1 and fields[:2] == ["query-id", "corpus-id"]:
            continue
        if len(fields) not in (3, 4):
            raise InputError(f"{path}:{number}: {len(fields)} columns where qrels have 3 or 4")
        query, document, grade_text = fields[0], fields[-2], fields[-1]
        try:
            grade = int(grade_text)
        except ValueError as error:
            raise InputError(f"{path}:{number}: the grade {grade_text!r} is not a whole number") from error
        if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
            raise InputError(f"{path}:{number}: {document!r} is graded twice for query {query!r}, differently")
    if not qrels:
        raise InputError(f"{path}: holds no judgement")
    return qrels


def read_topics(path: Path) -> dict[str, str]:
    """Query texts by id, from `id<TAB>text` lines or from TREC's <top> records (title and description joined)."""
    head = next((line for _, line in numbered_lines(path)), "")
    topics = _tagged_topics(path) if head.lstrip().lower().startswith("<top") else _tabbed_topics(path)
    if not topics:
        raise InputError(f"{path}: holds no topic")
    return topics


def _tabbed_topics(path: Path) -> dict[str, str]:
    topics: dict[str, str] = {}
    for number, line in numbered_lines(path):
        query, tab, text = line.partition("\t")
        if not tab or not text.strip():
            raise InputError(f"{path}:{number}: a topic is an id, a tab and a text")
        if query in topics:
            raise InputError(f"{path}:{number}: topic {query!r} stands here a second time")
        topics[query] = text.strip()
    return topics


_TAG = re.compile(r"<(/?)(\w+)>")


def _tagged_topics(path: Path) -> dict[str, str]:
    topics: dict[str, str] = {}
    parts: dict[str, list[str]] = {}
    tag, opened_at = "", 0
    for number, line in numbered_lines(path):
        position = 0
        for match in _TAG.finditer(line):
            if tag:
                parts.setdefault(tag, []).append(line[position : match.start()])
            position = match.end()
            closing, name = match.group(1) == "/", match.group(2).lower()
            if name == "top" and not closing:
                parts, tag, opened_at = {}, "", number
            elif name == "top":
                query, text = _topic(parts)
                if not query or not text:
                    raise InputError(f"{path}:{opened_at}: a topic without number or text ends in line {number}")
                if query in topics:
                    raise InputError(f"{path}:{opened_at}: topic {query!r} stands here a second time")
                topics[query], tag = text, ""
            else:
                tag = "" if closing else name
        if tag:
            parts.setdefault(tag, []).append(line[position:])
    return topics


def _topic(parts: Mapping[str, list[str]]) -> tuple[str, str]:
    def joined(tag: str, label: str) -> str:
        return re.sub(rf"^\s*{label}:", "", " ".join(parts.get(tag, []))).strip()

    description = joined("desc", "Description") or joined("description", "Description")
    text = " ".join(part for part in (joined("title", "Topic"), description) if part)
    return joined("num", "Number"), " ".join(text.split())


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Documents with scores by query, best first; equal scores in trec_eval's order, ids falling.

    Raises InputError with file and line on a broken line or a document listed twice for one query.
    """
    run: dict[str, dict[str, float]] = {}
    for number, line in numbered_lines(path):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) != 6:
            raise InputError(
                f"{path}:{number}: {len(fields)} columns where a run has 6 (query Q0 document rank score tag)"
            )
        query, document = fields[0], fields[2]
        try:
            score = float(fields[4])
        except ValueError as error:
            raise InputError(f"{path}:{number}: the score {fields[4]!r} is not a number") from error
        if document in run.setdefault(query, {}):
            raise InputError(f"{path}:{number}: {document!r} stands twice in the run of query {query!r}")
        run[query][document] = score
    return {query: sorted(scores.items(), key=lambda pair: pair[::-1], reverse=True) for query, scores in run.items()}


def write_run(path: Path, run: Scored, *, tag: str) -> None:
    """Write `run` in the six columns of TREC, tab-separated since ids may hold spaces, by one atomic rename.

    Scores are replaced by falling ones where they do not fall, so that a reader that sorts by score and breaks ties
    its own way still sees this order.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="\n") as out:
        for query, ranking in run.items():
            falls = all(a > b for (_, a), (_, b) in pairwise(ranking))
            for place, (document, score) in enumerate(ranking):
                written = score if falls else float(len(ranking) - place)
                out.write(f"{query}\tQ0\t{document}\t{place + 1}\t{written!r}\t{tag}\n")
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
