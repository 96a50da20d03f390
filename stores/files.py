"""Files that survive a crash: written whole, forced to disk, renamed into place, and checked by size and hash.

Knows nothing of what the files hold. Tested in tests/stores/test_files.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from branchwise.stores.errors import IndexCorrupt

LISTING = "files.json"
_UNLISTED = "chroma"  # opening Chroma changes its files: it is checked by a full scan instead


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the JSON of `value` in one rename, on disk when this returns."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises IndexCorrupt naming it, FileNotFoundError where it is gone."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IndexCorrupt(f"{path} is damaged: {error}") from error


def sync_tree(folder: Path) -> None:
    """Force every file below `folder`, and the folders themselves, to disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb+") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Force the names in `folder` to disk; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file of a generation that never changes, by its name with forward slashes."""
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _digest(path)}
        for path in _listed(folder)
    }


def check_files(folder: Path, *, contents: bool = False) -> list[str]:
    """One sentence for each file that is gone or changed: by size, and by sha256 where `contents` is asked for."""
    broken = []
    try:
        listing = read_json(folder / LISTING)
    except FileNotFoundError:
        return [f"{folder / LISTING} is gone."]
    for name, facts in listing.items():
        path = folder / name
        if not path.is_file():
            broken.append(f"{path} is gone.")
        elif (size := path.stat().st_size) != facts["size"]:
            broken.append(f"{path} has {size} bytes instead of {facts['size']}.")
        elif contents and _digest(path) != facts["sha256"]:
            broken.append(f"{path} has other contents than were written.")
    return broken


def hold(path: Path) -> int:
    """A handle that tells writers that `path` is being read, until os.close; on Windows an open file is enough."""
    handle = os.open(path, os.O_RDONLY)
    if os.name != "nt":
        import fcntl

        with suppress(OSError):  # a file system without locks; the last two generations are kept in any case
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle


def is_held(path: Path) -> bool:
    """True where some process holds `path`; False too where it is gone, or the system cannot say."""
    if os.name == "nt" or not path.exists():
        return False
    import fcntl

    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def remove_folder(folder: Path) -> None:
    """Remove a folder, or leave it whole where one of its files is open on Windows: moved away first."""
    away = folder.with_name(f"gone-{secrets.token_hex(4)}")
    try:
        os.replace(folder, away)
    except OSError:
        return
    shutil.rmtree(away, ignore_errors=True)


def _listed(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != LISTING and path.relative_to(folder).parts[0] != _UNLISTED:
            yield path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
