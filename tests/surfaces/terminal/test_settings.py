"""Flags before environment before branchwise.toml before defaults, and errors that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from branchwise.agent.surfaces.settings import Settings, load_settings
from branchwise.stores.errors import InputError
from branchwise.stores.records import Budget


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BRANCHWISE_{name.upper()}", raising=False)
    return tmp_path


def test_flags_come_first(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source overrides the ones behind it, setting by setting; a flag that was not given overrides nothing."""
    (alone / "branchwise.toml").write_text("k = 1\nmax_children = 5\nmodel = 'file'\nseed = 7\n", "utf-8")
    monkeypatch.setenv("BRANCHWISE_K", "2")
    monkeypatch.setenv("BRANCHWISE_MODEL", "environment")
    settings = load_settings(k=3, model=None)
    assert (settings.k, settings.model, settings.max_children, settings.seed) == (3, "environment", 5, 7)


def test_nothing_set_is_the_embedded_default() -> None:
    """Without any setting there is no model, no limit and no network, and an index must be named."""
    settings = load_settings()
    assert settings.model is None
    assert settings.embedder == "embedded"
    assert not settings.is_limited
    assert settings.budget == Budget()
    with pytest.raises(InputError, match="Which index"):
        settings.index_path()


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [("k", "0", "BRANCHWISE_K"), ("max_cost", "cheap", "BRANCHWISE_MAX_COST"), ("tree", "oak", "BRANCHWISE_TREE")],
)
def test_a_bad_value_in_the_environment_is_named(
    name: str, value: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable and its value are in the message."""
    monkeypatch.setenv(f"BRANCHWISE_{name.upper()}", value)
    with pytest.raises(InputError, match=f"{where} is '{value}'"):
        load_settings()


def test_a_bad_flag_is_named() -> None:
    """A flag is named as it is typed."""
    with pytest.raises(InputError, match="--max-calls is -1"):
        load_settings(max_calls=-1)


@pytest.mark.parametrize("text", ["k = ", "indx = 'a'", "k = 'many'", "\xff"])
def test_a_bad_file_is_named(text: str, alone: Path) -> None:
    """A malformed file, an unknown key, a wrong value and a file that is not UTF-8 each name branchwise.toml."""
    (alone / "branchwise.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"branchwise\.toml"):
        load_settings()


def test_keys_are_no_settings(alone: Path) -> None:
    """A key in a file is refused: files are committed by mistake."""
    (alone / "branchwise.toml").write_text("api_key = 'sk-123'\n", "utf-8")
    with pytest.raises(InputError, match="api_key") as caught:
        load_settings()
    assert "sk-123" not in str(caught.value)
