"""A living corpus: documents added, replaced and removed, with only what they touch written anew.

Added passages are placed by search-and-insert: into the leaf cluster that a search for them would open first. A model
is asked again only for nodes that are new or have changed by more than a fifth since it wrote them; elsewhere a line on
the new child is added. A removal rewrites every node above what is gone, so that nothing of it is left. Each call is
one pass and one new generation, published whole or not at all. Tested in tests/tree_builder/test_update.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from branchwise.prompts.budget import Meter
from branchwise.stores.embedding import Embedder, make_embedder
from branchwise.stores.errors import IndexMissing
from branchwise.stores.manifest import Manifest
from branchwise.stores.records import Budget, Document, Passage
from branchwise.stores.staging import Staging
from branchwise.tree_builder.bottom_up import document_runs, group_centres
from branchwise.tree_builder.build import EMBEDDED_AT_ONCE, BuildReport, summarising, tell
from branchwise.tree_builder.change import Change, write_change
from branchwise.tree_builder.cluster import FloatMatrix, Sizes
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.corpus import Sources, corpus_aside, group_of
from branchwise.tree_builder.events import EventStream, OnEvent
from branchwise.tree_builder.graft import Graft
from branchwise.tree_builder.model_summariser import ModelSummariser
from branchwise.tree_builder.outline import NodeSummary, Outline, RowArray, leaf_id
from branchwise.tree_builder.publish import Generation, Writer, writing
from branchwise.tree_builder.sources import Skipped
from branchwise.tree_builder.stored import Stored, forget, purge, read_stored
from branchwise.tree_builder.summarise import ExtractiveSummariser, compose
from branchwise.tree_builder.terms import TermTable
from branchwise.tree_builder.write import child_text, write_texts

if TYPE_CHECKING:
    from branchwise.prompts.ask import Asker

STALE = 0.2
"""Share of a node's leaves that may come before its text is written anew."""

Locate = Callable[[Sequence[Passage]], Awaitable[Sequence[str]]]
"""For each passage the id of the leaf cluster that it belongs to."""


async def add(
    index_path: Path | str,
    sources: Sources,
    *,
    asker: Asker | None = None,
    locate: Locate | None = None,
    embedder: Embedder | None = None,
    chroma_url: str | None = None,
    meter: Meter | None = None,
    on_event: OnEvent | None = None,
) -> BuildReport:
    """Add the documents of `sources` to an index; one whose id is there replaces it, one that is equal changes nothing.

    `locate` places passages (an LLM's search, say); without it they go to the nearest cluster by their vectors. Raises
    what build raises, and IndexMissing.
    """
    started = time.monotonic()
    events = EventStream(on_event)
    async with writing(index_path, chroma_url=chroma_url) as writer:
        with closing(await asyncio.to_thread(read_stored, index_path, chroma_url, embedder)) as old:
            config = BuildConfig.from_dict(old.manifest.config)
            came, skipped = await asyncio.to_thread(_read_new, sources, config, events, old)
            if not came:
                return _unchanged(index_path, old, skipped, started, events)
            change = await asyncio.to_thread(
                write_change, old, writer.staging.database, config, gone=set[str](), came=came
            )
            return await _carry_out(
                old, change, config, writer, started, events, asker, locate, meter or Meter(), skipped
            )


async def remove(
    index_path: Path | str,
    doc_ids: Iterable[str],
    *,
    asker: Asker | None = None,
    embedder: Embedder | None = None,
    chroma_url: str | None = None,
    meter: Meter | None = None,
    on_event: OnEvent | None = None,
) -> BuildReport:
    """Remove documents: no text of theirs is left in store, summaries, embedder, reply cache or older generations.

    Raises IndexMissing for an id that is not there; then nothing is changed.
    """
    started = time.monotonic()
    events = EventStream(on_event)
    gone = set(doc_ids)
    async with writing(index_path, chroma_url=chroma_url) as writer:
        with closing(await asyncio.to_thread(read_stored, index_path, chroma_url, embedder)) as old:
            purge(Path(index_path), old.manifest.generation)
            if unknown := next((doc_id for doc_id in sorted(gone) if old.document(doc_id) is None), None):
                raise IndexMissing(f"There is no document {unknown!r} in {index_path}.", hint=_near(unknown, old))
            if not gone:
                return _unchanged(index_path, old, (), started, events)
            config = BuildConfig.from_dict(old.manifest.config)
            change = await asyncio.to_thread(write_change, old, writer.staging.database, config, gone=gone)
            return await _carry_out(old, change, config, writer, started, events, asker, None, meter or Meter(), ())


def _near(doc_id: str, old: Stored) -> str:
    """The documents whose ids are most like one that is not there."""
    ids = [document.doc_id for document in old.documents]
    same_name = [known for known in ids if known.rsplit("/", 1)[-1] == doc_id.rsplit("/", 1)[-1]]
    near = same_name or get_close_matches(doc_id, ids)
    ids_are = "A file's id is its path within the folder that was indexed."
    return f"{ids_are} Was it {', '.join(map(repr, near[:3]))}?" if near else ids_are


def _read_new(
    sources: Sources, config: BuildConfig, events: EventStream, old: Stored
) -> tuple[list[Document], tuple[Skipped, ...]]:
    """The documents of `sources` that are not in the index already as they are, and what was left out."""
    with corpus_aside(sources, config, events) as corpus:
        came = [document for document in corpus.documents if not _equal(old.document(document.doc_id), document)]
        return came, corpus.skipped


async def _carry_out(
    old: Stored,
    change: Change,
    config: BuildConfig,
    writer: Writer,
    started: float,
    events: EventStream,
    asker: Asker | None,
    locate: Locate | None,
    meter: Meter,
    skipped: tuple[Skipped, ...],
) -> BuildReport:
    index_path, passages = writer.staging.path, change.passages
    embedder, vectors = await asyncio.to_thread(_vectors, old, change, writer.staging, events)
    row_of = {leaf_id(passage.passage_id): row for row, passage in enumerate(passages)}
    graft = Graft(
        old.children,
        vectors,
        row_of,
        old.homes,
        max_children=config.max_children,
        seed=config.seed,
        salt=f"generation {writer.staging.generation}",
    )
    above_gone = _ancestors(graft, change.goes)
    for leaf in change.goes:
        graft.remove(leaf)
    graft.settle()
    await _insert(graft, passages, vectors, change.comes, locate, config.max_children)
    outline = await asyncio.to_thread(graft.settle)
    rows = outline.leaf_rows(row_of)
    stale = Counter({**old.manifest.config.get("stale", {})}) + Counter(graft.changed)
    rewritten = _rewritten(graft, rows, stale, above_gone, old, by_model=asker is not None)
    if change.gone:
        await asyncio.to_thread(forget, index_path, asker, old, change.gone, rewritten | above_gone)
    extractive = ExtractiveSummariser(await asyncio.to_thread(TermTable.count, change.texts), embedder.embed_texts)
    known = {
        node_id: summary
        for node_id, summary in old.summaries.items()
        if node_id in outline.children and node_id not in rewritten
    }
    with summarising(asker, extractive, index_path, meter, Budget()) as summariser:
        summaries = await write_texts(
            outline, passages, summariser, concurrency=config.concurrency, events=events, known=known
        )
    for node_id in known:
        summaries[node_id] = _patched(node_id, outline, passages, row_of, rows, summaries, extractive)
    notes = tell(summariser, events)
    kept_stale = {node_id: count for node_id, count in stale.items() if node_id in known and count}
    manifest = Manifest(
        config={**old.manifest.config, "recipe": None, "stale": kept_stale},
        models={**old.manifest.models, "embed": embedder.name, **({"summarise": asker.name} if asker else {})},
        prompts=asker.hashes() if asker else old.manifest.prompts,
        title=old.manifest.title,
    )
    generation = Generation(
        passages=passages,
        texts=change.texts,
        vectors=vectors,
        embedder=embedder,
        outline=outline,
        summaries=summaries,
        max_children=config.max_children,
    )
    published = await writer.publish(generation, manifest, events)
    gone = {document.doc_id for document in change.gone}
    if gone:
        purge(index_path, published.generation)
    return BuildReport(
        path=index_path,
        generation=published.generation,
        counts=published.counts,
        skipped=skipped,
        came=tuple(doc_id for doc_id in change.came if doc_id not in gone),
        replaced=tuple(doc_id for doc_id in change.came if doc_id in gone),
        gone=tuple(sorted(gone.difference(change.came))),
        written_by=dict(Counter(summaries[node_id].written_by for node_id in outline.children)),
        usage=meter.spent,
        seconds=time.monotonic() - started,
        partial=isinstance(summariser, ModelSummariser) and summariser.stopped,
        notes=notes,
    )


async def _insert(
    graft: Graft,
    passages: Sequence[Passage],
    vectors: FloatMatrix,
    comes: Sequence[int],
    locate: Locate | None,
    max_children: int,
) -> None:
    """Put the passages of rows `comes` into the tree, those of one document together.

    Many passages of one document make a cluster of their own, beside the nearest; few join the nearest.
    """
    if not comes:
        return
    clusters = graft.clusters()
    runs = document_runs([group_of(passages[row]) for row in comes], max_children)
    centres = group_centres(vectors[list(comes)], runs)
    homes = [clusters[place] for place in np.argmax(centres @ graft.centres(clusters).T, axis=1).tolist()]
    if locate is not None:
        found = await locate([passages[row] for row in comes])
        known = set(clusters)
        chosen = (_most_named([found[place] for place in run.tolist()], known) for run in runs)
        homes = [named or nearest for named, nearest in zip(chosen, homes, strict=True)]
    least = Sizes.for_children(max_children).least
    for run, home in zip(runs, homes, strict=True):
        leaves = [leaf_id(passages[comes[place]].passage_id) for place in run.tolist()]
        if len(leaves) >= least:
            graft.insert_cluster(leaves, home)
        else:
            for leaf in leaves:
                graft.insert(leaf, home)


def _most_named(found: Sequence[str], known: Collection[str]) -> str | None:
    """The cluster that most passages of a run were placed in; None where `found` names none that is still there."""
    named = Counter(node_id for node_id in found if node_id in known)
    return max(named, key=lambda node_id: (named[node_id], node_id)) if named else None


def _vectors(old: Stored, change: Change, staging: Staging, events: EventStream) -> tuple[Embedder, FloatMatrix]:
    """The embedder and the vectors of all passages afterwards, (n, d), on disk.

    The embedded default knows the words of the texts it was fitted on; where documents go, it is fitted anew, for none
    of their words may stay. Any other embedder is kept, and embeds what comes.
    """
    embedder, comes = old.embedder, np.array(change.comes, dtype=np.int64)
    if change.gone and embedder.name == "embedded":
        embedder = make_embedder("embedded", texts=change.texts)
        comes = np.arange(len(change.texts))
    vectors = staging.new_leaf_vectors(len(change.texts), embedder.dimension)
    came = np.zeros(len(change.texts), dtype=np.bool_)
    came[comes] = True
    row_of = {passage.passage_id: row for row, passage in zip(old.rows.tolist(), old.passages, strict=True)}
    for row, passage in enumerate(change.passages):
        if not came[row]:
            vectors[row] = old.vectors[row_of[passage.passage_id]]
    for start in range(0, len(comes), EMBEDDED_AT_ONCE):
        some = comes[start : start + EMBEDDED_AT_ONCE]
        vectors[some] = embedder.embed_texts([change.texts[row] for row in some.tolist()])
        events.emit("embedded", done=start + len(some), total=len(comes))
    return embedder, vectors


def _rewritten(
    graft: Graft,
    rows: Mapping[str, RowArray],
    stale: Mapping[str, int],
    above_gone: set[str],
    old: Stored,
    *,
    by_model: bool,
) -> set[str]:
    """Nodes whose text is written anew: new ones, those above what is gone, and those of which too much is new."""
    rewritten = {node_id for node_id in rows if node_id in graft.made or node_id in above_gone}
    for node_id in rows.keys() - rewritten:
        free = not by_model and old.summaries[node_id].written_by == "extractive"
        if graft.changed.get(node_id) and (free or stale[node_id] > STALE * len(rows[node_id])):
            rewritten.add(node_id)
    return rewritten


def _patched(
    node_id: str,
    outline: Outline,
    passages: Sequence[Passage],
    row_of: Mapping[str, int],
    rows: Mapping[str, RowArray],
    summaries: Mapping[str, NodeSummary],
    extractive: ExtractiveSummariser,
) -> NodeSummary:
    """A text that stays, with a line on each child that is new to it and none on those that left."""
    summary = summaries[node_id]
    children = outline.children[node_id]
    said = {part.child_id: part for part in summary.parts}
    if said.keys() == set(children):
        return summary
    parts = tuple(
        said.get(child) or extractive.fingerprint(child_text(child, passages, row_of, rows, summaries), rows[node_id])
        for child in children
    )
    theme = [line for line in summary.text.split("\n") if not line.startswith("- ")]
    return replace(summary, text=compose(theme, parts), parts=parts)


def _ancestors(graft: Graft, leaves: Iterable[str]) -> set[str]:
    """All nodes above `leaves`, by any of their parents."""
    above: set[str] = set()
    todo = list(leaves)
    while todo:
        for parent in graft.parents.get(todo.pop(), []):
            if parent not in above:
                above.add(parent)
                todo.append(parent)
    return above


def _equal(known: Document | None, document: Document) -> bool:
    """Whether a document is the one that is there, wherever it was read from."""
    return known is not None and replace(known, source="", metadata=dict(known.metadata)) == replace(
        document, source="", metadata=dict(document.metadata)
    )


def _unchanged(
    index_path: Path | str, old: Stored, skipped: tuple[Skipped, ...], started: float, events: EventStream
) -> BuildReport:
    events.emit("unchanged", path=str(index_path), generation=old.manifest.generation)
    return BuildReport(
        path=Path(index_path),
        generation=old.manifest.generation,
        counts=old.manifest.counts,
        skipped=skipped,
        seconds=time.monotonic() - started,
        unchanged=True,
    )
