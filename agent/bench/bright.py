"""BRIGHT (Su et al., arXiv:2407.12883) as it lies on its hub: documents, examples, gold and excluded ids, 12 subsets.

Reads a download of the hub (documents/<subset>*.parquet or .jsonl, examples/..., long_documents/...), or fetches it by
the `datasets` library where there is a network. What counts as relevant is said per subset, in our words. Document ids
spell out the topic and are never shown to a model. Tested in tests/bench/test_bright.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from branchwise.agent.bench.datasets import Dataset, Query, check_dataset, json_lines
from branchwise.stores.errors import InputError
from branchwise.stores.records import Document

HUB = "xlangai/BRIGHT"

_POST = (
    "The query is a post from a question-and-answer site on {field}. A passage is relevant if it explains a {what} "
    "that a good answer to the post would rest on or cite. Sharing words or the topic with the post is not enough."
)
_PROBLEM = (
    "The query is a problem. A passage is relevant if it is a solved problem whose solution uses {what} that solves "
    "the query. A problem that only looks alike, by its story or its numbers, is not relevant."
)

RELEVANCE: Mapping[str, str] = {
    "biology": _POST.format(field="biology", what="mechanism, concept or finding"),
    "earth_science": _POST.format(field="earth science", what="process, concept or measurement"),
    "economics": _POST.format(field="economics", what="theory, model or piece of evidence"),
    "psychology": _POST.format(field="psychology", what="theory, effect or study"),
    "robotics": _POST.format(field="robotics software", what="component, interface, setting or known fault"),
    "stackoverflow": _POST.format(field="programming", what="function, option, syntax rule or behaviour"),
    "sustainable_living": _POST.format(field="sustainable living", what="fact, process or piece of evidence"),
    "leetcode": _PROBLEM.format(what="the same algorithm or data structure"),
    "aops": _PROBLEM.format(what="the same theorem or technique"),
    "theoremqa_questions": _PROBLEM.format(what="the same theorem"),
    "theoremqa_theorems": (
        "The query is a problem. A passage is relevant if it states a theorem or definition that the problem's "
        "solution applies. A theorem of the same field that the solution does not need is not relevant."
    ),
    "pony": (
        "The query asks for a program in Pony, a rare programming language. A passage is relevant if it is the part of "
        "the manual that explains syntax or a feature which the program has to use."
    ),
}
SUBSETS = tuple(RELEVANCE)


def read_bright(folder: Path, subset: str, *, long: bool = False) -> Dataset:
    """Read `subset` from a download of the hub; `long` takes whole web pages as the unit. Raises InputError.

    A missing `documents` file is allowed (an index then brings the documents); missing examples are not.
    """
    _known(subset)
    examples_path = _rows_file(folder / "examples", subset)
    if examples_path is None:
        raise InputError(f"{folder / 'examples'}: no {subset}*.parquet or {subset}*.jsonl", hint=f"subsets: {SUBSETS}")
    documents_path = _rows_file(folder / ("long_documents" if long else "documents"), subset)
    documents = () if documents_path is None else tuple(_documents(_rows(documents_path)))
    return _dataset(subset, _rows(examples_path), documents, long=long)


def fetch_bright(subset: str, *, long: bool = False) -> Dataset:
    """Fetch `subset` from the hub by the `datasets` library. Raises InputError where the library is not installed."""
    _known(subset)
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            "fetching BRIGHT needs the datasets library", hint=f"pip install datasets, or download {HUB} to a folder"
        ) from error
    kind = "long_documents" if long else "documents"
    documents = _documents((f"{HUB}/{kind}", row) for row in load_dataset(HUB, kind, split=subset))
    examples = ((f"{HUB}/examples", row) for row in load_dataset(HUB, "examples", split=subset))
    return _dataset(subset, examples, tuple(documents), long=long)


def _dataset(
    subset: str,
    examples: Iterable[tuple[str, Mapping[str, Any]]],
    documents: tuple[Document, ...],
    *,
    long: bool,
) -> Dataset:
    queries, qrels = [], {}
    for where, row in examples:
        query_id, text = str(row.get("id", "")), row.get("query")
        if not query_id or not isinstance(text, str):
            raise InputError(f"{where}: an example needs id and query")
        if query_id in qrels:
            raise InputError(f"{where}: example {query_id!r} stands here a second time")
        excluded = frozenset(_ids(row, "excluded_ids", where)) - {"N/A"}
        queries.append(Query(query_id=query_id, text=text, excluded_ids=excluded))
        qrels[query_id] = dict.fromkeys(_ids(row, "gold_ids_long" if long else "gold_ids", where), 1)
    name = f"bright-{subset}" + ("-long" if long else "")
    dataset = Dataset(name=name, queries=tuple(queries), qrels=qrels, documents=documents, relevance=RELEVANCE[subset])
    return check_dataset(dataset)


def _documents(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Document]:
    seen: set[str] = set()
    for where, row in rows:
        doc_id, text = str(row.get("id", "")), row.get("content")
        if not doc_id or not isinstance(text, str):
            raise InputError(f"{where}: a document needs id and content")
        if doc_id in seen:
            raise InputError(f"{where}: document {doc_id!r} stands here a second time")
        seen.add(doc_id)
        yield Document(doc_id=doc_id, text=text, source=where)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a parquet or .jsonl file, each with "file:line" ("file:row" from 1 in parquet)."""
    if path.suffix == ".jsonl":
        for number, row in json_lines(path):
            yield f"{path}:{number}", row
        return
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(f"reading {path.name} needs pyarrow", hint="pip install 'branchwise[bench]'") from error
    number = 0
    for batch in parquet.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield f"{path}:{number}", row


def _rows_file(folder: Path, subset: str) -> Path | None:
    found = sorted(path for kind in ("parquet", "jsonl") for path in folder.glob(f"{subset}*.{kind}"))
    exact = [path for path in found if path.stem == subset or path.stem.startswith(f"{subset}-")]
    if len(exact) > 1:
        raise InputError(f"{folder}: {len(exact)} files for {subset!r}, one is needed", hint=", ".join(map(str, exact)))
    return exact[0] if exact else None


def _ids(row: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = row.get(key)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InputError(f"{where}: {key} is not a list of ids")
    return found


def _known(subset: str) -> None:
    if subset not in RELEVANCE:
        raise InputError(f"BRIGHT has no subset {subset!r}", hint=f"subsets: {', '.join(SUBSETS)}")
