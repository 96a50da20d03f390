"""What a server does under load: how soon it speaks, how long a search takes, what is lost, and what memory it keeps.

    python -m branchwise.agent.bench.serving --index DIR [--clients 1 8 64] [--searches 10000] [--json]

A real `branchwise serve` in a process of its own, without a model, asked over the loopback with words from its own
passages. At each number of clients every question is asked once as a search and once as a stream. Then as many searches
as `--searches` says, each with another question, and the resident memory of the server is read along the way. Clients
that are told to come back (429) do, as a good client would; a search is lost when no answer comes at all. The clients
are threads of this process and take processors from the server, where there are few. Tested in
tests/bench/test_serving.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

from branchwise.stores.index import Index

SERVE = "from branchwise.agent.surfaces.cli import main; main()"
ROUNDS = 128  # questions at each number of clients, asked twice
WARM = 20  # searches before anything is measured: the first ones open what a generation needs
READINGS = 10  # of the memory, along the way
MEMORY_CLIENTS = 8
TRIES = 20  # of one search, where the server is busy
WORDS = 14  # of a passage that make a question
PATIENCE = 120.0  # seconds without an answer, after which it is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What so many clients at once saw; times in milliseconds, from request to answer, with all waiting in between."""

    clients: int
    searches: int
    lost: int
    told_to_wait: int
    search_p50: float
    search_p95: float
    first_event_p50: float
    first_event_p95: float
    searches_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident megabytes of the server after so many searches; None where the system does not tell."""

    searches: int
    lost: int
    resident_mb: dict[int, float | None]


class Client:
    """Asks over one connection a thread, and counts what it was told."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port
        self._threads = local()
        self.lost = 0
        self.told_to_wait = 0

    def search(self, question: str) -> float | None:
        """Milliseconds until the whole answer is here; None if it is lost."""
        return self._timed(question, stream=False, read=lambda response: response.read())

    def first_event(self, question: str) -> float | None:
        """Milliseconds until the first event of a stream; the rest is read, but not timed. None if it is lost."""
        return self._timed(question, stream=True, read=lambda response: response.readline())

    def _timed(self, question: str, *, stream: bool, read: Callable[[Any], bytes]) -> float | None:
        body = json.dumps({"question": question, "k": 10, "stream": stream})
        started = time.perf_counter()
        for _ in range(TRIES):
            try:
                connection = self._connection()
                connection.request("POST", "/search", body, {"content-type": "application/json"})
                response = connection.getresponse()
                if response.status == 200 and read(response):
                    taken = 1000 * (time.perf_counter() - started)
                    response.read()
                    return taken
                response.read()
            except (OSError, HTTPException):
                self._threads.connection.close()
                break
            if response.status != 429:
                break
            self.told_to_wait += 1
            time.sleep(float(response.headers.get("retry-after", "1")))
        self.lost += 1
        return None

    def _connection(self) -> HTTPConnection:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = HTTPConnection(self._host, self._port, timeout=PATIENCE)
        connection: HTTPConnection = self._threads.connection
        return connection


def measure_load(url: str, questions: Sequence[str], clients: int) -> Load:
    """Ask every question twice, `clients` at a time."""
    asking = Client(url)
    with ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        searched = _answered(pool.map(asking.search, questions))
        seconds = time.perf_counter() - started
        told = _answered(pool.map(asking.first_event, questions))
    return Load(
        clients=clients,
        searches=2 * len(questions),
        lost=asking.lost,
        told_to_wait=asking.told_to_wait,
        search_p50=quantile(searched, 0.5),
        search_p95=quantile(searched, 0.95),
        first_event_p50=quantile(told, 0.5),
        first_event_p95=quantile(told, 0.95),
        searches_per_second=len(searched) / seconds,
    )


def measure_memory(url: str, process_id: int, questions: Iterator[str], searches: int) -> Memory:
    """Ask so many questions, and read the server's memory before, after, and between."""
    asking = Client(url)
    readings = {0: resident_mb(process_id)}
    done = 0
    with ThreadPoolExecutor(MEMORY_CLIENTS) as pool:
        for reading in range(1, READINGS + 1):
            until = searches * reading // READINGS
            _answered(pool.map(asking.search, islice(questions, until - done)))
            done = until
            readings[done] = resident_mb(process_id)
    return Memory(searches=searches, lost=asking.lost, resident_mb=readings)


def questions_of(path: Path) -> list[str]:
    """A question a passage: its first words."""
    with Index.open(path) as index:
        found = [" ".join(passage.text.split()[:WORDS]) for passage in index.iter_passages()]
    return [question for question in found if any(letter.isalnum() for letter in question)]


@contextmanager
def serving(path: Path) -> Iterator[tuple[str, int]]:
    """The address and the process id of `branchwise serve` over the index, with no model and no limit but its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRANCHWISE_", "OPENAI_"))}
    command = [sys.executable, "-c", SERVE, "serve", "--index", str(path.absolute()), "--port", "0", "--json"]
    process = subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own command
    try:
        told = ""
        while not told or told.count("{") != told.count("}"):
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit(f"The server ended before it listened, with code {process.wait()}.")
            told += line
        yield json.loads(told)["url"], process.pid
    finally:
        process.terminate()
        process.wait()


def resident_mb(process_id: int) -> float | None:
    """Resident memory of a process in megabytes; None where the system does not tell."""
    try:
        for line in Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        return None
    return None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not pass; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _answered(times: Iterator[float | None]) -> list[float]:
    return [taken for taken in times if taken is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m branchwise.agent.bench.serving", description=__doc__)
    parser.add_argument("--index", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="clients at once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="questions at each number of clients")
    parser.add_argument("--searches", type=int, default=10_000, metavar="N", help="searches for the memory; 0: none")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    questions = questions_of(given.index)
    step = max(1, len(questions) // given.rounds)
    chosen = list(islice(cycle(questions[::step]), given.rounds))
    with serving(given.index) as (url, process_id):
        for question in islice(cycle(questions[1:]), WARM):
            Client(url).search(question)
        loads = [measure_load(url, chosen, clients) for clients in given.clients]
        memory = measure_memory(url, process_id, cycle(questions), given.searches) if given.searches else None
    if given.json:
        print(json.dumps({"loads": [asdict(load) for load in loads], "memory": asdict(memory) if memory else None}))
        return
    for load in loads:
        print(
            f"{load.clients:>4} clients  search p50 {load.search_p50:,.0f} ms, p95 {load.search_p95:,.0f} ms   "
            f"first event p50 {load.first_event_p50:,.0f} ms, p95 {load.first_event_p95:,.0f} ms   "
            f"{load.searches_per_second:.1f} a second, {load.lost} of {load.searches} lost"
        )
    if memory:
        told = ", ".join(f"{done:,}: {_mb(mb)}" for done, mb in memory.resident_mb.items())
        print(f"memory after so many searches: {told}; {memory.lost} of {memory.searches:,} lost")


def _mb(megabytes: float | None) -> str:
    return "unknown" if megabytes is None else f"{megabytes:,.0f} MB"


if __name__ == "__main__":
    main()
