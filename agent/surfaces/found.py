"""What a retriever of another framework tells of a hit, beside its text: where it stands and why it was found.

Shared by llama_index and langchain, so that both tell the same. Plain JSON values only. Tested in
tests/surfaces/test_llama_index.py and test_langchain.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from branchwise.stores.records import Hit, Scalar, SearchResult

WHY = "branchwise"
"""The metadata key under which all of it lies: one key, so that it never hides one of the user's."""


def why_found(hit: Hit, result: SearchResult) -> dict[str, Any]:
    """Ids, span, rank, path with scores, the judge's reason, and how the search that found it ended."""
    return {
        "passage_id": hit.passage.passage_id,
        "doc_id": hit.passage.doc_id,
        "start": hit.passage.start,
        "end": hit.passage.end,
        "page": hit.passage.page,
        "rank": hit.rank,
        "score": hit.score,
        "node_id": hit.node_id,
        "path": [asdict(step) for step in hit.steps],
        "reason": hit.reason,
        "judged": hit.judged,
        "judge": result.judge,
        "stopped": result.stopped,
        "partial": result.partial,
        "notes": list(result.notes),
    }


def scalar_metadata(metadata: Mapping[str, Any]) -> dict[str, Scalar]:
    """Metadata of another framework as an index keeps it: what is nested becomes JSON, what is None goes."""
    return {
        str(key): value if isinstance(value, str | int | float | bool) else json.dumps(value, default=str)
        for key, value in metadata.items()
        if value is not None and key != WHY
    }
