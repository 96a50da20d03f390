"""What a build or a search does, while it does it: bars on a terminal, sparse lines elsewhere. Drawn from events alone.

Writes to stderr only. Tested in tests/surfaces/terminal/test_views.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from branchwise.agent.surfaces.tree_view import plain
from branchwise.stores.records import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from branchwise.stores.tree import SemanticTree

OnEvent = Callable[[Event], None]

STAGES = {
    "source": "Reading documents",
    "chunked": "Cutting passages",
    "embedded": "Embedding passages",
    "fingerprint": "Describing passages",
    "topics": "Naming topics",
    "node": "Writing the tree",
    "stored": "Storing",
}
NEXT = {"chunked": "embedded", "embedded": "node", "node": "stored"}
"""What is being worked on once a stage is done: it may take a while until it is first heard of."""
EVERY = 10.0  # seconds between two lines of a stage, where nobody watches a bar


@contextmanager
def watch(console: Console) -> Iterator[OnEvent]:
    """A listener for the events of a build, drawing on `console`."""
    if not console.is_terminal:
        yield Lines(console)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(bars)


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A listener for work that tells how much more of `total` is done."""
    done = 0
    with watch(console) as listen:

        def progress(more: int) -> None:
            nonlocal done
            done += more
            listen(Event(seq=done, kind="stored", payload={"done": done, "total": total}))

        yield progress
    if not done:
        console.print(f"{what}: nothing to do.")


class Bars:
    """One bar a stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Move the bar of the event's stage; when it is full, the next stage begins to wait."""
        if (warning := warning_line(event)) is not None:
            self._bars.console.print(warning, style="yellow")
        if event.kind not in STAGES:
            return
        done, total = event.payload.get("done", 0), event.payload.get("total")
        if event.kind == "chunked" and "source" in self._tasks:  # only now is it known how many there were
            read = self._bars.tasks[self._tasks["source"]].completed
            self._bars.update(self._tasks["source"], total=read)
        self._bars.update(self._task(event.kind), completed=done, total=total)
        if done == total and event.kind in NEXT:
            self._task(NEXT[event.kind])

    def _task(self, kind: str) -> TaskID:
        if kind not in self._tasks:
            self._tasks[kind] = self._bars.add_task(STAGES[kind], total=None)
        return self._tasks[kind]


class Lines:
    """A line when a stage begins, at its end, and now and then in between."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._told: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Tell the event, where it is time to."""
        if (warning := warning_line(event)) is not None:
            self._console.print(warning)
        if (stage := STAGES.get(event.kind)) is None:
            return
        done, total = event.payload.get("done"), event.payload.get("total")
        now = self._clock()
        last = self._told.get(event.kind)
        if (total and done == total) or (last is not None and now - last >= EVERY):
            self._told[event.kind] = now
            self._console.print(f"{stage}: {done:,}{f' of {total:,}' if total else ''}")
        elif last is None:
            self._told[event.kind] = now


def warning_line(event: Event) -> str | None:
    """What the user should know at once: a file that was skipped, a fallback."""
    match event.kind:
        case "skipped":
            return f"Skipped {plain(str(event.payload['where']))}: {plain(str(event.payload['why']))}"
        case "note":
            return plain(str(event.payload["text"]))
    return None


def step_line(event: Event, tree: SemanticTree) -> str | None:
    """One step of a search as a line: what is opened, what was heard; None for steps that say nothing to a reader."""
    payload = event.payload

    def name(node_id: str) -> str:
        return plain(tree.node(node_id).title) or node_id if node_id in tree else node_id

    match event.kind:
        case "seeds":
            return f"seeds: {len(payload['leaves'])} passages from BM25 and vectors"
        case "slate":
            what = f"open {name(payload['parent'])}" if payload["parent"] else "side by side"
            shown = len(payload["candidates"])
            return (
                f"{payload['slate'] + 1:>3}  {what}: {shown} {'passages' if payload['kind'] == 'leaf' else 'branches'}"
            )
        case "judged":
            scored = [(score, node_id) for node_id, score in payload["scores"].items() if score is not None]
            best = max(scored, default=None)
            return f"     best {best[0]:.2f}  {name(best[1])}" if best else "     no score"
        case "stopped":
            return f"stopped: {payload['reason']}"
    return None
