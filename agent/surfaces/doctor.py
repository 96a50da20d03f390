"""Is everything here that Branchwise needs, and is it safe? The checks behind `branchwise doctor`.

Looks at this machine alone; what a model server can do is found out by prompts.doctor. Tested in
tests/surfaces/terminal/test_doctor.py.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from branchwise.prompts.prices import is_loopback
from branchwise.stores.errors import StoreError

if TYPE_CHECKING:
    from branchwise.agent.surfaces.settings import Settings

Status = Literal["ok", "note", "warning", "fault"]

LOW_SPACE = 2_000_000_000  # bytes: an index of 100,000 passages takes about one billion, and a build holds two of them
CHROMA_PORT = 8000  # where `chroma run` listens unless told otherwise
LONGEST_ANSWER = 65_536  # bytes
ANSWER_WITHIN = 3.0  # seconds; a server of this machine answers at once unless the machine is busy

# What an extra brings that nothing else does.
EXTRAS = {
    "minilm": "sentence_transformers",
    "vllm": "vllm",
    "langchain": "langchain_core",
    "serve": "fastapi",
    "mcp": "mcp",
    "files": "pypdfium2",
    "bench": "ir_measures",
    "ray": "ray",
    "otel": "opentelemetry",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. `hint` is the next command or step; `exit_code` what a fault ends the command with."""

    name: str
    status: Status
    detail: str
    hint: str = ""
    exit_code: int = 2


def examine(settings: Settings) -> Iterator[Check]:
    """Every check of this machine that the settings call for."""
    yield Check(name="python", status="ok", detail=f"{sys.version.split()[0]}, {sys.platform}")
    yield _packages()
    yield _extras()
    yield _space(settings.index or Path.cwd())
    yield from _chroma(settings.chroma_url)
    yield _key(settings)
    if settings.index is not None:
        yield _index(settings)


def _packages() -> Check:
    """The core dependencies: all there, with versions."""
    names = [line.split(";")[0] for line in requires("branchwise") or () if "extra ==" not in line]
    found, missing = [], []
    for requirement in names:
        name = requirement.split("[")[0].split("<")[0].split(">")[0].split("=")[0].split("!")[0].split("~")[0].strip()
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    own = f"branchwise {version('branchwise')}"
    if missing:
        return Check(
            name="packages",
            status="fault",
            detail=f"{own}, but not installed: {', '.join(missing)}",
            hint="pip install --force-reinstall branchwise",
        )
    return Check(name="packages", status="ok", detail=", ".join([own, *found]))


def _extras() -> Check:
    there = [name for name, module in EXTRAS.items() if find_spec(module) is not None]
    absent = [name for name in EXTRAS if name not in there]
    return Check(
        name="extras",
        status="ok",
        detail=f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}",
        hint=f'pip install "branchwise[{absent[0]}]"' if absent and not there else "",
    )


def _space(path: Path) -> Check:
    """Room for an index where it is to be, and leave to write there."""
    folder = path.absolute()
    while not folder.is_dir():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Check(name="disk", status="fault", detail=f"{folder} cannot be written to.")
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free at {folder}"
    if free < LOW_SPACE:
        hint = "100,000 passages take about 1 GB, and a build holds the old index and the new one."
        return Check(name="disk", status="warning", detail=detail, hint=hint)
    return Check(name="disk", status="ok", detail=detail)


def _chroma(url: str | None) -> Iterator[Check]:
    """Whether others could reach a Chroma server: up to 1.5.9 it runs code for whoever asks (CVE-2026-45829)."""
    hint = "chroma run --host 127.0.0.1 ...: its server runs code for whoever can reach it (CVE-2026-45829)."
    if url is not None and not is_loopback(url):
        host = urlsplit(url).hostname or url
        detail = f"the Chroma server is on {host}: keep its port closed to everyone but this machine"
        yield Check(name="chroma", status="warning", detail=detail, hint=hint)
        return
    port = (urlsplit(url).port if url else None) or CHROMA_PORT
    exposed = [address for address in _own_addresses() if _is_chroma(address, port)]
    if exposed:
        detail = f"a Chroma server on this machine answers at {exposed[0]}:{port}, where others can reach it"
        yield Check(name="chroma", status="warning", detail=detail, hint=hint)
    else:
        where = f"server {url}" if url else "embedded"
        yield Check(name="chroma", status="ok", detail=f"{where}; no server open to others at port {port}")


def _own_addresses() -> list[str]:
    """Addresses of this machine other than loopback."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    except OSError:
        return []
    return sorted(address for address in found if not is_loopback(address))


def _is_chroma(host: str, port: int) -> bool:
    """True where a Chroma server answers; asks this machine only."""
    request = f"GET /api/v2/heartbeat HTTP/1.0\r\nHost: {host}\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=ANSWER_WITHIN) as connection:
            connection.settimeout(ANSWER_WITHIN)
            connection.sendall(request.encode("ascii"))
            said = b""
            while len(said) < LONGEST_ANSWER and (piece := connection.recv(4096)):  # head and body may come apart
                said += piece
            return b"nanosecond heartbeat" in said
    except OSError:
        return False


def _key(settings: Settings) -> Check:
    """What will be used, and whether there is a key for it; never the key."""
    key = "a key is set" if os.environ.get("OPENAI_API_KEY") else "no key is set"
    if not settings.model:
        return Check(name="model", status="ok", detail="none: the embedded default needs no key and no network")
    where = settings.base_url or os.environ.get("OPENAI_BASE_URL") or "OpenAI"
    return Check(name="model", status="ok", detail=f"{settings.model} at {where}, {key}")


def _index(settings: Settings) -> Check:
    """The index opens, and everything in it can be read back."""
    from branchwise.stores.index import Index

    path = settings.index_path()
    try:
        with Index.open(path, chroma_url=settings.chroma_url) as index:
            faults = index.verify()
            manifest = index.manifest
    except StoreError as error:
        return Check(name="index", status="fault", detail=error.message, hint=error.hint, exit_code=error.exit_code)
    if faults:
        detail = f"{faults[0]}{f' ({len(faults)} faults in all)' if len(faults) > 1 else ''}"
        return Check(
            name="index", status="fault", detail=detail, hint=f'branchwise build SOURCE --index "{path}"', exit_code=3
        )
    counts = ", ".join(f"{number:,} {name}" for name, number in manifest.counts.items())
    return Check(name="index", status="ok", detail=f"{path}: sound, generation {manifest.generation}, {counts}")
