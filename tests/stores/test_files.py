"""Files written whole, listed, checked and held."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from branchwise.stores.errors import IndexCorrupt
from branchwise.stores.files import (
    LISTING,
    check_files,
    hold,
    is_held,
    list_files,
    read_json,
    remove_folder,
    write_json,
)


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    """A value that cannot be written leaves the old file as it was."""
    path = tmp_path / "ü.json"
    write_json(path, {"a": "é"})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": "é"}


def test_damaged_json_is_named(tmp_path: Path) -> None:
    """Invalid JSON and invalid UTF-8 alike."""
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(IndexCorrupt, match=r"x\.json"):
            read_json(tmp_path / "x.json")


def test_changes_to_listed_files_are_found(tmp_path: Path) -> None:
    """Size at once, contents when asked for; Chroma's own files are left out."""
    (tmp_path / "chroma").mkdir()
    for name in ("a.bin", "b.bin", "c.bin", "chroma/own.bin"):
        (tmp_path / name).write_bytes(b"1234")
    (tmp_path / LISTING).write_text(json.dumps(list_files(tmp_path)), encoding="utf-8")
    (tmp_path / "chroma" / "own.bin").write_bytes(b"56")
    assert check_files(tmp_path, contents=True) == []
    (tmp_path / "a.bin").write_bytes(b"123")
    (tmp_path / "b.bin").unlink()
    (tmp_path / "c.bin").write_bytes(b"1235")
    assert [Path(line.split()[0]).name for line in check_files(tmp_path)] == ["a.bin", "b.bin"]
    assert len(check_files(tmp_path, contents=True)) == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps open files by itself")
def test_a_held_file_is_seen_as_held(tmp_path: Path) -> None:
    """By any number of readers, until the last lets go."""
    path = tmp_path / "x"
    path.write_text("x", encoding="utf-8")
    assert not is_held(path)
    first, second = hold(path), hold(path)
    os.close(first)
    assert is_held(path)
    os.close(second)
    assert not is_held(path)
    assert not is_held(tmp_path / "nowhere")


def test_a_removed_folder_is_gone(tmp_path: Path) -> None:
    """With everything in it; one that is not there does no harm."""
    (tmp_path / "1" / "chroma").mkdir(parents=True)
    remove_folder(tmp_path / "1")
    remove_folder(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []
