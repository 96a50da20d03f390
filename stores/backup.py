"""An index as one file: a zip of the manifest, the current generation and the paid model replies.

Restoring unpacks beside the target, checks every file by hash, and moves it into place; names that lead outside, links
and more bytes than announced are refused. Tested in tests/stores/test_backup.py.
"""

from __future__ import annotations

import lzma
import os
import secrets
import shutil
import sqlite3
import zipfile
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath

from branchwise.stores.errors import InputError
from branchwise.stores.files import LISTING, check_files, hold, sync_tree
from branchwise.stores.manifest import GENERATIONS, MANIFEST, generation_folder, read_manifest
from branchwise.stores.staging import LOCK, RESTORING, lock_index

REPLIES = "replies.sqlite"
MOST_FILES = 10_000
MOST_BYTES = 1 << 38  # 256 GiB
MOST_RATIO = 200  # unpacked bytes a packed one; text reaches 20
UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError)
"""What zipfile raises: no archive, cut short, locked, packed by unknown means, garbled."""


def backup(index: Path | str, file: Path | str) -> Path:
    """Write the current generation and the replies into `file`; its path. Readers and a writer may go on meanwhile."""
    index, file = Path(index), Path(file)
    manifest = read_manifest(index)
    generation = generation_folder(index, manifest.generation)
    if file.resolve().is_relative_to(index.resolve()):
        raise InputError(f"{file} lies inside the index it would hold.")
    held = hold(generation / LISTING)
    beside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(index / MANIFEST, MANIFEST)
            for path in sorted(generation.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(index).as_posix())
            if (index / REPLIES).exists():
                copied = beside.with_suffix(".sqlite")
                try:
                    _copy_database(index / REPLIES, copied)
                    archive.write(copied, REPLIES)
                finally:
                    copied.unlink(missing_ok=True)
        os.replace(beside, file)
    except OSError as error:
        raise InputError(f"The backup cannot be written to {file}: {error.strerror or error}.") from error
    finally:
        os.close(held)
        beside.unlink(missing_ok=True)
    return file


def restore(file: Path | str, index: Path | str) -> Path:
    """Make `index` what `file` holds, replacing an index that is there; its path.

    Raises InputError for a file that is no backup or holds what no backup holds; the old index then stays as it was.
    """
    file, index = Path(file), Path(index)
    there = {entry.name for entry in index.iterdir()} if index.exists() else set()
    if there - {LOCK} and MANIFEST not in there:  # a lock alone is what a restore that failed leaves behind
        raise InputError(f"{index} holds something that is not an index.", hint="Restore into a new folder.")
    lock = lock_index(index)
    unpacked = index / f"{RESTORING}{secrets.token_hex(4)}"
    try:
        try:
            with zipfile.ZipFile(file) as archive:
                _unpack(archive, unpacked)
        except UNREADABLE as error:
            raise InputError(f"{file} is not a backup of an index: {error}") from error
        manifest = read_manifest(unpacked)
        if broken := check_files(generation_folder(unpacked, manifest.generation), contents=True):
            raise InputError(f"{file} is damaged: {broken[0].replace(str(unpacked), '')}")
        sync_tree(unpacked)
        _move_in(unpacked, index)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        lock.release()
    return index


def _move_in(unpacked: Path, index: Path) -> None:
    """Give the generation the next free number, so that a reader of the old one keeps it, then publish."""
    manifest = read_manifest(unpacked)
    taken = [int(entry.name) for entry in (index / GENERATIONS).glob("[0-9]*") if entry.name.isdigit()]
    generation = max([manifest.generation, *(number + 1 for number in taken)])
    (index / GENERATIONS).mkdir(exist_ok=True)
    os.replace(generation_folder(unpacked, manifest.generation), generation_folder(index, generation))
    if (unpacked / REPLIES).exists():
        for leftover in (f"{REPLIES}-wal", f"{REPLIES}-shm"):
            (index / leftover).unlink(missing_ok=True)
        os.replace(unpacked / REPLIES, index / REPLIES)
    replace(manifest, generation=generation).write(index)


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """Unpack what a backup may hold, and nothing else."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    packed = sum(member.compress_size for member in members)
    total = sum(member.file_size for member in members)
    if len(members) > MOST_FILES or total > MOST_BYTES or total > MOST_RATIO * packed + (1 << 20):
        raise InputError(f"{archive.filename} would unpack to {total:,} bytes in {len(members):,} files; refused.")
    for member in members:
        name = PurePosixPath(member.filename)
        allowed = member.filename in (MANIFEST, REPLIES) or name.parts[0] == GENERATIONS
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if (
            not allowed
            or is_link
            or name.is_absolute()
            or ".." in name.parts
            or "\\" in member.filename
            or ":" in name.name
        ):
            raise InputError(f"{archive.filename} holds {member.filename!r}, which no backup holds; refused.")
        target = folder.joinpath(*name.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            if copy.tell() != member.file_size:
                raise InputError(f"{archive.filename} holds another size of {member.filename!r} than it says; refused.")


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that may be written to meanwhile."""
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as write:
        read.backup(write)
