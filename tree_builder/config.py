"""What decides a tree: one frozen record, written into the manifest, so that the same inputs give the same tree.

Knows nothing of models, keys or budgets: those decide what a build costs, not what it is. Tested in
tests/tree_builder/test_config.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from branchwise.stores.errors import InputError
from branchwise.tree_builder.chunk import MAX_CHARS, MIN_CHARS
from branchwise.tree_builder.duplicates import THRESHOLD

TreeKind = Literal["auto", "bottom-up", "top-down", "hybrid"]
Engine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """How an index is built; the defaults are for a folder of mixed documents read by any model.

    `max_children` is LATTICE's M (the paper uses 10-20): no node has more. `max_chars` and `min_chars` bound a passage
    (characters; None keeps documents whole), `duplicate_similarity` is how alike two passages must be to
    be one leaf (1: only equal texts, 0: never merged). `soft_membership` hangs a leaf under a second parent that fits
    nearly as well. `concurrency` is how many model calls are in flight at once. It and `engine` do not change the tree.
    """

    tree: TreeKind = "auto"
    max_children: int = 16
    seed: int = 0
    soft_membership: bool = False
    embedder: str = "embedded"
    max_chars: int | None = MAX_CHARS
    min_chars: int = MIN_CHARS
    duplicate_similarity: float = THRESHOLD
    title: str = ""
    concurrency: int = 8
    engine: Engine = "local"

    def __post_init__(self) -> None:
        for name, kinds in (("tree", TreeKind), ("engine", Engine)):
            if (chosen := getattr(self, name)) not in get_args(kinds):
                raise InputError(f"unknown {name} {chosen!r}", hint=f"choose one of {', '.join(get_args(kinds))}")
        if self.max_children < 4:
            raise InputError(f"max_children is {self.max_children}", hint="choose 4 or more; 10 to 20 is usual")
        if self.max_chars is not None and not 0 <= self.min_chars <= self.max_chars // 2:
            raise InputError(
                f"passages of {self.min_chars} to {self.max_chars} characters cannot be cut",
                hint="min_chars may be at most half of max_chars",
            )
        if not 0 <= self.duplicate_similarity <= 1:
            raise InputError(f"duplicate_similarity is {self.duplicate_similarity}", hint="choose a share from 0 to 1")
        if self.concurrency < 1:
            raise InputError(f"concurrency is {self.concurrency}", hint="choose 1 or more calls in flight")

    def as_dict(self) -> dict[str, Any]:
        """All settings as plain JSON, for the manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> BuildConfig:
        """The settings of a manifest; names that this version does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in known})
