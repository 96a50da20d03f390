"""Many clients at once, more than the server lets in, and a long day: nothing is lost, and no memory is kept."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import httpx2
import openai
import pytest

from branchwise.agent.bench.serving import Client, measure_memory, questions_of, resident_mb, serving
from tests.surfaces.server.conftest import QUESTION

SERVE = """
import sys
from pathlib import Path
from branchwise.agent.surfaces.server import serve
from branchwise.agent.surfaces.server.app import Limits
limits = Limits(max_running=2, max_waiting=20)
serve({"topics": Path(sys.argv[1])}, port=0, limits=limits, on_ready=lambda url: print(url, flush=True))
"""


@pytest.fixture(scope="module")
def narrow(index_path: Path) -> Iterator[str]:
    """A real server that answers two at a time and lets twenty wait."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(index_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait(timeout=60)


def counted(url: str, route: str) -> int:
    """How many requests of this route were answered, and that nothing is left behind."""
    text = httpx2.get(f"{url}/metrics").text
    assert "branchwise_running 0\n" in text
    assert "branchwise_waiting 0\n" in text
    found = re.search(rf'branchwise_requests_total{{route="{route}",outcome="ok"}} (\d+)', text)
    return int(found[1]) if found else 0


def test_two_hundred_at_once_lose_nothing(narrow: str, index_path: Path) -> None:
    """Two hundred before a door for twenty-two: those told to wait come back, and all are answered, once each."""
    questions = questions_of(index_path)
    client = Client(narrow)
    with ThreadPoolExecutor(200) as pool:
        times = list(pool.map(client.search, (questions[number % len(questions)] for number in range(200))))
    assert client.lost == 0
    assert client.told_to_wait > 0
    assert None not in times
    assert counted(narrow, "search") == 200


async def test_other_peoples_clients_come_back_too(narrow: str) -> None:
    """The openai client obeys the 429 and its Retry-After by itself: sixty at once, and sixty answers."""
    async with openai.AsyncOpenAI(base_url=f"{narrow}/v1", api_key="none", max_retries=20) as client:

        async def ask() -> str:
            done = await client.chat.completions.create(
                model="topics", messages=[{"role": "user", "content": QUESTION}]
            )
            return done.choices[0].message.content or ""

        answers = await asyncio.gather(*(ask() for _ in range(60)))
    assert len(set(answers)) == 1
    assert answers[0]
    assert await asyncio.to_thread(counted, narrow, "ask") == 60


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell what memory is used")
def test_a_long_day_keeps_no_memory(index_path: Path) -> None:
    """Once warm, two thousand searches more leave the server at most 16 MB larger, and none is lost."""
    with serving(index_path) as (url, process_id):
        questions = cycle(questions_of(index_path))
        assert measure_memory(url, process_id, questions, 1_000).lost == 0
        before = resident_mb(process_id)
        assert measure_memory(url, process_id, questions, 2_000).lost == 0
        after = resident_mb(process_id)
    assert before is not None
    assert after is not None
    assert after - before < 16
