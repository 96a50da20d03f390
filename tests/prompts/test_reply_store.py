"""The cache of paid replies: durable, shared, forgetful on demand."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from branchwise.stores.errors import IndexCorrupt
from branchwise.stores.records import Usage
from branchwise.stores.replies import ReplyStore

BREAD = "Yeast turns sugar into carbon dioxide. Salt slows it down considerably."
MOON = "The moon pulls the oceans of the earth. See also."


def put(store: ReplyStore, key: str, *sources: str, body: str = "{}") -> None:
    """A reply derived from these texts."""
    store.put(key, body, model="m", prompt="p.v1", usage=Usage(calls=1), sources=sources)


def test_what_was_put_is_there_after_opening_again(tmp_path: Path) -> None:
    """By key, replaced by a later one, None for others."""
    path = tmp_path / "deep" / "replies.sqlite"
    with ReplyStore(path) as store:
        put(store, "a", BREAD, body='{"x": "é漢"}')
        put(store, "a", BREAD, body='{"x": 2}')
    with ReplyStore(path) as store:
        assert store.get("a") == '{"x": 2}'
        assert store.get("b") is None
        assert len(store) == 1


def test_a_removed_text_takes_its_replies_with_it(tmp_path: Path) -> None:
    """Whole, in part, in other white space or within a longer text: all that derives from it goes, the rest stays."""
    with ReplyStore(tmp_path / "r.sqlite") as store:
        put(store, "whole", BREAD)
        put(store, "slate", MOON, f"Baking\n{BREAD}")
        put(store, "cut", BREAD[:38] + "\nand more that the document does not hold")
        put(store, "moon", MOON)
        put(store, "short", "See also.")
        assert store.forget(BREAD.replace(" ", "  "), "nothing of this stands anywhere at all") == 3
        assert store.get("moon") == store.get("short") == "{}"
        assert store.get("slate") is None
        assert store.forget(BREAD) == 0


def test_no_byte_of_a_forgotten_reply_is_left_on_disk(tmp_path: Path) -> None:
    """Deleted pages are overwritten, and the write-ahead log is emptied."""
    with ReplyStore(tmp_path / "r.sqlite") as store:
        put(store, "a", BREAD, body='{"title": "XYZZY-SECRET"}')
        put(store, "b", MOON)
        store.forget(BREAD)
        assert all(b"XYZZY" not in path.read_bytes() for path in tmp_path.iterdir())


def test_threads_share_a_store(tmp_path: Path) -> None:
    """Two hundred replies from eight threads are all there."""
    with ReplyStore(tmp_path / "r.sqlite") as store:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: put(store, str(n), f"sentence number {n} of a longer text"), range(200)))
        assert len(store) == 200


WRITE_MANY = """
import sys
from pathlib import Path
from branchwise.stores.records import Usage
from branchwise.stores.replies import ReplyStore
with ReplyStore(Path(sys.argv[1])) as store:
    for n in range(50):
        store.put(f"{sys.argv[2]}{n}", "{}", model="m", prompt="p", usage=Usage(), sources=["the same long sentence"])
"""


def test_processes_share_a_store(tmp_path: Path) -> None:
    """A build and a search may write at once."""
    path = tmp_path / "r.sqlite"
    workers = [subprocess.Popen([sys.executable, "-c", WRITE_MANY, str(path), name]) for name in "ab"]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    with ReplyStore(path) as store:
        assert len(store) == 100


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """With the remedy: it holds nothing but paid replies."""
    path = tmp_path / "r.sqlite"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(IndexCorrupt, match=r"r\.sqlite"):
        ReplyStore(path)
