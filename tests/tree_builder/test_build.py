"""A whole build, from documents to a published index."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.model import Request
from branchwise.prompts.stand_in import stand_in_model
from branchwise.prompts.testing import FunctionModel, forbid_model_calls
from branchwise.stores.errors import IndexLocked, InputError
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Document, Event
from branchwise.tree_builder.build import BuildReport, build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.publish import writing

MakeDocuments = Callable[..., list[Document]]


def tree_of(path: Path) -> list[tuple[object, ...]]:
    """Every row of the tree, texts and edges included."""
    with Index.open(path) as index:
        database = index.generation_path / "tree.sqlite"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return [row for table in ("nodes", "edges", "parts") for row in db.execute(f"SELECT * FROM {table}").fetchall()]


def assert_whole(path: Path, documents: list[Document], max_children: int) -> Index:
    """The index is sound and every document stands in at least one leaf; fan-out is kept."""
    with Index.open(path) as index:
        assert index.verify() == []
        found = {passage.doc_id for passage in index.iter_passages()}
        found |= {origin.doc_id for passage in index.iter_passages() for origin in passage.duplicates}
        assert found == {document.doc_id for document in documents if document.text.strip()}
        assert all(len(index.tree.children(node_id)) <= max_children for node_id in index.tree.inner_ids)
        return index


@pytest.mark.parametrize("kind", ["bottom-up", "top-down", "hybrid"])
@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 40])
async def test_every_size_and_kind_builds(kind: str, count: int, tmp_path: Path, make_documents: MakeDocuments) -> None:
    """0, 1, 2, M, M + 1 and more passages, by every kind of tree, without a model."""
    documents = make_documents(count)
    report = await build(documents, tmp_path / "index", BuildConfig(tree=kind, max_children=6))  # type: ignore[arg-type]
    assert_whole(tmp_path / "index", documents, 6)
    assert report.counts["leaves"] == count
    assert set(report.written_by) == {"extractive"}


async def test_duplicates_only_are_one_leaf(tmp_path: Path) -> None:
    """Thirty copies of a text are one leaf with thirty places, and a tree."""
    text = "The same words stand in every copy of this letter, which nobody has ever changed in any way at all."
    documents = [Document(doc_id=f"copy-{number}", text=text) for number in range(30)]
    report = await build(documents, tmp_path / "index")
    assert report.counts["leaves"] == 1
    assert_whole(tmp_path / "index", documents, 16)


async def test_equal_texts_that_are_not_merged_build_too(tmp_path: Path) -> None:
    """With merging switched off, fifty equal passages are fifty leaves under nodes of at most M."""
    documents = [Document(doc_id=f"copy-{number}", text="All the same.") for number in range(50)]
    config = BuildConfig(duplicate_similarity=0, max_children=5)
    report = await build(documents, tmp_path / "index", config)
    assert report.counts["leaves"] == 50
    assert_whole(tmp_path / "index", documents, 5)


async def test_one_giant_document_builds(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """One document of many passages: neighbours share clusters, and spans are exact."""
    text = "\n\n".join(document.text for document in make_documents(60, sentences=8))
    giant = Document(doc_id="giant", text=text)
    config = BuildConfig(max_children=6, max_chars=600, min_chars=100)
    await build([giant], tmp_path / "index", config)
    index = assert_whole(tmp_path / "index", [giant], 6)
    with Index.open(index.path) as opened:
        assert all(text[p.start : p.end] == p.text for p in opened.iter_passages())
        assert len(opened.tree.leaf_ids) > 36


async def test_the_same_inputs_give_the_same_tree(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Two builds of the same documents are equal, row by row, texts and vectors included."""
    for name in ("one", "two"):
        await build(make_documents(50), tmp_path / name, BuildConfig(max_children=8, seed=3))
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "two")
    with Index.open(tmp_path / "one") as first, Index.open(tmp_path / "two") as second:
        assert np.array_equal(first.inner_matrix, second.inner_matrix)


async def test_an_unchanged_build_does_nothing(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """The same command again makes no call and no generation; another setting does."""
    documents = make_documents(30)
    first = await build(documents, tmp_path / "index", asker=Asker(stand_in_model()))
    with forbid_model_calls():
        again = await build(documents, tmp_path / "index", asker=Asker(stand_in_model()))
    other = await build(documents, tmp_path / "index", BuildConfig(max_children=8))
    assert (again.unchanged, again.generation) == (True, first.generation)
    assert (other.unchanged, other.generation) == (False, first.generation + 1)


async def test_events_count_without_gaps(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Events are numbered from 0, tell every step, and their counts reach their totals."""
    events: list[Event] = []
    await build(make_documents(30), tmp_path / "index", on_event=events.append)
    assert [event.seq for event in events] == list(range(len(events)))
    assert list(dict.fromkeys(event.kind for event in events)) == [
        "source", "chunked", "embedded", "level", "node", "stored", "published",
    ]  # fmt: skip
    last = {event.kind: event.payload for event in events}
    for kind in ("chunked", "embedded", "node", "stored"):
        assert last[kind]["done"] == last[kind]["total"]


@pytest.mark.parametrize("kind", ["bottom-up", "top-down", "hybrid"])
async def test_a_fifth_of_garbage_ends_no_build(kind: str, tmp_path: Path, make_documents: MakeDocuments) -> None:
    """With 20 % of the replies unusable the build finishes, whole, and says what the model did not write."""
    model = stand_in_model(name="shaky")
    good, rng = model.function, random.Random(7)
    model.function = lambda request: "{}" if rng.random() < 0.2 else good(request)
    documents = make_documents(60)
    report = await build(
        documents, tmp_path / "index", BuildConfig(tree=kind, max_children=6), asker=Asker(model)  # type: ignore[arg-type]
    )  # fmt: skip
    assert_whole(tmp_path / "index", documents, 6)
    assert set(report.written_by) <= {"shaky", "fallback:shaky", "extractive"}
    assert report.written_by["shaky"] > 0


@pytest.mark.parametrize("kind", ["bottom-up", "hybrid"])
async def test_a_spent_budget_leaves_a_whole_index_and_loses_nothing(
    kind: str, tmp_path: Path, make_documents: MakeDocuments
) -> None:
    """A build within two calls is partial and whole; the next pays only for what is missing."""
    documents, config = make_documents(60), BuildConfig(tree=kind, max_children=6)  # type: ignore[arg-type]
    whole = stand_in_model()
    await build(documents, tmp_path / "other", config, asker=Asker(whole))
    first, second = stand_in_model(), stand_in_model()
    partial = await build(documents, tmp_path / "index", config, asker=Asker(first), meter=Meter(Budget(max_calls=2)))
    assert_whole(tmp_path / "index", documents, 6)
    assert partial.partial
    assert partial.notes
    assert len(first.requests) == 2
    report = await build(documents, tmp_path / "index", config, asker=Asker(second))
    assert not report.partial
    assert len(first.requests) + len(second.requests) == len(whole.requests)
    assert tree_of(tmp_path / "index") == tree_of(tmp_path / "other")


async def test_a_failed_build_leaves_the_old_index(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Where a build fails, the index that was there still opens, and its lock is free."""

    def broken(request: Request) -> str:
        raise RuntimeError("a bug")

    await build(make_documents(20), tmp_path / "index")
    with pytest.raises(RuntimeError):
        await build(make_documents(30), tmp_path / "index", asker=Asker(FunctionModel(broken)))
    assert_whole(tmp_path / "index", make_documents(20), 16)
    await build(make_documents(30), tmp_path / "index")


async def test_one_writer_at_a_time(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """While one process writes, another build is refused with IndexLocked."""
    async with writing(tmp_path / "index"):
        with pytest.raises(IndexLocked):
            await build(make_documents(3), tmp_path / "index")


async def test_given_vectors_are_used(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Vectors of the passages replace the embedder's; another shape is refused."""
    documents = make_documents(20)
    await build(documents, tmp_path / "first")
    with Index.open(tmp_path / "first") as index:
        embedder, vectors = index.embedder, np.array(index.leaf_matrix)[::-1].copy()
        await build(documents, tmp_path / "second", embedder=embedder, vectors=vectors)
        with pytest.raises(InputError):
            await build(documents, tmp_path / "third", embedder=embedder, vectors=vectors[:5])
    with Index.open(tmp_path / "second") as index:
        assert np.array_equal(index.leaf_matrix, vectors)


async def test_summaries_follow_the_language_of_the_sources(tmp_path: Path) -> None:
    """German passages give German key terms, Chinese ones Chinese: no word comes from elsewhere."""
    german = [
        Document(doc_id=f"de-{n}", text=f"Die Bäckerei {n} verkauft Brötchen, Roggenbrot und Kuchen an die Nachbarn.")
        for n in range(12)
    ]
    chinese = [Document(doc_id=f"zh-{n}", text=f"火山喷发时熔岩流向村庄，第{n}个火山口冒出浓烟。") for n in range(12)]
    for name, documents in (("de", german), ("zh", chinese)):
        config = BuildConfig(max_children=4, duplicate_similarity=0)
        await build(documents, tmp_path / name, config)
        everything = " ".join(document.text.casefold() for document in documents)
        with Index.open(tmp_path / name) as index:
            for node_id in index.tree.inner_ids:
                title = index.tree.node(node_id).title.rstrip("…")
                assert title
                assert all(word.strip(" ,:…") in everything for word in title.casefold().split())


async def test_a_report_has_counts_and_skipped(tmp_path: Path) -> None:
    """What cannot be used is reported, and what can is built."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "good.txt").write_text("Words that can be read, and more of them.", encoding="utf-8")
    (folder / "bad.jsonl").write_text("{not json\n", encoding="utf-8")
    report = await build([folder], tmp_path / "index")
    assert isinstance(report, BuildReport)
    assert report.counts["documents"] == 1
    assert len(report.skipped) >= 1
