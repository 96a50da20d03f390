"""What the prompts cost: calls, tokens, and the share that a server's prefix cache saves, in a build and its searches.

    python -m branchwise.agent.bench.prompt_cost [--passages 1000] [--queries 20] [--latency 0.5] [--base-url URL]

The model is the stand-in, so the figures say nothing about quality and cost nothing. Every judge's prompt is counted
twice: as it is laid out here, and with the query before the candidates and a number that changes from call to call at
the end, as in LATTICE's own prompts. The cache is simulated as vLLM keeps it: whole blocks of 16 tokens, kept for ever.
With `--base-url` (a server that answers as stand-in: python tests/loopback/server.py) the cost of the client itself is
measured too. Tested in tests/prompts/test_prompt_cost.py.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from branchwise.agent.bench.datasets import read_dataset
from branchwise.agent.engine import Engine
from branchwise.agent.search.config import SearchConfig, lattice
from branchwise.prompts.ask import Asker
from branchwise.prompts.limits import Limits
from branchwise.prompts.model import ModelReply, Request
from branchwise.prompts.openai_chat import OpenAIChat
from branchwise.prompts.replies import CondenseReply
from branchwise.prompts.stand_in import stand_in_model
from branchwise.prompts.testing import FunctionModel
from branchwise.prompts.tokens import estimate_tokens
from branchwise.stores.index import Index
from branchwise.stores.records import Document
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus_demo import demo_documents

SLOTS = 64
IN_FLIGHT = 256
BLOCK_CHARS = 64  # about 16 tokens, the block of vLLM's prefix cache

_QUERY = re.compile(r"<query>\n.*?\n</query>\n*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A build, or all searches: calls, tokens in and out, and the share of the tokens in that a prefix cache holds."""

    calls: int
    input_tokens: int
    output_tokens: int
    cached_share: float
    cached_share_query_first: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How a build uses a server: `busy` is the share of the slots' time, from first call to last, that is filled."""

    calls: int
    slots: int
    seconds: float
    busy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """CPU of this process for one call with `in_flight` at once, in milliseconds."""

    in_flight: int
    calls: int
    cpu_ms: float
    calls_per_second: float


class PrefixCache:
    """How much of each prompt, in whole blocks from its beginning, earlier prompts have brought."""

    def __init__(self) -> None:
        self._blocks: set[int] = set()

    def share(self, prompts: Iterable[str]) -> float:
        """Share of all characters of these prompts, asked in this order, that the cache holds."""
        total = held = 0
        for prompt in prompts:
            total += len(prompt)
            key, known = 0, True
            for start in range(0, len(prompt) - BLOCK_CHARS + 1, BLOCK_CHARS):
                key = hash((key, prompt[start : start + BLOCK_CHARS]))
                known = known and key in self._blocks
                held += BLOCK_CHARS if known else 0
                self._blocks.add(key)
        return held / total if total else 0.0


def text_of(request: Request) -> str:
    """A prompt as a server sees it: its messages, one after the other."""
    return "\n".join(message.content for message in request.messages)


def query_first(request: Request, number: int) -> str:
    """The same prompt laid out as LATTICE's: the query before the candidates, a changing number at the end."""
    system, user = request.messages[0].content, request.messages[1].content
    query = "".join(_QUERY.findall(user))
    return f"{system}\n{query}{_QUERY.sub('', user)}\nPrompt id: {number * 7919 % 1_000_003}"


def count(requests: Sequence[Request], replies: Sequence[str]) -> Stage:
    """Calls, tokens and cached shares of these requests, in the order in which they were made."""
    judging = any(request.name.startswith("judge_") for request in requests)
    return Stage(
        calls=len(requests),
        input_tokens=sum(estimate_tokens(text_of(request)) for request in requests),
        output_tokens=sum(map(estimate_tokens, replies)),
        cached_share=round(PrefixCache().share(map(text_of, requests)), 4),
        cached_share_query_first=(
            round(PrefixCache().share(query_first(request, n) for n, request in enumerate(requests)), 4)
            if judging
            else None
        ),
    )


def recording() -> tuple[FunctionModel, list[str]]:
    """The stand-in, and the list that its replies are written to."""
    inner, replies = stand_in_model(), []

    def answer(request: Request) -> str:
        said = inner.function(request)
        replies.append(said if isinstance(said, str) else said.text)
        return replies[-1]

    return FunctionModel(answer, name="stand-in"), replies


async def measure_prompts(documents: Sequence[Document], queries: Sequence[str], folder: Path) -> dict[str, Stage]:
    """Build an index of `documents` by the stand-in, search it for `queries` in our way and in LATTICE's; count all."""
    model, replies = recording()
    await build(documents, folder, BuildConfig(), asker=Asker(model))
    stages = {"build": count(model.requests, replies)}
    with Index.open(folder) as index:
        for name, config in {"search": SearchConfig(), "search as lattice": lattice()}.items():
            model, replies = recording()
            engine = Engine(index, asker=Asker(model), config=config)
            for query in queries:
                await engine.search(query)
            stages[name] = count(model.requests, replies)
    return stages


async def measure_load(documents: Sequence[Document], folder: Path, *, latency: float) -> Load:
    """How busy a build keeps a server of 64 slots whose calls take `latency` seconds, give or take a half.

    The replies are thought out in a first build, so that only waiting is measured in the second.
    """
    inner = stand_in_model()
    known: dict[str, str] = {}

    def think(request: Request) -> str:
        key = text_of(request)
        if key not in known:
            known[key] = str(inner.function(request))
        return known[key]

    await build(documents, folder / "first", BuildConfig(), asker=Asker(FunctionModel(think, name="stand-in")))
    spans: list[tuple[float, float]] = []
    spread = itertools.cycle((0.5, 1.3, 0.8, 1.5, 1.0, 0.7, 1.2))

    class Slow(FunctionModel):
        async def complete(self, request: Request) -> ModelReply:
            started = time.monotonic()
            await asyncio.sleep(latency * next(spread))
            spans.append((started, time.monotonic()))
            return await super().complete(request)

    asker = Asker(Slow(think, name="stand-in"), limits=Limits(concurrency=SLOTS))
    await build(documents, folder / "second", BuildConfig(concurrency=SLOTS), asker=asker)
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    busy = sum(end - start for start, end in spans) / (SLOTS * seconds)
    return Load(calls=len(spans), slots=SLOTS, seconds=round(seconds, 2), busy=round(busy, 4))


async def measure_client(base_url: str, *, calls: int = 4 * IN_FLIGHT) -> Client:
    """CPU that this process spends on a call, with 256 of them at once and nothing cached."""
    asker = Asker(OpenAIChat("stand-in", base_url), limits=Limits(concurrency=IN_FLIGHT))

    async def one(number: int) -> None:
        await asker.ask("condense.v1", {"history": [], "query": f"Question {number}?"}, CondenseReply)

    await asyncio.gather(*(one(-number) for number in range(1, 9)))  # connections, imports
    cpu, started = time.process_time(), time.monotonic()
    await asyncio.gather(*(one(number) for number in range(calls)))
    cpu, seconds = time.process_time() - cpu, time.monotonic() - started
    await asker.aclose()
    return Client(
        in_flight=IN_FLIGHT,
        calls=calls,
        cpu_ms=round(1_000 * cpu / calls, 3),
        calls_per_second=round(calls / seconds, 1),
    )


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a BEIR folder; without it the demo corpus and questions made of it")
    parser.add_argument("--passages", type=int, default=1_000)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument(
        "--latency", type=float, default=0.5, help="seconds a call takes in the measurement of the load"
    )
    parser.add_argument("--base-url", help="measure the client against this server as well")
    arguments = parser.parse_args()
    documents, queries = _material(arguments.data, arguments.passages, arguments.queries)
    found: dict[str, object] = {"documents": len(documents), "queries": len(queries)}
    with tempfile.TemporaryDirectory() as folder:
        stages = asyncio.run(measure_prompts(documents, queries, Path(folder) / "prompts"))
        found |= {name: asdict(stage) for name, stage in stages.items()}
        if arguments.latency:
            found["load"] = asdict(
                asyncio.run(measure_load(documents, Path(folder) / "load", latency=arguments.latency))
            )
    if arguments.base_url:
        found["client"] = asdict(asyncio.run(measure_client(arguments.base_url)))
    print(json.dumps(found, indent=2))


def _material(data: Path | None, passages: int, queries: int) -> tuple[list[Document], list[str]]:
    """The first documents and queries of a dataset; of the demo corpus, its titles asked as questions."""
    if data is not None:
        dataset = read_dataset(data)
        return list(dataset.documents)[:passages], [query.text for query in dataset.queries[:queries]]
    documents = list(itertools.islice(demo_documents(), passages))
    titles = Counter(document.title for document in documents)
    return documents, [f"How do I use {title}?" for title in list(titles)[:: max(1, len(titles) // queries)][:queries]]


if __name__ == "__main__":
    main()
