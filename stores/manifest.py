"""The manifest: what an index is, which generation is current, and with what it was made.

Replacing this one file is what publishes a generation. Tested in tests/stores/test_index.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from branchwise.stores.errors import IndexCorrupt, IndexMismatch, IndexMissing
from branchwise.stores.files import read_json, write_json

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
GENERATIONS = "generations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A builder gives `config`, `models`, `prompts` and `title`; publishing fills in everything else.

    `models` maps a role to the name of the model that played it, `prompts` a prompt's name to its sha256, `embedding`
    holds name, dimension and fingerprint, `counts` documents, passages, leaves, inner nodes and depth. `index_id` stays
    the same for the life of the index.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    format_version: int = FORMAT_VERSION
    index_id: str = ""
    generation: int = 0
    created: str = ""
    branchwise_version: str = ""
    embedding: Mapping[str, Any] = field(default_factory=dict)
    corpus_hash: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def collection(self, chroma_url: str | None, generation: int | None = None) -> str:
        """Name of the Chroma collections, without their suffix: a server is shared, a generation's folder is not."""
        if chroma_url is None:
            return "branchwise"
        return f"branchwise-{self.index_id}-{self.generation if generation is None else generation}"

    def write(self, index: Path) -> None:
        """Publish: one atomic rename."""
        write_json(index / MANIFEST, asdict(self))


def read_manifest(index: Path) -> Manifest:
    """The manifest of the index at `index`. Raises IndexMissing, IndexMismatch or IndexCorrupt."""
    path = index / MANIFEST
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f'branchwise build SOURCE --index "{index}"'
        raise IndexMissing(f"There is no index at {index}.", hint=hint) from error
    if not isinstance(found, dict) or not isinstance(found.get("format_version"), int):
        raise IndexCorrupt(f"{path} is not the manifest of an index.")
    if found["format_version"] != FORMAT_VERSION:
        raise IndexMismatch(
            f"{path} has format version {found['format_version']}; this Branchwise reads version {FORMAT_VERSION}.",
            hint=f'branchwise build SOURCE --index "{index}"  (model replies are kept)',
        )
    names = {entry.name for entry in fields(Manifest)}
    missing = sorted(names - found.keys())
    if missing:
        raise IndexCorrupt(f"{path} lacks {', '.join(missing)}.")
    return Manifest(**{name: found[name] for name in names})


def generation_folder(index: Path, generation: int) -> Path:
    """Where a generation lies."""
    return index / GENERATIONS / str(generation)
