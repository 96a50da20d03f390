"""The measurement of what prompts cost."""

from __future__ import annotations

from pathlib import Path

from branchwise.agent.bench.prompt_cost import PrefixCache, measure_client, measure_load, measure_prompts
from branchwise.stores.records import Document
from tests.loopback.server import run_server

TOPICS = ["yeast bread flour oven", "moon tides ocean gravity", "violin string bow sound", "glacier ice melt river"]
DOCUMENTS = [
    Document(
        doc_id=f"d{n}", title=f"Note {n}", text=f"Fact {n}: {TOPICS[n % 4]}. " + f"Detail number{n} follows here. " * 12
    )
    for n in range(64)
]


def test_a_cache_holds_whole_blocks_of_what_was_there() -> None:
    """A prompt again is held but for its last part block; one that differs in its first character is not."""
    cache = PrefixCache()
    prompt = "".join(f"line number {n}\n" for n in range(40))
    assert cache.share([prompt]) == 0
    assert 0.85 < cache.share([prompt]) <= 1
    assert cache.share(["X" + prompt]) == 0


async def test_our_layout_saves_what_the_query_first_layout_cannot(tmp_path: Path) -> None:
    """Several questions over one tree: most of a judge's prompt is cached, with the query first next to nothing."""
    questions = [f"What of {topic} and number{n}?" for n, topic in enumerate(TOPICS)]
    stages = await measure_prompts(DOCUMENTS, questions, tmp_path / "index")
    assert stages["build"].calls >= 5
    assert stages["search"].calls > 0
    search = stages["search as lattice"]
    assert search.cached_share_query_first is not None
    assert search.cached_share > search.cached_share_query_first + 0.2


async def test_load_and_client_are_measured(tmp_path: Path) -> None:
    """Shares in (0, 1], times above 0."""
    load = await measure_load(DOCUMENTS, tmp_path / "index", latency=0.01)
    assert 0 < load.busy <= 1
    with run_server() as server:
        client = await measure_client(server.base_url, calls=64)
        assert len(server.calls) == 64 + 8
    assert client.cpu_ms > 0
