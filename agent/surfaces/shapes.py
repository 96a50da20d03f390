"""Records as plain JSON: the one shape in which the command line, the server and MCP tell of a search or an answer.

Tested in tests/surfaces/terminal/test_cli.py.
"""

from __future__ import annotations

from typing import Any

from branchwise.stores.records import Answer, Citation, Hit, SearchResult, Step, Usage

Json = dict[str, Any]


def usage_json(usage: Usage) -> Json:
    """What was spent; `cost` is null where no price is known."""
    return {
        "calls": usage.calls,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "seconds": round(usage.seconds, 4),
        "cost": usage.cost,
    }


def step_json(step: Step) -> Json:
    """One node of a hit's path; a score is null where no judge gave one."""
    return {
        "node_id": step.node_id,
        "title": step.title,
        "local": step.local,
        "calibrated": step.calibrated,
        "path": step.path,
    }


def hit_json(hit: Hit) -> Json:
    """One passage found, and why."""
    passage = hit.passage
    return {
        "rank": hit.rank,
        "passage_id": passage.passage_id,
        "doc_id": passage.doc_id,
        "title": passage.title,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "page": passage.page,
        "metadata": dict(passage.metadata),
        "duplicates": [origin.passage_id for origin in passage.duplicates],
        "node_id": hit.node_id,
        "score": hit.score,
        "path": [step_json(step) for step in hit.steps],
        "reason": hit.reason,
        "judged": hit.judged,
        "signals": dict(hit.signals),
    }


def search_json(result: SearchResult) -> Json:
    """A search; nothing found is an empty list of hits, never an error."""
    return {
        "query": result.question.text,
        "found": bool(result.hits),
        "hits": [hit_json(hit) for hit in result.hits],
        "stopped": result.stopped,
        "partial": result.partial,
        "judge": result.judge,
        "slates": len(result.judgements),
        "usage": usage_json(result.usage),
        "notes": list(result.notes),
    }


def citation_json(citation: Citation) -> Json:
    """A quote, checked against `document.text[start:end]`."""
    return {
        "number": citation.number,
        "passage_id": citation.passage_id,
        "doc_id": citation.doc_id,
        "title": citation.title,
        "page": citation.page,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
    }


def answer_json(answer: Answer) -> Json:
    """An answer with its citations, and the search that it rests on under "search"."""
    return {
        "query": answer.question.text,
        "found": answer.found,
        "text": answer.text,
        "citations": [citation_json(citation) for citation in answer.citations],
        "conflicts": [list(pair) for pair in answer.conflicts],
        "reader": answer.reader,
        "judge": answer.search.judge,
        "stopped": answer.search.stopped,
        "partial": answer.search.partial,
        "usage": usage_json(answer.usage),
        "notes": list(answer.notes),
        "search": search_json(answer.search),
    }
