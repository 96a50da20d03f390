"""The settings of a build."""

from __future__ import annotations

import json

import pytest

from branchwise.stores.errors import InputError
from branchwise.tree_builder.config import BuildConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"tree": "sideways"},
        {"engine": "steam"},
        {"max_children": 3},
        {"min_chars": 900, "max_chars": 1_000},
        {"duplicate_similarity": 1.5},
        {"concurrency": 0},
    ],
)
def test_impossible_settings_are_the_callers_fault(settings: dict[str, object]) -> None:
    """A setting that no tree can be built with is an InputError that says what to choose."""
    with pytest.raises(InputError) as caught:
        BuildConfig(**settings)  # type: ignore[arg-type]
    assert caught.value.hint


def test_settings_survive_the_manifest() -> None:
    """Settings come back from JSON as they were, and names of other versions are passed over."""
    config = BuildConfig(tree="hybrid", max_children=7, max_chars=None, soft_membership=True)
    kept = json.loads(json.dumps({**config.as_dict(), "recipe": {"a": 1}, "from_the_future": 3}))
    assert BuildConfig.from_dict(kept) == config
