"""Backup and restore: one file, whole, and nothing that leads outside."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from branchwise.stores.backup import backup, restore
from branchwise.stores.errors import IndexLocked, IndexMissing, InputError
from branchwise.stores.index import Index
from branchwise.stores.manifest import read_manifest
from branchwise.stores.staging import stage
from tests.stores.conftest import TEXTS, write_index


def test_round_trip_keeps_everything(index_path: Path, tmp_path: Path) -> None:
    """Texts, vectors and paid replies come back under another name."""
    with sqlite3.connect(index_path / "replies.sqlite") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE replies (body)")
        database.execute("INSERT INTO replies VALUES ('paid')")
    database.close()
    file = backup(index_path, tmp_path / "sub folder" / "b.zip")
    path = restore(file, tmp_path / "new ü")
    with Index.open(path) as index:
        assert index.verify() == []
        assert index.texts(["p:d4"]) == {"p:d4": TEXTS[4]}
    with sqlite3.connect(path / "replies.sqlite") as database:
        assert database.execute("SELECT body FROM replies").fetchall() == [("paid",)]
    database.close()
    assert [entry.name for entry in file.parent.iterdir()] == ["b.zip"]


def test_restoring_over_an_index_replaces_it_and_spares_its_readers(index_path: Path, tmp_path: Path) -> None:
    """The restored generation takes the next number; an open reader reads on."""
    file = backup(index_path, tmp_path / "b.zip")
    write_index(index_path, TEXTS[:2])
    with Index.open(index_path) as old:
        restore(file, index_path)
        assert old.texts(["p:d1"]) == {"p:d1": TEXTS[1]}
    assert read_manifest(index_path).generation == 3
    with Index.open(index_path) as index:
        assert len(index.tree.leaf_ids) == 6
        assert index.verify() == []


def test_backup_of_nothing_is_missing(tmp_path: Path) -> None:
    """There is no index to back up, and no file is left."""
    with pytest.raises(IndexMissing):
        backup(tmp_path, tmp_path / "b.zip")
    assert list(tmp_path.iterdir()) == []


def test_backup_into_the_index_is_refused(index_path: Path) -> None:
    """It would hold itself."""
    with pytest.raises(InputError, match="inside"):
        backup(index_path, index_path / "b.zip")


def test_restore_waits_for_no_writer(index_path: Path, tmp_path: Path) -> None:
    """A writer at work is IndexLocked."""
    file = backup(index_path, tmp_path / "b.zip")
    with stage(index_path), pytest.raises(IndexLocked):
        restore(file, index_path)


def test_a_folder_of_something_else_is_left_alone(index_path: Path, tmp_path: Path) -> None:
    """Restoring never empties a folder that is not an index."""
    file = backup(index_path, tmp_path / "b.zip")
    target = tmp_path / "photos"
    target.mkdir()
    (target / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(InputError, match="not an index"):
        restore(file, target)
    assert [entry.name for entry in target.iterdir()] == ["cat.jpg"]


def _with(name: str, content: bytes = b"x", attributes: int = 0o644 << 16) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        """Add one hostile member."""
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = attributes
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, content)

    return add


@pytest.mark.parametrize(
    "hostile",
    [
        _with("../outside.txt"),
        _with("generations/../../outside.txt"),
        _with("/etc/outside.txt"),
        _with("generations/..\\outside.txt"),
        _with("C:outside.txt"),
        _with("lock"),
        _with("generations/1/link", b"/etc/passwd", 0o120777 << 16),
        _with("generations/1/bomb", b"0" * (64 << 20)),
    ],
)
def test_hostile_archives_are_refused(
    index_path: Path, tmp_path: Path, hostile: Callable[[zipfile.ZipFile], None]
) -> None:
    """Paths that lead outside, links, bombs and strangers: refused, nothing written, the old index as it was."""
    file = backup(index_path, tmp_path / "b.zip")
    with zipfile.ZipFile(file, "a") as archive:
        hostile(archive)
    with pytest.raises(InputError, match="refused"):
        restore(file, index_path)
    assert not list(tmp_path.rglob("outside*"))
    assert not list(index_path.glob("restoring-*"))
    with Index.open(index_path) as index:
        assert index.verify() == []


def _marked(archive: bytes, *, flags: bytes = b"", method: bytes = b"") -> bytes:
    """The archive with other flags or another method in the headers of every entry, before it and in the directory."""
    changed = bytearray(archive)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = archive.find(mark)
        while start >= 0:
            if flags:
                changed[start + at : start + at + 2] = flags
            if method:
                changed[start + at + 2 : start + at + 4] = method
            start = archive.find(mark, start + 4)
    return bytes(changed)


def _garbled(file: Path) -> bytes:
    """The archive with its first packed entry turned to noise."""
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = next(info for info in archive.infolist() if info.compress_type == zipfile.ZIP_DEFLATED)
    start = entry.header_offset + 30 + len(entry.filename.encode())
    content[start : start + entry.compress_size] = b"\xff" * entry.compress_size
    return bytes(content)


def test_damaged_archives_are_refused(index_path: Path, tmp_path: Path) -> None:
    """Not a zip, cut short, locked, packed in an unknown way, garbled, or with other contents: one clear error."""
    file = backup(index_path, tmp_path / "b.zip")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(file.read_bytes()[:-200])
    stranger = tmp_path / "stranger.zip"
    stranger.write_text("hello", encoding="utf-8")
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(changed, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            target.writestr(info, content[:-1] + b"!" if info.filename.endswith("vectors.npy") else content)
    locked, unknown = tmp_path / "locked.zip", tmp_path / "unknown.zip"
    locked.write_bytes(_marked(file.read_bytes(), flags=b"\x01\x00"))
    unknown.write_bytes(_marked(file.read_bytes(), method=b"\x63\x00"))
    garbled = tmp_path / "garbled.zip"
    garbled.write_bytes(_garbled(file))
    for bad in (cut, stranger, changed, locked, unknown, garbled, tmp_path / "none.zip"):
        with pytest.raises(InputError, match=rf"{bad.name} is (not a backup|damaged)"):
            restore(bad, tmp_path / "new")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["lock"]
    restore(file, tmp_path / "new")
    with Index.open(tmp_path / "new") as index:
        assert index.verify() == []


def test_a_backup_holds_no_lock_and_no_old_generation(index_path: Path, tmp_path: Path) -> None:
    """The current generation alone."""
    write_index(index_path, TEXTS[:2])
    with zipfile.ZipFile(backup(index_path, tmp_path / "b.zip")) as archive:
        names = archive.namelist()
        assert json.loads(archive.read("manifest.json"))["generation"] == 2
    assert {name.split("/")[0] for name in names} == {"manifest.json", "generations"}
    assert {name.split("/")[1] for name in names if "/" in name} == {"2"}
