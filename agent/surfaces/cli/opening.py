"""What the settings name, opened: the model with its cache, limits and prompts, and the engine over an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchwise.stores.errors import InputError

if TYPE_CHECKING:
    from branchwise.agent.engine import Engine
    from branchwise.agent.surfaces.settings import Settings
    from branchwise.prompts.ask import Asker
    from branchwise.stores.index import Index
    from branchwise.stores.records import Filters


def load_settings(**flags: Any) -> Settings:
    """The settings in force. pydantic is imported here, and not where `branchwise --help` would wait for it."""
    from branchwise.agent.surfaces import settings

    return settings.load_settings(**flags)


def open_asker(settings: Settings, index: Path | None, *, key: str | None = None) -> Asker | None:
    """The model that the settings name, None for the embedded default. Opens no connection.

    Replies are kept in the reply cache of `index`; None keeps nothing. `key` stands in for OPENAI_API_KEY.
    """
    if settings.model is None:
        return None
    from branchwise.agent.facade import open_asker as open_cached
    from branchwise.prompts.ask import Asker
    from branchwise.prompts.library import PromptLibrary
    from branchwise.prompts.openai_chat import open_model

    if index is None:
        options: dict[str, Any] = {"key": key} if key else {}
        model = open_model(settings.model, settings.base_url, **options)
        asker: Asker | None = Asker(model, library=PromptLibrary(settings.prompts))
    else:
        asker = open_cached(settings.model, settings.base_url, prompts=settings.prompts, index_path=index)
    if asker is not None and settings.context_window is not None:
        asker.model.context_window = settings.context_window
    if asker is not None and settings.max_cost is not None and asker.price is None:
        raise InputError(
            f"--max-cost is set, but the price of {settings.model} is unknown.",
            hint="Name a price list in BRANCHWISE_PRICES, or set --max-calls or --max-tokens instead.",
        )
    return asker


def open_index(settings: Settings) -> Index:
    """The index that the settings name. Raises IndexMissing and its kin."""
    from branchwise.stores.index import Index

    return Index.open(settings.index_path(), chroma_url=settings.chroma_url)


@contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """The engine over the index that the settings name, with their model. Raises IndexMissing and its kin."""
    from branchwise.agent.engine import Engine

    with open_index(settings) as index:
        yield Engine(index, asker=open_asker(settings, index.path))


def read_filters(pairs: list[str] | None) -> Filters:
    """{"year": "2020", "kind": ("a", "b")} from ["year=2020", "kind=a", "kind=b"]. Raises InputError."""
    filters: dict[str, tuple[str, ...]] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(f"--filter {pair!r} is not KEY=VALUE.")
        filters[key] = (*filters.get(key, ()), value)
    return {key: values[0] if len(values) == 1 else values for key, values in filters.items()}
