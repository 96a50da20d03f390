"""From documents to a published index: read, embed, shape, write, publish.

    sources -> corpus -> vectors -> outline -> texts -> staging -> published generation

Everything that costs money is in the reply cache before it is used, so the same command run again continues where a
crash, a limit or Ctrl-C ended it and pays nothing twice. The published index changes in one rename, at the end.
Tested in tests/tree_builder/test_build.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchwise.prompts.budget import Meter
from branchwise.stores.embedding import Embedder, make_embedder
from branchwise.stores.errors import InputError, StoreError
from branchwise.stores.index import Index
from branchwise.stores.manifest import Manifest
from branchwise.stores.records import Budget, Usage
from branchwise.stores.replies import ReplyStore
from branchwise.stores.staging import Staging
from branchwise.tree_builder.checkpoint import embed_journaled
from branchwise.tree_builder.cluster import FloatMatrix, one_by_one
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import Corpus, Sources, read_corpus
from branchwise.tree_builder.estimate import estimate_passages
from branchwise.tree_builder.events import EventStream, OnEvent
from branchwise.tree_builder.model_summariser import ModelSummariser
from branchwise.tree_builder.publish import Generation, writing
from branchwise.tree_builder.ray_engine import RaySummariser, each_on_ray, embed_on_ray
from branchwise.tree_builder.shape import shape
from branchwise.tree_builder.sources import Skipped
from branchwise.tree_builder.summarise import ExtractiveSummariser, Summariser
from branchwise.tree_builder.terms import TermTable
from branchwise.tree_builder.write import write_texts

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker

EMBEDDED_AT_ONCE = 32_768
"""Texts whose vectors are in memory at once, on their way to disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build, an addition or a removal did.

    `counts` are those of the manifest; `came`, `replaced` and `gone` name documents that an addition or a removal
    brought, put in the place of others, or took away. `written_by` counts inner nodes by who wrote them; `partial` is
    True where a limit ended the model's part and the embedded summariser wrote the rest; `unchanged` where nothing had
    to be done.
    """

    path: Path
    generation: int
    counts: Mapping[str, int]
    skipped: tuple[Skipped, ...] = ()
    came: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    written_by: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    partial: bool = False
    unchanged: bool = False
    notes: tuple[str, ...] = ()


async def build(
    sources: Sources,
    index_path: Path | str,
    config: BuildConfig | None = None,
    *,
    asker: Asker | None = None,
    embedder: Embedder | None = None,
    vectors: FloatMatrix | None = None,
    base_url: str | None = None,
    chroma_url: str | None = None,
    meter: Meter | None = None,
    on_event: OnEvent | None = None,
) -> BuildReport:
    """Build an index of `sources` (paths or documents) at `index_path`, in place of what is there.

    Without `asker` no model is used. `embedder` overrides the one that `config` names; `vectors` (n, d) are the
    passages' own vectors where they are known, in the order in which they are cut. Raises InputError, IndexLocked,
    ModelRefused (the model will never answer), and what stores.staging raises.
    """
    started = time.monotonic()
    config = config or BuildConfig()
    events = EventStream(on_event)
    meter = meter or Meter()
    each = each_on_ray if config.engine == "ray" else one_by_one
    async with writing(index_path, chroma_url=chroma_url) as writer:
        corpus = await asyncio.to_thread(read_corpus, sources, config, events, writer.staging.database)
        recipe = _recipe(corpus, config, asker)
        if (same := _unchanged(writer.staging, recipe)) is not None:
            events.emit("unchanged", path=str(index_path), generation=same.generation)
            return BuildReport(
                path=Path(index_path),
                generation=same.generation,
                counts=same.counts,
                skipped=corpus.skipped,
                seconds=time.monotonic() - started,
                unchanged=True,
            )
        limit = estimate_passages(corpus.passages, config, asker).limit
        if embedder is None:
            embedder = await asyncio.to_thread(make_embedder, config.embedder, texts=corpus.texts, base_url=base_url)
        rows = vectors
        if rows is None:
            rows = writer.staging.new_leaf_vectors(len(corpus.texts), embedder.dimension)
            await asyncio.to_thread(embed_passages, embedder, corpus.texts, rows, Path(index_path), config, events)
        else:
            check_given(rows, len(corpus.texts), embedder)
        table = await asyncio.to_thread(TermTable.count, corpus.texts)
        on_ray = config.engine == "ray" and asker is None  # what a model writes waits for a network, not a processor
        extractive = (RaySummariser if on_ray else ExtractiveSummariser)(table, embedder.embed_texts)
        working = replace(config, concurrency=RaySummariser.wishes) if on_ray else config
        with summarising(asker, extractive, Path(index_path), meter, limit) as summariser:
            window = asker.context_window if asker else None
            outline = await shape(corpus.passages, rows, summariser, working, events, window=window, each=each)
            summaries = await write_texts(
                outline, corpus.passages, summariser, concurrency=working.concurrency, events=events
            )
        notes = tell(summariser, events)
        manifest = Manifest(
            config={**config.as_dict(), "recipe": None if notes else recipe},
            models={"embed": embedder.name, "summarise": summariser.name},
            prompts=asker.hashes() if asker else {},
            title=config.title,
        )
        generation = Generation(
            passages=corpus.passages,
            texts=corpus.texts,
            vectors=rows,
            embedder=embedder,
            outline=outline,
            summaries=summaries,
            max_children=config.max_children,
        )
        published = await writer.publish(generation, manifest, events)
    written_by = Counter(summary.written_by for summary in summaries.values())
    return BuildReport(
        path=Path(index_path),
        generation=published.generation,
        counts=published.counts,
        skipped=corpus.skipped,
        written_by=dict(written_by),
        usage=meter.spent,
        seconds=time.monotonic() - started,
        partial=isinstance(summariser, ModelSummariser) and summariser.stopped,
        notes=notes,
    )


def check_given(vectors: FloatMatrix, passages: int, embedder: Embedder) -> None:
    """Raise InputError unless `vectors` are as many as the passages, and as long as the embedder's."""
    if vectors.shape != (passages, embedder.dimension):
        raise InputError(
            f"{passages} passages by an embedder of {embedder.dimension} dimensions need vectors of that shape, "
            f"not {vectors.shape}"
        )


def embed_passages(
    embedder: Embedder,
    texts: Sequence[str],
    vectors: FloatMatrix,
    index_path: Path,
    config: BuildConfig,
    events: EventStream,
) -> None:
    """Fill `vectors` (n, d), float32 and unit, with those of `texts`, a piece at a time."""
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        events.emit("embedded", done=done, total=len(texts))

    # What a server embeds is paid for and waits for a network: journaled here, whatever the engine.
    on_ray = config.engine == "ray" and not embedder.name.startswith("openai:")
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        piece = texts[start : start + EMBEDDED_AT_ONCE]
        if on_ray:
            made = embed_on_ray(embedder, piece, progress)
        elif embedder.name == "embedded":
            made = embedder.embed_texts(piece, progress=progress)
        else:
            made = embed_journaled(embedder, piece, index_path, progress)
        vectors[start : start + len(piece)] = made


@contextmanager
def summarising(
    asker: Asker | None, extractive: ExtractiveSummariser, index_path: Path, meter: Meter, limit: Budget
) -> Iterator[Summariser]:
    """The summariser of a build: the model's, within `meter` and `limit`, every reply kept beside the index; or none.

    An asker that brings no reply cache uses that of the index for as long as the block lasts.
    """
    if asker is None:
        yield extractive
        return
    bounded = Meter(limit, parent=meter)
    if asker.cache is not None:
        yield ModelSummariser(asker, extractive, meter=bounded)
        return
    with ReplyStore(index_path / "replies.sqlite") as replies:
        asker.cache = replies
        try:
            yield ModelSummariser(asker, extractive, meter=bounded)
        finally:
            asker.cache = None


def tell(summariser: Summariser, events: EventStream) -> tuple[str, ...]:
    """What the user should know of a model's work: where the embedded summariser stood in, and why."""
    if not isinstance(summariser, ModelSummariser):
        return ()
    notes = []
    if bad := sum(count for reason, count in summariser.failures.items() if reason != "budget"):
        notes.append(f"{bad} replies of {summariser.name} could not be used; the embedded summariser stood in.")
    if summariser.stopped:
        notes.append(
            "A limit was reached: the embedded summariser wrote the rest. "
            "The same command with a higher limit continues where this one ended."
        )
    for note in notes:
        events.emit("note", text=note)
    return tuple(notes)


def _recipe(corpus: Corpus, config: BuildConfig, asker: Asker | None) -> dict[str, Any]:
    """All that decides the index: equal recipes give equal trees, so nothing has to be done again."""
    settings = config.as_dict()
    return {
        "corpus": corpus.hash,
        "settings": {name: settings[name] for name in settings if name not in ("concurrency", "engine")},
        "model": asker.name if asker else "",
        "prompts": asker.hashes() if asker else {},
    }


def _unchanged(staging: Staging, recipe: Mapping[str, Any]) -> Manifest | None:
    """The published manifest, if it was made by this very recipe and its index opens."""
    previous = staging.previous
    if previous is None or previous.config.get("recipe") != recipe:
        return None
    try:
        Index.open(staging.path).close()
    except StoreError:
        return None
    return previous
