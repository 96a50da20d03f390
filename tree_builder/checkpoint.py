"""Vectors that were paid for, or that took long, on disk before they are used: a killed build embeds nothing twice.

Replies of models have their own journal (stores.replies), and everything else of a build is quick and deterministic:
with both journals the same command run again ends in the same tree. The embedded default is not journaled, it is
faster than a disk. Tested in tests/tree_builder/test_checkpoint.py.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from branchwise.stores.embedding import Embedder
from branchwise.stores.errors import IndexCorrupt
from branchwise.tree_builder.cluster import FloatMatrix

JOURNAL = "vectors.sqlite"
BATCH = 256
"""Texts embedded before their vectors are committed: seconds of work at most are lost."""


def embed_journaled(
    embedder: Embedder, texts: Sequence[str], index_path: Path, progress: Callable[[int], None]
) -> FloatMatrix:
    """The vectors of `texts` (n, d), those that are in the journal of the index from there. Raises IndexCorrupt."""
    vectors = np.zeros((len(texts), embedder.dimension), dtype=np.float32)
    path = index_path / JOURNAL
    try:
        with closing(_open(path)) as journal:
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                keys = [_key(embedder.fingerprint, text) for text in batch]
                known = {
                    key: row
                    for key in keys
                    for row in journal.execute("SELECT vector FROM vectors WHERE key = ?", (key,))
                }
                missing = [place for place, key in enumerate(keys) if key not in known]
                if missing:
                    made = embedder.embed_texts([batch[place] for place in missing])
                    rows = [(keys[place], made[row].astype("<f4").tobytes()) for row, place in enumerate(missing)]
                    journal.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                    journal.commit()
                    vectors[[start + place for place in missing]] = made
                for place, key in enumerate(keys):
                    if key in known:
                        vectors[start + place] = np.frombuffer(known[key][0], dtype="<f4")
                progress(len(batch))
    except (sqlite3.DatabaseError, ValueError) as error:
        raise IndexCorrupt(
            f"{path} cannot be used: {error}",
            hint="It holds nothing but embeddings: delete it, and they are made again.",
        ) from error
    return vectors


def forget_vectors(index_path: Path, fingerprint: str, texts: Iterable[str]) -> None:
    """Delete the vectors of `texts` from the journal of the index, if it has one."""
    path = index_path / JOURNAL
    if path.exists():
        with closing(_open(path)) as journal:
            journal.executemany("DELETE FROM vectors WHERE key = ?", [(_key(fingerprint, text),) for text in texts])
            journal.commit()
            journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _open(path: Path) -> sqlite3.Connection:
    journal = sqlite3.connect(path)
    journal.execute("PRAGMA journal_mode=WAL")
    journal.execute("PRAGMA secure_delete=ON")
    journal.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
    return journal


def _key(fingerprint: str, text: str) -> bytes:
    return hashlib.blake2b(f"{fingerprint}\n{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
