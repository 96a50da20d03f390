"""What `import branchwise` offers, as a user calls it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import branchwise
from branchwise import Answer, Budget, Collection, Document, Event, IndexMissing, InputError
from tests.loopback.chroma import run_chroma

ASKED = "why does bread rise?"


def test_every_name_is_there() -> None:
    """All that is promised can be imported."""
    assert all(hasattr(branchwise, name) for name in branchwise.__all__)


def test_importing_is_light() -> None:
    """Importing brings in none of the heavy dependencies, opens no socket and adds no log handler."""
    code = (
        "import logging, socket, sys\n"
        "def refuse(*_): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "import branchwise\n"
        "heavy = {'chromadb', 'openai', 'llama_index', 'sklearn', 'scipy', 'torch', 'networkx', 'typer', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_search_ask_and_stream_without_async(collection: Collection) -> None:
    """A script needs no event loop."""
    assert collection.search(ASKED).hits[0].passage.passage_id == "bread-0"
    answer = collection.ask(ASKED)
    assert answer.found
    *events, last = collection.stream(ASKED)
    assert all(isinstance(event, Event) for event in events)
    assert isinstance(last, Answer)
    assert last.text == answer.text


async def test_sync_calls_inside_a_running_loop(collection: Collection) -> None:
    """In Jupyter, where a loop is running already, the plain calls work as well."""
    assert collection.search(ASKED).hits == (await collection.asearch(ASKED)).hits


def test_sync_calls_from_many_threads(collection: Collection) -> None:
    """Threads share one collection."""
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(collection.search(ASKED).hits[0].passage.passage_id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["bread-0"] * 8


def test_own_event_loop(collection: Collection) -> None:
    """The asynchronous calls work in a loop of one's own, one after another."""
    for _ in range(2):
        assert asyncio.run(collection.asearch(ASKED)).hits


def test_trace_and_replay(collection: Collection) -> None:
    """A trace of a search replays to the same hits."""
    trace = collection.trace(ASKED, k=3)
    assert collection.replay(trace).hits == collection.search(ASKED, k=3).hits


def test_add_find_remove(documents: list[Document], tmp_path: Path) -> None:
    """A document that is added can be found, and is gone after it was removed."""
    with branchwise.build(documents, index=tmp_path / "index") as opened:
        opened.add(
            [Document(doc_id="kites", title="Kites", text="A kite flies because wind presses on its slanted sail.")]
        )
        assert opened.search("why does a kite fly?").hits[0].passage.doc_id == "kites"
        opened.remove("kites")
        assert all(hit.passage.doc_id != "kites" for hit in opened.search("why does a kite fly?").hits)
        assert opened.tree.check() == []


def test_reopen(collection: Collection) -> None:
    """What was built can be opened again and gives the same."""
    with branchwise.open(collection.index.path) as again:
        assert again.search(ASKED).hits == collection.search(ASKED).hits


def test_says_what_it_is(collection: Collection) -> None:
    """Its repr names the folder, the passages and who judges."""
    assert "50 passages" in repr(collection)
    assert "embedded" in repr(collection)


def test_no_index_there(tmp_path: Path) -> None:
    """Opening an empty folder says that there is no index, not that nothing was found."""
    with pytest.raises(IndexMissing):
        branchwise.open(tmp_path / "nowhere")


def test_nothing_to_build_from(tmp_path: Path) -> None:
    """A path that does not exist is the caller's mistake, and is named."""
    with pytest.raises(InputError, match="missing-folder"):
        branchwise.build(tmp_path / "missing-folder", index=tmp_path / "index")


def test_budget_of_a_search(collection: Collection) -> None:
    """A budget is kept, and said to be spent."""
    result = collection.search(ASKED, budget=Budget(max_calls=0))
    assert result.partial


async def test_chat_understands_what_points_back(collection: Collection) -> None:
    """A collection starts a conversation."""
    chat = collection.chat(k=3)
    await chat.ask("Why do moths circle lamps?")
    answer = await chat.ask("And what disturbs them?")
    assert answer.search.hits[0].passage.doc_id == "moths-0"


def test_hops_find_what_one_search_finds(collection: Collection) -> None:
    """Searching in hops keeps the passage that one search finds, within one budget."""
    result = collection.search(ASKED, hops=True, budget=Budget(max_calls=6))
    assert "bread-0" in [hit.passage.passage_id for hit in result.hits]
    assert len(result.judgements) <= 6


@pytest.mark.slow
def test_a_chroma_server_keeps_the_vectors_all_along(documents: list[Document], tmp_path: Path) -> None:
    """Built, added to and removed from, an index in a Chroma server stays there, and nothing of it in the folder."""
    with run_chroma(tmp_path / "served") as url:
        with branchwise.build(documents[:20], index=tmp_path / "index", chroma_url=url) as opened:
            opened.add([Document(doc_id="kites", title="Kites", text="A kite flies because wind presses on its sail.")])
            assert opened.search("why does a kite fly?").hits[0].passage.doc_id == "kites"
            opened.remove("moths-1")
            assert opened.index.verify() == []
        with branchwise.open(tmp_path / "index", chroma_url=url) as again:
            assert again.index.verify() == []
            assert again.search("why does a kite fly?").hits[0].passage.doc_id == "kites"
    assert not list((tmp_path / "index" / "generations").glob("*/chroma*"))
