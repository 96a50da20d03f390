"""A living corpus: what is added is found, what is removed is gone, and little is written anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.stand_in import stand_in_model
from branchwise.prompts.testing import forbid_model_calls
from branchwise.stores.errors import IndexMissing
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Document, Passage
from branchwise.tree_builder.build import build
from branchwise.tree_builder.config import BuildConfig
from branchwise.tree_builder.update import add, remove

MakeDocuments = Callable[..., list[Document]]
SECRET = Document(
    doc_id="secret", title="The Zanzibar treaty", text="The quokkafication treaty was sealed by zygomorphic envoys."
)


def documents_in(path: Path) -> set[str]:
    """Ids of the documents in a sound index."""
    with Index.open(path) as index:
        assert index.verify() == []
        return {document.doc_id for document in index.iter_documents()}


def leaves_in(path: Path) -> set[str]:
    """Ids of the leaves."""
    with Index.open(path) as index:
        return set(index.tree.leaf_ids)


def texts_in(path: Path) -> dict[str, tuple[str, str]]:
    """Title and text of every inner node."""
    with Index.open(path) as index:
        return {node_id: (index.node(node_id).title, index.node(node_id).text) for node_id in index.tree.inner_ids}


async def test_what_is_added_has_a_leaf(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Documents come, the index is sound, and the same addition again changes nothing."""
    await build(make_documents(40), tmp_path / "index", BuildConfig(max_children=6))
    report = await add(tmp_path / "index", make_documents(5, start=100))
    assert leaves_in(tmp_path / "index") >= {f"p:doc-{number}" for number in range(100, 105)}
    assert len(documents_in(tmp_path / "index")) == 45
    again = await add(tmp_path / "index", make_documents(5, start=100))
    assert (again.unchanged, again.generation) == (True, report.generation)


async def test_an_update_names_what_came_and_what_went(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """New, replaced and removed documents are told apart; an id that is not there brings its nearest kin."""
    await build(make_documents(8), tmp_path / "index", BuildConfig())
    changed = Document(doc_id="doc-3", text="Something else altogether, about tides and the moon.")
    report = await add(tmp_path / "index", [changed, *make_documents(2, start=50)])
    assert (report.came, report.replaced, report.gone) == (("doc-50", "doc-51"), ("doc-3",), ())
    with pytest.raises(IndexMissing) as refused:
        await remove(tmp_path / "index", ["notes/doc-5"])
    assert "doc-5" in refused.value.hint
    report = await remove(tmp_path / "index", ["doc-5"])
    assert (report.came, report.replaced, report.gone) == ((), (), ("doc-5",))


async def test_an_added_leaf_stands_with_its_like(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Search-and-insert puts a text on bees among texts on bees."""
    await build(make_documents(60), tmp_path / "index", BuildConfig(max_children=8))
    added = make_documents(1, start=64)  # 64 % 6 == 4: bees
    await add(tmp_path / "index", added)
    with Index.open(tmp_path / "index") as index:
        (cluster,) = index.tree.parents("p:doc-64")
        topics = [int(leaf.split("-")[1]) % 6 for leaf in index.tree.children(cluster)]
    assert topics.count(4) > len(topics) / 2


async def test_a_document_is_replaced_by_its_id(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """The new text stands where the old one was found, and the old one nowhere."""
    documents = make_documents(30)
    await build([*documents, SECRET], tmp_path / "index")
    await add(tmp_path / "index", [replace(SECRET, title="A note", text="Nothing to see here, only plain words.")])
    with Index.open(tmp_path / "index") as index:
        assert index.passage("secret").text == "Nothing to see here, only plain words."
    assert b"quokkafication" not in everything_in(tmp_path / "index")


def everything_in(path: Path) -> bytes:
    """All bytes of an index. Chroma's graph files are left out: they hold numbers, in memory never cleared."""
    return b"".join(
        file.read_bytes().lower() for file in sorted(path.rglob("*")) if file.is_file() and file.suffix != ".bin"
    )


@pytest.mark.parametrize("by_model", [False, True])
async def test_nothing_is_left_of_what_is_removed(
    by_model: bool, tmp_path: Path, make_documents: MakeDocuments
) -> None:
    """After a removal no file of the index holds a word that only that document had: cache and embedder neither."""
    path, documents = tmp_path / "index", make_documents(30)

    def asker() -> Asker | None:
        return Asker(stand_in_model()) if by_model else None

    await build([*documents, SECRET], path, BuildConfig(max_children=6), asker=asker())
    assert b"quokkafication" in everything_in(path)
    await remove(path, ["secret"], asker=asker())
    assert documents_in(path) == {document.doc_id for document in documents}
    left = everything_in(path)
    assert b"quokkafication" not in left
    assert b"zygomorphic" not in left


async def test_a_duplicate_survives_its_original(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Where the removed passage stood for another document's too, that one takes its place."""
    twin = replace(SECRET, doc_id="twin")
    await build([*make_documents(20), SECRET, twin], tmp_path / "index")
    assert "p:twin" not in leaves_in(tmp_path / "index")
    await remove(tmp_path / "index", ["secret"])
    with Index.open(tmp_path / "index") as index:
        assert index.passage("twin").text == SECRET.text
        assert index.passage("twin").duplicates == ()


async def test_only_what_is_touched_is_written_anew(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """One document more among 120 costs no call and changes one text; removing it rewrites only the nodes above it."""
    path = tmp_path / "index"
    await build(make_documents(120), path, BuildConfig(max_children=12), asker=Asker(stand_in_model()))
    before = texts_in(path)
    with forbid_model_calls():
        await add(path, make_documents(1, start=200), asker=Asker(stand_in_model()))
    after = texts_in(path)
    changed = [node_id for node_id in after if after[node_id] != before[node_id]]
    with Index.open(path) as index:
        above = index.tree.path_to("p:doc-200")[:-1]
        assert changed == [above[-1]]
        assert any(part.child_id == "p:doc-200" for part in index.node(above[-1]).parts)
    model = stand_in_model()
    await remove(path, ["doc-200"], asker=Asker(model))
    assert len(model.requests) <= len(above)


async def test_a_node_that_has_grown_much_is_written_anew(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Additions that are each too few for a call are one together."""
    path, calls = tmp_path / "index", 0
    await build(make_documents(60), path, BuildConfig(max_children=16), asker=Asker(stand_in_model()))
    for start in range(100, 172, 6):  # always on volcanoes
        model = stand_in_model()
        await add(path, make_documents(1, start=start + 2), asker=Asker(model))
        calls += len(model.requests)
    assert 0 < calls < 12
    assert documents_in(path)


async def test_a_place_can_be_given(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Whoever searches for the place decides it."""
    path = tmp_path / "index"
    await build(make_documents(40), path, BuildConfig(max_children=10))
    with Index.open(path) as index:
        wanted = index.tree.parents("p:doc-3")[0]

    async def locate(passages: Sequence[Passage]) -> list[str]:
        return [wanted for _ in passages]

    await add(path, make_documents(1, start=100), locate=locate)
    with Index.open(path) as index:
        assert index.tree.parents("p:doc-100") == (wanted,)


async def test_everything_can_be_removed_and_come_back(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """An index emptied is an index still, and grows again."""
    path, documents = tmp_path / "index", make_documents(30)
    await build(documents, path, BuildConfig(max_children=5))
    await remove(path, [document.doc_id for document in documents])
    assert documents_in(path) == set()
    await add(path, documents)
    assert len(documents_in(path)) == 30


async def test_an_unknown_id_changes_nothing(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """A document that is not there cannot be removed, nor anything added to an index that is not."""
    await build(make_documents(5), tmp_path / "index")
    with pytest.raises(IndexMissing):
        await remove(tmp_path / "index", ["doc-1", "no such"])
    assert len(documents_in(tmp_path / "index")) == 5
    with pytest.raises(IndexMissing):
        await add(tmp_path / "nowhere", make_documents(2))


async def test_a_spent_budget_still_adds(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Without a call to spend, the embedded summariser writes what has to be written."""
    path = tmp_path / "index"
    await build(make_documents(20), path, BuildConfig(max_children=5), asker=Asker(stand_in_model()))
    model = stand_in_model()
    report = await add(path, make_documents(20, start=100), asker=Asker(model), meter=Meter(Budget(max_calls=0)))
    assert report.partial
    assert model.requests == []
    assert len(documents_in(path)) == 40


async def test_second_homes_survive_an_update(tmp_path: Path, make_documents: MakeDocuments) -> None:
    """Leaves with two parents keep them, the home first, and lose both when they go."""
    path = tmp_path / "index"
    documents = [
        replace(document, text=f"{document.text} {other.text}")
        for document, other in zip(make_documents(40), make_documents(40, start=1, seed=5), strict=True)
    ]
    await build(documents, path, BuildConfig(max_children=8, soft_membership=True))
    with Index.open(path) as index:
        homes = {leaf: index.tree.parents(leaf) for leaf in index.tree.leaf_ids if len(index.tree.parents(leaf)) > 1}
    assert homes
    gone, *stay = sorted(homes)
    await remove(path, [gone.removeprefix("p:")])
    with Index.open(path) as index:
        assert index.verify() == []
        assert gone not in index.tree
        kept = [leaf for leaf in stay if index.tree.parents(leaf) == homes[leaf]]
    assert len(kept) >= len(stay) // 2


class LivingIndex(RuleBasedStateMachine):
    """Build, add, remove, replace, reopen, in any order, against a plain dictionary of documents."""

    @initialize(count=st.integers(0, 25), max_children=st.integers(4, 8))
    def build(self, count: int, max_children: int) -> None:
        """An index to begin with."""
        self.path = Path(self.folder) / f"index-{next(self.numbers)}"
        self.truth = {f"doc-{number}": text_of(number, 0) for number in range(count)}
        asyncio.run(build(self.as_documents(self.truth), self.path, BuildConfig(max_children=max_children)))

    @staticmethod
    def as_documents(texts: dict[str, str]) -> list[Document]:
        """Documents of ids and texts."""
        return [Document(doc_id=doc_id, text=text) for doc_id, text in texts.items()]

    @rule(numbers=st.sets(st.integers(0, 60), max_size=15), version=st.integers(0, 2))
    def add(self, numbers: set[int], version: int) -> None:
        """Documents come, or replace those there."""
        came = {f"doc-{number}": text_of(number, version) for number in sorted(numbers)}
        asyncio.run(add(self.path, self.as_documents(came)))
        self.truth |= came

    @precondition(lambda self: getattr(self, "truth", None))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Some documents go."""
        gone = data.draw(st.sets(st.sampled_from(sorted(self.truth)), min_size=1))
        asyncio.run(remove(self.path, gone))
        self.truth = {doc_id: text for doc_id, text in self.truth.items() if doc_id not in gone}

    @invariant()
    def sound(self) -> None:
        """Reopened, the index holds exactly the documents, each in a leaf, and every invariant stands."""
        if not hasattr(self, "truth"):
            return
        with Index.open(self.path) as index:
            assert index.verify() == []
            assert {document.doc_id: document.text for document in index.iter_documents()} == self.truth
            places = {passage.doc_id for passage in index.iter_passages()}
            places |= {origin.doc_id for passage in index.iter_passages() for origin in passage.duplicates}
            assert places == set(self.truth)


def text_of(number: int, version: int) -> str:
    """Texts of which some are equal: a third of the numbers share theirs."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
    shared = number // 3 if number % 3 == 0 else number
    return f"{words[shared % 12]} {words[(shared * 5 + version) % 12]} number {shared} of the edition {version}"


def test_any_order_of_changes_leaves_a_sound_index(tmp_path: Path) -> None:
    """The machine above, a few short runs of it (each step writes a whole generation)."""
    LivingIndex.folder = tmp_path  # type: ignore[attr-defined]
    LivingIndex.numbers = iter(range(10**6))  # type: ignore[attr-defined]
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        LivingIndex,
        settings=settings(max_examples=4, stateful_step_count=5, deadline=None, database=None, derandomize=True),
    )


@pytest.mark.slow
def test_many_orders_of_changes_leave_a_sound_index(tmp_path: Path) -> None:
    """The same, at length."""
    LivingIndex.folder = tmp_path  # type: ignore[attr-defined]
    LivingIndex.numbers = iter(range(10**6))  # type: ignore[attr-defined]
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        LivingIndex,
        settings=settings(max_examples=40, stateful_step_count=12, deadline=None, database=None, derandomize=True),
    )


async def test_a_single_that_joins_a_full_group_is_split_again(tmp_path: Path) -> None:
    """Found by the machine above: a split of eleven into five, five and one must not leave a node of six."""
    path = tmp_path / "index"

    def of(numbers: set[int]) -> list[Document]:
        return [Document(doc_id=f"doc-{number}", text=text_of(number, 0)) for number in sorted(numbers)]

    await build(of(set(range(7))), path, BuildConfig(max_children=5))
    await add(path, of({43, 45}))
    await remove(path, ["doc-4"])
    await add(path, of({0, 26}))
    await remove(path, [f"doc-{number}" for number in (45, 0, 26, 3, 43, 1, 2, 5)])
    await add(path, of({0, 58, 38, 42, 43, 44, 12, 48, 18, 50, 22, 26, 27, 28, 31}))
    with Index.open(path) as index:
        assert index.verify() == []
