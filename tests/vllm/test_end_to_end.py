"""Build, search and ask with a real vLLM behind every role, through the facade, as the README shows it.

The model's weights are random: what it says is well formed at best and never sensible. So these tests show that the
whole way runs, counts and stays honest, whatever a model says; that a good model finds more is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import branchwise
from branchwise.prompts.vllm_chat import VllmChat
from branchwise.stores.records import Answer, Budget, Document, SearchResult

pytestmark = pytest.mark.vllm
QUESTION = "Which bird plans for the winter?"
TEXTS = {
    "lark": "The lark sings while it climbs, and falls silent as it drops back to its nest in the grass.",
    "wren": "A wren weighs ten grams; its song carries half a kilometre through a winter wood.",
    "jay": "Jays bury acorns in autumn and remember thousands of the places through the winter.",
    "swift": "Swifts sleep on the wing and land only to breed.",
    "heron": "A heron stands still for an hour, then strikes in a tenth of a second.",
    "crane": "Cranes dance in pairs, and a pair keeps together for life.",
}


def documents() -> list[Document]:
    """Six short documents: one tree of two levels."""
    return [Document(doc_id=name, title=name, text=text) for name, text in TEXTS.items()]


@pytest.fixture(scope="module")
def library(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[branchwise.Collection]:
    """An index built with the served model's summaries, open with the same model in every role."""
    index = tmp_path_factory.mktemp("built") / "birds"
    with branchwise.build(documents(), index=index, model="tiny", base_url=server, max_children=4) as opened:
        yield opened


def check_search(result: SearchResult, model: str) -> None:
    """The search is the model's, counted, and holds no score out of range."""
    assert result.judge == model
    assert result.usage.calls > 0
    assert result.usage.input_tokens > 0
    assert {hit.passage.doc_id for hit in result.hits} <= set(TEXTS)
    assert result.hits, [dict(judgement.scores) for judgement in result.judgements]
    for judgement in result.judgements:
        assert all(score is None or 0 <= score <= 1 for score in judgement.scores.values())
        assert set(judgement.scores) <= set(judgement.slate.node_ids)


def check_answer(answer: Answer) -> None:
    """Every quote stands in its document; an answer without one says that it found none."""
    for citation in answer.citations:
        assert TEXTS[citation.doc_id][citation.start : citation.end] == citation.quote
    assert answer.found == bool(answer.citations)
    assert answer.text


def test_the_tree_is_built(library: branchwise.Collection) -> None:
    """Each inner node says who wrote it: the model, or the fallback where the model's words could not be used."""
    tree = library.tree
    assert not tree.check()
    assert len(tree.leaf_ids) == len(TEXTS)
    writers = {tree.node(node_id).written_by for node_id in tree.inner_ids}
    assert writers & {"tiny", "fallback:tiny"}
    assert writers <= {"tiny", "fallback:tiny", "extractive"}


def test_search(library: branchwise.Collection) -> None:
    """The walk is judged by the served model."""
    check_search(library.search(QUESTION, k=3, budget=Budget(max_calls=8)), "tiny")


def test_ask(library: branchwise.Collection) -> None:
    """The answer is read by the served model and checked by code."""
    check_answer(library.ask(QUESTION, k=3, budget=Budget(max_calls=8)))


def test_in_process(model: VllmChat, tiny_model: Path, tmp_path: Path) -> None:
    """The same with the model in this process: `model="vllm:DIR"`, and no server. The loaded engine is shared."""
    assert model.context_window
    name = f"vllm:{tiny_model}"
    with branchwise.build(documents(), index=tmp_path / "birds", max_children=4) as built:
        index = built.index.path
    with branchwise.open(index, model=name) as library:
        check_search(library.search(QUESTION, k=3, budget=Budget(max_calls=12)), str(tiny_model))
        check_answer(library.ask(QUESTION, k=3, budget=Budget(max_calls=4)))
