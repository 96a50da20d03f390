"""Keeps validated model replies in one SQLite file: the journal of everything that was paid for.

A row is keyed by a hash of all that decided the reply (prompts.ask computes it) and commits before it is used, so a
killed build buys nothing twice. Beside each reply stand hashes of the sentences it was derived from: `forget` deletes
what derives from a removed document. Knows nothing of prompts or models. Tested in tests/prompts/test_reply_store.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from branchwise.stores.errors import IndexCorrupt, IndexLocked, StoreError
from branchwise.stores.records import Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, body TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL, usage TEXT NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (mark INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (mark, key)) WITHOUT ROWID;
"""
PATIENCE = 30  # seconds to wait for another process's write
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])|\n+")
_SHORT = 24  # characters; shorter pieces ("See also.") stand in too many texts to name one


class ReplyStore:
    """Validated replies by key. Safe to use from threads and from several processes. IndexCorrupt names a bad file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False, isolation_level=None)
            self._write_ahead()
            for pragma in ("synchronous=FULL", "secure_delete=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as problem:
            raise self._corrupt(problem) from problem

    def _write_ahead(self) -> None:
        """Change a new file to a write-ahead log; SQLite does not wait for another process that is doing the same."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as problem:
                if "locked" not in str(problem) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def get(self, key: str) -> str | None:
        """The reply kept under `key`, or None."""
        row = self._run("SELECT body FROM replies WHERE key = ?", (key,))
        return str(row[0][0]) if row else None

    def put(self, key: str, body: str, *, model: str, prompt: str, usage: Usage, sources: Iterable[str] = ()) -> None:
        """Keep a validated reply, durably; `sources` are the texts that it was derived from."""
        marks = sorted({mark for text in sources for mark in _marks(text)})
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute(
                    "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?)",
                    (key, body, model, prompt, json.dumps(asdict(usage)), time.time()),
                )
                self._db.executemany("INSERT OR IGNORE INTO sources VALUES (?, ?)", [(mark, key) for mark in marks])
                self._db.execute("COMMIT")
            except sqlite3.DatabaseError as problem:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise self._corrupt(problem) from problem

    def forget(self, *texts: str) -> int:
        """Delete every reply that was derived from any of these texts, or part of one; the number deleted."""
        marks = sorted({mark for text in texts for mark in _marks(text)})
        deleted = 0
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                for mark in marks:
                    keys = self._db.execute("SELECT key FROM sources WHERE mark = ?", (mark,)).fetchall()
                    deleted += self._db.executemany("DELETE FROM replies WHERE key = ?", keys).rowcount if keys else 0
                    self._db.execute("DELETE FROM sources WHERE mark = ?", (mark,))
                self._db.execute("COMMIT")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log, too, must not keep the text
            except sqlite3.DatabaseError as problem:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise self._corrupt(problem) from problem
        return deleted

    def __len__(self) -> int:
        return int(self._run("SELECT count(*) FROM replies")[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> ReplyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, sql: str, values: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.DatabaseError as problem:
                raise self._corrupt(problem) from problem

    def _corrupt(self, problem: sqlite3.DatabaseError) -> StoreError:
        if isinstance(problem, sqlite3.OperationalError) and "locked" in str(problem):
            return IndexLocked(f"Another process has held {self.path} for over {PATIENCE} seconds.")
        return IndexCorrupt(
            f"The reply cache {self.path} cannot be used: {problem}.",
            hint="It holds nothing but paid replies: move it away, and the next run makes a new one.",
        )


def _marks(text: str) -> set[int]:
    """A 63-bit hash of each sentence of `text`, of all of it where every sentence is short."""
    pieces = {" ".join(piece.split()).casefold() for piece in _SENTENCE_END.split(text)}
    long = {piece for piece in pieces if len(piece) >= _SHORT} or {" ".join(text.split()).casefold()} - {""}
    return {
        int.from_bytes(hashlib.blake2b(piece.encode("utf-8", "replace"), digest_size=8).digest()) >> 1 for piece in long
    }
