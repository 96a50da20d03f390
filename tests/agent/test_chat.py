"""A conversation understands what points back, explains itself, and survives being put away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from branchwise.agent.chat import COMMANDS, Chat
from branchwise.agent.engine import Engine
from branchwise.agent.facade import build
from branchwise.prompts.ask import Asker
from branchwise.prompts.stand_in import stand_in_model
from branchwise.stores.errors import InputError
from branchwise.stores.index import Index
from branchwise.stores.records import Budget, Document

TEXTS = {
    "Johann Wolfgang Goethe": "Goethe wrote Faust. He was born in Frankfurt in 1749, and died in Weimar.",
    "Friedrich Schiller": "Schiller wrote The Robbers. He was born in Marbach in 1759.",
    "Tea": "Tea is an infusion of leaves in hot water.",
    "Weimar": "Weimar is a city in Thuringia, on the river Ilm.",
    "Frankfurt": "Frankfurt lies on the river Main.",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Five documents, built with no model."""
    documents = [Document(doc_id=f"d{i}", title=title, text=text) for i, (title, text) in enumerate(TEXTS.items())]
    return build(documents, index=tmp_path_factory.mktemp("chat") / "index").index


async def test_a_follow_up_is_understood_from_what_was_said(index: Index) -> None:
    """A pronoun finds the passage about its subject; what the user said is kept as it was."""
    chat = Chat(engine=Engine(index), k=3)
    await chat.ask("Who wrote Faust?")
    answer = await chat.ask("Where was he born?")
    assert answer.search.hits[0].passage.title == "Johann Wolfgang Goethe"
    assert "Frankfurt" in answer.text
    assert chat.exchanges[1].asked == "Where was he born?"
    assert "Faust" in answer.question.text
    assert [turn.role for turn in chat.history] == ["user", "assistant"] * 2


async def test_with_a_model_the_follow_up_is_condensed_and_paid_for(index: Index) -> None:
    """The condensing call is part of the answer's cost, and everything of the conversation's."""
    chat = Chat(engine=Engine(index, asker=Asker(stand_in_model())), k=3)
    first = await chat.ask("Who wrote Faust?")
    second = await chat.ask("Where was he born?")
    assert first.usage.calls > 0
    assert second.usage.calls > second.search.usage.calls
    assert chat.spent.calls == first.usage.calls + second.usage.calls


async def test_a_budget_holds_for_each_question(index: Index) -> None:
    """No question passes its calls, the condensing included, and it is answered all the same."""
    chat = Chat(engine=Engine(index, asker=Asker(stand_in_model())), k=3, budget=Budget(max_calls=2))
    for text in ("Who wrote Faust?", "Where was he born?", "And when?"):
        answer = await chat.ask(text)
        assert answer.usage.calls <= 2
        assert answer.search.hits


async def test_the_last_answer_explains_itself(index: Index) -> None:
    """Every command says something of the answer; before the first question, that there is none."""
    chat = Chat(engine=Engine(index), k=3, budget=Budget(max_calls=9))
    assert chat.command("/why") == "Nothing has been asked yet."
    await chat.ask("Who wrote Faust?")
    assert chat.command("/why").startswith("1. Johann Wolfgang Goethe  0.")
    assert chat.command("/tree").splitlines()[1].startswith("  ")
    assert "characters 0-19)\n    Goethe wrote Faust." in chat.command("/sources")
    assert chat.command(" /BUDGET now").endswith("A question may take: 9 calls.")
    assert all(chat.command(name) for name in COMMANDS)
    with pytest.raises(InputError, match="/dance"):
        chat.command("/dance")


async def test_exclusions_hold_throughout(index: Index) -> None:
    """What is excluded is in no answer of the conversation."""
    chat = Chat(engine=Engine(index), k=5, excluded_ids=frozenset({"d0"}))
    for text in ("Who wrote Faust?", "Where was he born?"):
        answer = await chat.ask(text)
        assert all(hit.passage.doc_id != "d0" for hit in answer.search.hits)
        assert all(citation.doc_id != "d0" for citation in answer.citations)


async def test_a_saved_conversation_goes_on(index: Index, tmp_path: Path) -> None:
    """Loaded again it has the same exchanges, explains its last answer and understands what points back."""
    chat = Chat(engine=Engine(index), k=3)
    await chat.ask("Who wrote Faust?")
    chat.save(tmp_path / "chat.json")
    again = Chat(engine=Engine(index), k=3)
    again.load(tmp_path / "chat.json")
    assert again.history == chat.history
    assert again.command("/why") == chat.command("/why")
    assert again.exchanges[0].answer.citations == chat.exchanges[0].answer.citations
    assert "Frankfurt" in (await again.ask("Where was he born?")).text


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", '{"format": 99}', '{"format": 1, "exchanges": [{"asked": 1}]}', '{"format": 1}', "\ud800"],
)
async def test_no_conversation_is_loaded_from_another_file(index: Index, tmp_path: Path, content: str | None) -> None:
    """A missing, broken or foreign file is refused by name, and the conversation stays."""
    chat = Chat(engine=Engine(index), k=3)
    await chat.ask("Who wrote Faust?")
    path = tmp_path / "other.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=r"other\.json"):
        chat.load(path)
    assert len(chat.exchanges) == 1


async def test_a_question_that_fails_leaves_no_trace(index: Index) -> None:
    """An empty question is an error and no exchange."""
    chat = Chat(engine=Engine(index))
    with pytest.raises(InputError):
        await chat.ask("  ")
    assert chat.exchanges == []


async def test_what_is_saved_is_plain_json(index: Index, tmp_path: Path) -> None:
    """The file can be read by anything, in any script."""
    chat = Chat(engine=Engine(index))
    await chat.ask("Wer schrieb Faust – 浮士德?")
    chat.save(tmp_path / "chat.json")
    saved = json.loads((tmp_path / "chat.json").read_text(encoding="utf-8"))
    assert saved["exchanges"][0]["asked"] == "Wer schrieb Faust – 浮士德?"
