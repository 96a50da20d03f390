"""A picture of one search, drawn from its trace: one HTML file with every step, to look at without model or network.

It shows the branches opened, each node's own, calibrated and path score with the judge's reason, what was not opened
and why, and, where the relevant passages are known, what became of each of them. Made of events alone; the index adds
titles, texts and the ways to passages that the search never saw. Tested in tests/surfaces/terminal/test_trace_view.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from branchwise.agent.surfaces.pages import fill_page
from branchwise.agent.surfaces.tree_view import plain
from branchwise.stores.errors import InputError
from branchwise.stores.records import Event

if TYPE_CHECKING:
    from branchwise.stores.index import Index

EXCERPT = 400  # characters of a node's text in the picture
STOPPED = {
    "decided": "no further call was expected to change the ranking",
    "budget": "a limit was reached",
    "exhausted": "every passage in sight was read",
}


@dataclass(slots=True)
class Told:
    """What the events of one search say, put together."""

    question: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    by_slate: dict[int, dict[str, Any]] = field(default_factory=dict)
    ranking: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[str] = field(default_factory=list)
    stopped: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def asked(self) -> dict[str, int]:
        """Node id to the first step in which it was a candidate."""
        first: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            for node_id in step["candidates"]:
                first.setdefault(node_id, number)
        return first

    def opened(self) -> dict[str, int]:
        """Node id to the step that opened it."""
        first: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            if step["parent"] is not None:
                first.setdefault(step["parent"], number)
        return first


def draw_search(events: Iterable[Event], index: Index, *, gold: Collection[str] = (), title: str = "") -> str:
    """The HTML page of one search; `gold` are passage or document ids that are known to be relevant."""
    told = read_events(events)
    tree = index.tree
    if stranger := next((node for step in told.steps for node in step["candidates"] if node not in tree), None):
        raise InputError(
            f"This is no search of {index.path}: it has no node {stranger!r}.", hint="Give its own --index."
        )
    relevant = gold_leaves(index, gold)
    hits = {hit["node_id"]: rank for rank, hit in enumerate(told.ranking, 1)}
    named = [*told.seeds, *hits, *relevant]
    for step in told.steps:
        named.extend([*step["candidates"], *step["anchors"], *([step["parent"]] if step["parent"] else [])])
    known = [node_id for node_id in dict.fromkeys(named) if node_id in tree]
    shown = list(dict.fromkeys(step for node_id in known for step in tree.path_to(node_id)))
    texts = index.texts(shown)
    opened, asked = told.opened(), told.asked()
    nodes = {
        node_id: {
            "title": plain(tree.node(node_id).title) or plain(texts[node_id][:80]),
            "text": texts[node_id][:EXCERPT] + (" …" if len(texts[node_id]) > EXCERPT else ""),
            "passage": tree.node(node_id).passage_id,
            "leaves": len(tree.leaf_rows(node_id)),
            "parent": (tree.parents(node_id) or (None,))[0],
            "opened": opened.get(node_id),
            "asked": asked.get(node_id),
            "rank": hits.get(node_id),
            "seed": node_id in told.seeds,
            "gold": node_id in relevant,
        }
        for node_id in shown
    }
    question = str(told.question.get("text", ""))
    stopped = str(told.stopped.get("reason", ""))
    data = {
        "title": title or question or "Search",
        "question": question,
        "judges": sorted({step["judge"] for step in told.steps if step["judge"]}),
        "stopped": STOPPED.get(stopped, stopped),
        "partial": bool(told.stopped.get("partial")),
        "notes": told.notes,
        "root": tree.root_id,
        "steps": told.steps,
        "nodes": nodes,
        "ranking": [hit for hit in told.ranking if hit["node_id"] in nodes],
        "gold": [fate(index, told, leaf, hits.get(leaf)) for leaf in relevant],
        "hidden": _hidden(index, told, set(shown)),
    }
    return fill_page("trace", title=str(data["title"]), data=data)


def read_events(events: Iterable[Event]) -> Told:
    """Put the events of one search together; events of other kinds are passed over."""
    told = Told()
    for event in events:
        payload = dict(event.payload)
        match event.kind:
            case "question":
                told.question = payload
            case "seeds":
                told.seeds = [leaf["node_id"] if isinstance(leaf, dict) else leaf for leaf in payload.get("leaves", ())]
            case "slate":
                step = {**payload, "scores": {}, "reasons": {}, "judge": "", "weak": False, "nodes": {}, "done": False}
                told.by_slate[payload["slate"]] = step
                told.steps.append(step)
            case "judged":
                step = told.by_slate[payload["slate"]]
                step.update(
                    {name: payload[name] for name in ("scores", "reasons", "judge", "weak", "usage")}, done=True
                )
            case "calibrated":
                done = [step for step in told.steps if step["done"]]
                if done:
                    done[-1]["nodes"] |= payload["nodes"]  # an event tells only what has changed
            case "hits":
                told.ranking = list(payload["hits"])
            case "stopped":
                told.stopped = payload
                told.notes = [str(note) for note in payload.get("notes", ())]
    return told


def gold_leaves(index: Index, gold: Collection[str]) -> list[str]:
    """The leaves in which the passages or documents of `gold` stand, in row order."""
    if not gold:
        return []
    wanted = set(gold)
    found = []
    for passage in index.iter_passages():
        places = {passage.passage_id, passage.doc_id}
        places.update(place for origin in passage.duplicates for place in (origin.passage_id, origin.doc_id))
        if wanted & places:
            found.append(f"p:{passage.passage_id}")
    return [leaf for leaf in found if leaf in index.tree]


def fate(index: Index, told: Told, leaf: str, rank: int | None) -> dict[str, Any]:
    """What became of one relevant passage: found, judged low, or lost at which node."""
    opened, asked = told.opened(), told.asked()
    if leaf in asked:
        said = f"ranked {rank}" if rank else "judged, and ranked below the hits"
        return {"node_id": leaf, "rank": rank, "lost_at": None, "why": said}
    if rank:
        return {"node_id": leaf, "rank": rank, "lost_at": None, "why": f"ranked {rank} without having been judged"}
    for node_id in index.tree.path_to(leaf)[:-1]:
        if node_id not in opened:
            why = "judged, but not opened" if node_id in asked else "never shown to the judge"
            return {"node_id": leaf, "rank": None, "lost_at": node_id, "why": why}
    return {"node_id": leaf, "rank": None, "lost_at": None, "why": "its cluster was opened, but it was not shown"}


def _hidden(index: Index, told: Told, shown: Collection[str]) -> dict[str, int]:
    """For each opened node, how many of its children the search never showed to the judge: filtered, or left out."""
    children: Sequence[tuple[str, int]] = [
        (node_id, sum(child not in shown for child in index.tree.children(node_id)))
        for node_id in told.opened()
        if node_id in index.tree
    ]
    return {node_id: number for node_id, number in children if number}
