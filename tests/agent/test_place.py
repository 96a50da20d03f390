"""New documents placed by search: where they go, what it costs, and what happens where it cannot be done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import branchwise
from branchwise import Budget, Collection, Document, InputError
from branchwise.agent.engine import Engine
from branchwise.agent.place import Placer
from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.limits import Limits
from branchwise.prompts.model import Request
from branchwise.prompts.stand_in import answer
from branchwise.prompts.testing import FunctionModel
from branchwise.stores.errors import ModelUnavailable
from branchwise.stores.records import Judgement, Passage, Question, Slate
from tests.agent.worlds import Oracle

KITES = Document(doc_id="kites", title="Kites", text="A kite flies because wind presses on its slanted sail.")


@pytest.fixture
def small(documents: list[Document], tmp_path: Path) -> Iterator[Collection]:
    """Fifty passages under nodes of at most five children."""
    with branchwise.build(documents, index=tmp_path / "index", max_children=5) as opened:
        yield opened


def passage(document: Document) -> Passage:
    """A document in one piece."""
    return Passage(
        passage_id=document.doc_id,
        doc_id=document.doc_id,
        title=document.title,
        text=document.text,
        start=0,
        end=len(document.text),
    )


def home(collection: Collection, doc_id: str) -> str:
    """The leaf cluster of a passage."""
    return collection.tree.parents(f"p:{doc_id}")[0]


def believing(collection: Collection, doc_id: str) -> Oracle:
    """A judge that finds new documents like this one."""
    oracle = Oracle(collection.tree, frozenset([f"p:{doc_id}"]))
    collection.engine = Engine(collection.index, judge=oracle)
    return oracle


def model_on(collection: Collection, reply: object) -> FunctionModel:
    """A model that replies so, and judges from now on."""
    model = FunctionModel(reply)  # type: ignore[arg-type]
    asker = Asker(model, limits=Limits(attempts=2, first_wait=0.001))
    collection.engine = Engine(collection.index, asker=asker)
    return model


def stand_in(request: Request) -> str:
    """What the stand-in model says."""
    return answer(request.messages[0].content, request.messages[1].content)


def test_the_judge_decides_and_not_the_vectors(small: Collection) -> None:
    """A document goes into the cluster that the judge leads to, by one slate a level, and no leaf is read."""
    expected = set(small.tree.children(home(small, "violins-3")))
    height = small.tree.height(small.tree.root_id or "")
    oracle = believing(small, "violins-3")
    report = small.add([KITES], place="search")
    assert expected <= {*small.tree.children(home(small, "kites"))} | {"p:kites"}
    assert {slate.kind for slate in oracle.asked} == {"inner"}
    assert len(oracle.asked) == height - 1
    assert report.notes == ()
    assert small.tree.check() == []


async def test_passages_of_a_document_stay_together(small: Collection) -> None:
    """A document of several passages walks once; each document by itself."""
    oracle = believing(small, "bees-2")
    placer = Placer(small.engine, meter=Meter())
    parts = [passage(KITES), passage(Document(doc_id="other", text="Another.")), passage(KITES)]
    assert await placer(parts) == [home(small, "bees-2")] * 3
    assert len({slate.parent for slate in oracle.asked}) * 2 == len(oracle.asked)


async def test_a_doubtful_branch_is_left_again(small: Collection) -> None:
    """A branch that looked good from above and holds nothing good is not stayed in."""
    tree = small.tree
    target = home(small, "moths-1")
    wrong = next(node for node in tree.children(tree.root_id or "") if node not in tree.path_to(target))

    class Misled(Oracle):
        async def judge(self, slate: Slate, question: Question) -> Judgement:
            told = await super().judge(slate, question)
            return Judgement(slate=slate, scores={**told.scores, **({wrong: 1.0} if wrong in told.scores else {})})

    oracle = Misled(tree, frozenset(["p:moths-1"]))
    placer = Placer(Engine(small.index, judge=oracle), meter=Meter())
    assert await placer([passage(KITES)]) == [target]
    assert wrong in {slate.parent for slate in oracle.asked}


def test_the_cost_is_told_and_kept_within_the_budget(small: Collection) -> None:
    """At most half of the calls are spent on places, all are in the report, and what was not searched for is said."""
    model = model_on(small, stand_in)
    many = [Document(doc_id=f"new-{n}", text=f"A kite flies in the wind of case {n}.") for n in range(12)]
    report = small.add(many, place="search", budget=Budget(max_calls=10))
    judged = sum('"scores"' in request.messages[0].content for request in model.requests)
    assert 0 < judged <= 5
    assert report.usage.calls == len(model.requests) <= 10
    unplaced = re.search(
        r"^(\d+) documents were placed by their vectors .* half", "\n".join(report.notes), re.MULTILINE
    )
    assert unplaced
    assert 0 < int(unplaced[1]) < len(many), "what was paid for placed some"
    assert all(f"p:{document.doc_id}" in small.tree.leaf_row for document in many)


def test_by_default_nothing_is_asked_for_a_place(small: Collection) -> None:
    """Vectors place what comes: a model only writes."""
    model = model_on(small, stand_in)
    small.add([KITES])
    assert model.requests
    assert not any('"scores"' in request.messages[0].content for request in model.requests)


async def test_a_model_that_fails_leaves_it_to_the_vectors(small: Collection) -> None:
    """Whoever cannot be reached is asked for one document only; all go to the nearest cluster, and why is noted."""

    def silent(request: Request) -> str:
        raise ModelUnavailable("The server is away.")

    near = Document(doc_id="near", title="On bees, note 99", text="Note 99 on bees. Something else on bees of a hive.")
    model = model_on(small, silent)
    placer = Placer(small.engine, meter=Meter())
    found = await placer([passage(near), *(passage(Document(doc_id=f"d{n}", text="On bees.")) for n in range(30))])
    assert any(leaf.startswith("p:bees") for leaf in small.tree.children(found[0]))
    assert placer.notes == ("31 documents were placed by their vectors and not by search: The server is away.",)
    assert len(model.requests) < 31


def test_no_model_no_calls(small: Collection) -> None:
    """The embedded judge walks for nothing, and finds the topic."""
    report = small.add(
        [Document(doc_id="new", title="On glaciers", text="Glaciers: their ice flows slowly and melts.")],
        place="search",
    )
    assert report.usage.calls == 0
    assert any(leaf.startswith("p:glaciers") for leaf in small.tree.children(home(small, "new")))


def test_a_document_is_not_drawn_to_its_own_old_text(small: Collection) -> None:
    """What replaces itself is placed as if the old text were gone: no judge of its place is shown that text."""
    small.add([Document(doc_id="kites", title="Kites", text="Zanzibar zithers zigzag.")])
    model = model_on(small, stand_in)
    small.add([KITES], place="search")
    judged = [r.messages[1].content for r in model.requests if '"scores"' in r.messages[0].content]
    assert judged
    assert not any("ithers" in shown for shown in judged)


def test_a_document_that_is_alone_replaces_itself(tmp_path: Path) -> None:
    """Where nothing else is in the tree, the only document still finds a place in it."""
    texts = [" ".join(f"Fact {n} of part {part} stands here alone." for n in range(600)) for part in range(2)]
    with branchwise.build([Document(doc_id="one", text=texts[0])], index=tmp_path / "index", max_children=4) as opened:
        assert opened.tree.height(opened.tree.root_id or "") > 1
        opened.add([Document(doc_id="one", text=texts[1])], place="search")
        assert opened.tree.check() == []
        assert "part 1" in opened.search("part").hits[0].passage.text


@pytest.mark.parametrize("count", [0, 3])
def test_a_tree_without_branches_has_one_place(count: int, documents: list[Document], tmp_path: Path) -> None:
    """Where all hangs under the root, or nothing does, there is nothing to ask."""
    with branchwise.build(documents[:count], index=tmp_path / "index") as opened:
        model = model_on(opened, stand_in)
        opened.add([KITES], place="search")
        assert "p:kites" in opened.tree.leaf_row
        assert not any('"scores"' in request.messages[0].content for request in model.requests)


def test_another_way_is_refused(small: Collection) -> None:
    """A way that there is not is named, before anything is read."""
    with pytest.raises(InputError, match="'guess'"):
        small.add([KITES], place="guess")  # type: ignore[arg-type]
