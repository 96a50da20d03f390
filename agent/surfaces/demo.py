"""`branchwise demo`: real text that nobody here wrote, three questions that need more than keywords, every step shown.

The corpus is the documentation inside the installed dependencies. Nothing is prepared but the questions: what is
printed is what the search and the reader did just now. Tested in tests/surfaces/terminal/test_demo.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from branchwise.agent.surfaces.cli.show import cost, draw_answer, scores_of
from branchwise.agent.surfaces.shapes import Json, answer_json, step_json
from branchwise.agent.surfaces.tree_view import count, plain
from branchwise.stores.manifest import MANIFEST
from branchwise.stores.records import Answer, Step

if TYPE_CHECKING:
    from rich.console import RenderableType

    from branchwise.agent.surfaces.cli.terminal import Terminal
    from branchwise.stores.index import Index

TITLE = "Documentation of Python, NetworkX, scikit-learn and SciPy"
QUESTIONS = (
    "Why does a list used as a default argument keep its changes between calls?",
    "My features have very different units; which methods suffer and what should I do?",
    "How do I get a smooth curve out of noisy measurements?",
)
PASSAGES = 5  # hits that the answer is read from


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A node on the path to the best passage: how much was read below it, and below the siblings that stand beside it.

    `closed` are siblings below which nothing was read.
    """

    step: Step
    leaves: int
    read: int
    others: int
    others_leaves: int
    others_read: int
    closed: tuple[str, ...]


def run_demo(terminal: Terminal, path: Path) -> None:
    """Build the demo index at `path`, or use the one that is there, and ask QUESTIONS."""
    from branchwise.agent.engine import Engine
    from branchwise.stores.index import Index

    terminal.say("No LLM was used: embedded judge, extractive reader, no key, no network.", style="bold")
    there = (path / MANIFEST).exists()
    if not there:
        _build(terminal, path)
    asked = []
    with Index.open(path) as index:
        counts = index.manifest.counts
        terminal.say(
            f"{TITLE}: {counts['documents']:,} documents, {counts['passages']:,} passages, "
            f"{counts['inner']:,} inner nodes, {counts['depth']} levels{' (built before)' if there else ''}.",
            style="dim",
        )
        engine = Engine(index)
        for number, question in enumerate(QUESTIONS, 1):
            answer = asyncio.run(engine.ask(question, k=PASSAGES))
            forks = read_forks(index, answer)
            asked.append({**answer_json(answer), "path": [_fork_json(fork) for fork in forks]})
            terminal.say("")
            terminal.say(f"{number}  {question}", style="bold")
            for part in _draw(index, answer, forks):
                terminal.say(part)
    terminal.give({"index": str(path), "built": not there, "counts": dict(counts), "questions": asked})
    terminal.say("")
    terminal.say("What to try next", style="bold")
    for command, purpose in (
        (f'branchwise ask -i {path} "..."', "a question of your own"),
        (f"branchwise chat -i {path}", "a conversation; /why explains an answer"),
        (f"branchwise tree show -i {path}", "the tree that was searched"),
        (f'branchwise search -i {path} --trace steps.html "..."', "a picture of one search"),
        ("branchwise build DOCS -i docs-index", "your own documents"),
        ("branchwise doctor --model NAME --base-url URL", "whether a language model of yours can help"),
    ):
        terminal.say(f"  {command:<64}{purpose}")


def read_forks(index: Index, answer: Answer) -> list[Fork]:
    """The path to the best passage, with what was read on it and beside it; empty where nothing was found."""
    if not answer.search.hits:
        return []
    tree = index.tree
    judged = {
        node_id
        for judgement in answer.search.judgements
        for node_id, score in judgement.scores.items()
        if score is not None and tree.is_leaf(node_id)
    }
    rows = {tree.leaf_row[node_id] for node_id in judged}

    def read(node_id: str) -> int:
        return len(rows.intersection(tree.leaf_rows(node_id).tolist()))

    steps = answer.search.hits[0].steps
    forks = []
    for above, step in pairwise(steps):
        others = [child for child in tree.children(above.node_id) if child != step.node_id]
        forks.append(
            Fork(
                step=step,
                leaves=len(tree.leaf_rows(step.node_id)),
                read=read(step.node_id),
                others=len(others),
                others_leaves=sum(len(tree.leaf_rows(child)) for child in others),
                others_read=sum(map(read, others)),
                closed=tuple(plain(tree.node(child).title) for child in others if not read(child)),
            )
        )
    return forks


def _build(terminal: Terminal, path: Path) -> None:
    from branchwise.agent.surfaces.progress import watch
    from branchwise.tree_builder.build import build
    from branchwise.tree_builder.config import BuildConfig
    from branchwise.tree_builder.corpus_demo import demo_documents

    with watch(terminal.err) as on_event:
        asyncio.run(build(list(demo_documents()), path, BuildConfig(title=TITLE), on_event=on_event))


def _draw(index: Index, answer: Answer, forks: list[Fork]) -> list[RenderableType]:
    """One question: what was read and what stayed closed, the path to the best passage, the answer, what it took."""
    leaves, slates = len(index.tree.leaf_ids), count(len(answer.search.judgements), "slate")
    read = forks[0].read + forks[0].others_read if forks else 0
    shown: list[RenderableType] = [Text(f"Read {read:,} of {leaves:,} passages, in {slates}.", style="dim")]
    if forks:
        shown.append(_draw_forks(forks))
    shown.append(Text(""))
    shown.extend(draw_answer(answer))
    shown.append(Text(cost(answer.usage), style="dim"))
    return shown


def _draw_forks(forks: list[Fork]) -> Tree:
    """The path as a branch of the tree: entered nodes filled, what lies beside them hollow."""
    top = Tree(Text("all documents", style="dim"), guide_style="dim")
    at = top
    for fork in forks:
        leaf = fork is forks[-1]
        line = Text("★ " if leaf else "● ", style="yellow" if leaf else "green", no_wrap=True, overflow="ellipsis")
        line.append(scores_of(fork.step), style="cyan")
        if not leaf:
            line.append(f"{fork.read:,} of {fork.leaves:,} read  ", style="cyan")
        line.append(plain(fork.step.title or fork.step.node_id), style="bold")
        below = at.add(line)
        if fork.others:
            at.add(_beside(fork))
        at = below
    return top


def _beside(fork: Fork) -> Text:
    """What was read beside the path, and which branches stayed closed."""
    said = f"○ {fork.others_read:,} of {fork.others_leaves:,} read  beside it"
    if fork.closed:
        said += f"; closed: {'; '.join(fork.closed)}"
    return Text(said, style="dim", no_wrap=True, overflow="ellipsis")


def _fork_json(fork: Fork) -> Json:
    return {
        **step_json(fork.step),
        "leaves": fork.leaves,
        "read": fork.read,
        "beside": {"leaves": fork.others_leaves, "read": fork.others_read, "closed": list(fork.closed)},
    }
