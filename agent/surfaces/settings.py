"""What a command is run with: flags before environment before branchwise.toml before defaults.

Keys are no settings: they are read from the environment where they are used, and never from a file that is committed by
mistake. Tested in tests/surfaces/terminal/test_settings.py.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from branchwise.stores.errors import InputError
from branchwise.stores.records import Budget

FILE = "branchwise.toml"
PREFIX = "BRANCHWISE_"


class Settings(BaseSettings):
    """Every dial that may stand in a file or in the environment (BRANCHWISE_INDEX, BRANCHWISE_MODEL, ...).

    `model` None is the embedded default: no model, no key, no network. `base_url` None leaves it to OPENAI_BASE_URL.
    Limits are those of records.Budget; None is no limit.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", toml_file=FILE, env_ignore_empty=True)

    index: Path | None = None
    model: str | None = None
    base_url: str | None = None
    context_window: int | None = Field(default=None, ge=512)
    prompts: Path | None = None
    chroma_url: str | None = None
    embedder: str = "embedded"
    tree: Literal["auto", "bottom-up", "top-down", "hybrid"] = "auto"
    max_children: int = Field(default=16, ge=4)
    soft_membership: bool = False
    seed: int = 0
    engine: Literal["local", "ray"] = "local"
    k: int = Field(default=10, ge=1)
    max_calls: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)
    max_seconds: float | None = Field(default=None, ge=0)
    max_cost: float | None = Field(default=None, ge=0)
    offline: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, branchwise.toml; no .env file and no secrets folder."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def budget(self) -> Budget:
        """What may be spent."""
        return Budget(
            max_calls=self.max_calls, max_tokens=self.max_tokens, max_seconds=self.max_seconds, max_cost=self.max_cost
        )

    @property
    def is_limited(self) -> bool:
        """True where spending has an end."""
        return self.budget != Budget()

    def index_path(self) -> Path:
        """The index to work on. Raises InputError where none is named."""
        if self.index is None:
            raise InputError("Which index?", hint=f"Give --index DIR, or set {PREFIX}INDEX, or index in {FILE}.")
        return self.index


def load_settings(**flags: Any) -> Settings:
    """The settings in force, `flags` that are None left out. Raises InputError naming what is wrong, and where."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise InputError(_complaint(error, given)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{FILE} is not TOML: {error}.") from error
    except OSError as error:
        raise InputError(f"{FILE} cannot be read: {error.strerror}.") from error
    if settings.offline:
        os.environ[f"{PREFIX}OFFLINE"] = "1"  # where prompts.endpoint and the embedders look
    return settings


def _complaint(error: ValidationError, flags: dict[str, Any]) -> str:
    """The first thing wrong, by the name under which the user set it."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        return f"{FILE} sets {name!r}, which is no setting: choose from {', '.join(Settings.model_fields)}."
    if name in flags:
        where = "--" + name.replace("_", "-")
    elif PREFIX + name.upper() in os.environ:
        where = PREFIX + name.upper()
    else:
        where = f"{name} in {FILE}"
    said = first["msg"].removeprefix("Input ")
    return f"{where} is {first['input']!r}, but {said}."
