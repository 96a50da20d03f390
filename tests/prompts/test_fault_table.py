"""Whole builds, searches and answers against a failing server: no crash, no hang, nothing silently wrong.

`python -m pytest tests/prompts/test_fault_table.py -m slow -s` prints the table of every fault at every stage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from branchwise.agent.engine import Engine
from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.limits import Limits
from branchwise.prompts.openai_chat import OpenAIChat
from branchwise.stores.errors import ModelError, ModelUnavailable
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Document
from branchwise.tree_builder.build import BuildConfig, build
from tests.loopback.faults import FAULTS, SCORE_FAULTS, always, at_random
from tests.loopback.server import LoopbackServer, run_server

TOPICS = ["yeast bread flour oven gas", "moon tides ocean gravity pull", "violin string bow sound wood"]
DOCUMENTS = [
    Document(
        doc_id=f"d{n}", title=f"Note {n}", text=f"Fact {n} on {TOPICS[n % 3]}. It has detail{n} and number{n % 7}."
    )
    for n in range(60)
]
QUESTION = "Why does bread rise in the oven with yeast and gas?"
LIMITS = Limits(attempts=3, first_wait=0.01, patience=2.0, timeout=10.0, concurrency=8)
CONFIG = BuildConfig(duplicate_similarity=1.0)
DEADLINE = 6.0  # seconds for one build, search or answer with a fault at every call
PASSING = sorted(
    name for name, fault in FAULTS.items() if fault.kind == "again" and name not in {"hang", "slow_drip"}
    and "absurd" not in name
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    """One server for all; each test sets its own fault."""
    with run_server() as running:
        yield running


def asker_of(server: LoopbackServer, **limits: Any) -> Asker:
    """A fresh client of the server."""
    settings = {
        name: getattr(LIMITS, name) for name in ("attempts", "first_wait", "patience", "timeout", "concurrency")
    }
    return Asker(OpenAIChat("stand-in", server.base_url), limits=Limits(**{**settings, **limits}))


@dataclass(frozen=True)
class Tree:
    """What a build made, so that two can be compared."""

    nodes: dict[str, tuple[str, str, tuple[str, ...]]]
    writers: frozenset[str]


def read_tree(path: Path) -> Tree:
    """Titles, texts and children of every branch."""
    with Index.open(path) as index:
        nodes = {
            node_id: (index.node(node_id).title, index.node(node_id).text, tuple(index.tree.children(node_id)))
            for node_id in index.tree.inner_ids
        }
        return Tree(nodes, frozenset(index.node(node_id).written_by for node_id in index.tree.inner_ids))


@pytest.fixture(scope="module")
def honest(server: LoopbackServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tree, int]:
    """An index built with a server that never fails, its tree, and the calls it took."""
    path = tmp_path_factory.mktemp("honest") / "index"
    server.fault_for = lambda call: None
    server.calls.clear()
    asyncio.run(build(DOCUMENTS, path, CONFIG, asker=asker_of(server)))
    return path, read_tree(path), len(server.calls)


async def test_a_build_with_every_third_call_failing_ends_with_the_identical_tree(
    server: LoopbackServer, honest: tuple[Path, Tree, int], tmp_path: Path
) -> None:
    """30 % of the calls fail, in every way that passes: the same tree, text for text, at no more than 1.6 the calls."""
    server.calls.clear()
    server.fault_for = at_random(0.3, PASSING, seed=1)
    await build(DOCUMENTS, tmp_path / "index", CONFIG, asker=asker_of(server, attempts=8))
    assert read_tree(tmp_path / "index") == honest[1]
    assert len(server.calls) <= max(1.6 * honest[2], honest[2] + 6)  # so few calls scatter widely about their mean


async def test_a_build_with_garbage_replies_finishes_and_marks_what_the_model_did_not_write(
    server: LoopbackServer, tmp_path: Path
) -> None:
    """A fifth of the replies are garbage, then all of them: the build ends, and every branch says who wrote it."""
    server.fault_for = at_random(0.2, ["garbage", "empty_content", "length_cut", "refusal_in_words"], seed=2)
    report = await build(DOCUMENTS, tmp_path / "some", CONFIG, asker=asker_of(server))
    assert sum(report.written_by.values()) == report.counts["inner"]
    server.fault_for = always("garbage")
    await build(DOCUMENTS, tmp_path / "all", CONFIG, asker=asker_of(server))
    assert read_tree(tmp_path / "all").writers <= {"fallback:stand-in", "extractive"}


async def test_a_search_with_every_third_call_failing_loses_nothing(
    server: LoopbackServer, honest: tuple[Path, Tree, int]
) -> None:
    """The same hits as with an honest server."""
    with Index.open(honest[0]) as index:
        server.fault_for = lambda call: None
        right = await Engine(index, asker=asker_of(server)).search(QUESTION, k=10)
        server.fault_for = at_random(0.3, PASSING, seed=3)
        found = await Engine(index, asker=asker_of(server, attempts=8)).search(QUESTION, k=10)
    assert [hit.passage.passage_id for hit in found.hits] == [hit.passage.passage_id for hit in right.hits]
    assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in right.hits])


async def test_a_search_with_garbage_replies_is_marked(server: LoopbackServer, honest: tuple[Path, Tree, int]) -> None:
    """Where the embedded judge stood in, judgements are weak and a note says so; hits come all the same."""
    server.fault_for = always("garbage")
    with Index.open(honest[0]) as index:
        result = await Engine(index, asker=asker_of(server)).search(QUESTION, k=5)
    assert len(result.hits) == 5
    assert any(judgement.weak for judgement in result.judgements)
    assert result.notes


async def attempt(stage: str, server: LoopbackServer, path: Path, index: Index, timeout_s: float) -> str:
    """What one stage comes to under a fault at every call, in one word."""
    asker = asker_of(server, timeout=timeout_s)
    budget = Budget(max_seconds=DEADLINE)
    try:
        if stage == "build":
            report = await build(DOCUMENTS, path, CONFIG, asker=asker, meter=Meter(budget))
            writers = set(report.written_by)
            return "the model's" if writers == {"stand-in"} else "partial" if report.partial else "marked"
        engine = Engine(index, asker=asker)
        if stage == "search":
            result = await engine.search(QUESTION, k=5, budget=budget)
            weak = any(judgement.weak for judgement in result.judgements)
            return "marked" if weak and result.notes else "partial" if result.partial else "the model's"
        answer = await engine.ask(QUESTION, k=5, budget=budget)
        if not answer.found and answer.reader == "stand-in" and not answer.notes and not answer.search.notes:
            return "NOTHING FOUND"
        return "marked" if answer.notes or answer.search.notes else "the model's"
    except ModelError as error:
        return "ModelUnavailable" if isinstance(error, ModelUnavailable) else type(error).__name__
    except Exception as bug:
        return f"CRASH {bug!r}"
    finally:
        await asker.aclose()


ALLOWED: dict[str, Callable[[str], bool]] = {
    "again": lambda came: came in {"ModelUnavailable", "partial", "marked"},
    "refused": lambda came: came == "ModelRefused",
    "reply": lambda came: came in {"marked", "partial", "the model's"},
    "fine": lambda came: came == "the model's",
}


@pytest.mark.slow
async def test_every_fault_at_every_stage(
    server: LoopbackServer, honest: tuple[Path, Tree, int], tmp_path: Path
) -> None:
    """The fault table: each of the faults at every call of a build, a search and an answer; none outlives its deadline.

    Only a fault that leaves the reply usable may end as the model's own work; a refusal always ends as an error; what
    fails in between is an error or is marked.
    """
    table, wrong = [], []
    with Index.open(honest[0]) as index:
        for name, fault in FAULTS.items():
            came = {}
            for stage in ("build", "search", "ask"):
                server.fault_for = always(name)
                started = time.monotonic()
                slow = name in {"hang", "slow_drip"}
                came[stage] = await attempt(stage, server, tmp_path / f"{name}-{stage}", index, 0.3 if slow else 5.0)
                if time.monotonic() - started > 3 * DEADLINE:
                    wrong.append(f"{name} at {stage}: {time.monotonic() - started:.1f} s")
                # A fault of scores is one of item numbers elsewhere; text/plain is read by some versions of the SDK.
                kind = "reply" if name in SCORE_FAULTS and stage != "search" else fault.kind
                if not ALLOWED[kind](came[stage]) and not (
                    name == "wrong_content_type" and came[stage] == "the model's"
                ):
                    wrong.append(f"{name} ({fault.kind}) at {stage}: {came[stage]}")
            table.append(f"{name:32} {fault.kind:8} " + " ".join(f"{came[stage]:18}" for stage in came))
    print("\n" + "\n".join(table))
    assert not wrong, "\n".join(wrong)
