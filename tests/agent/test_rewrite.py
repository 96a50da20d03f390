"""Questions become searchable, and the user's own words stay in charge."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.rewrite import (
    LITERAL_SHARE,
    EmbeddedRewriter,
    ModelRewriter,
    NoRewriter,
    condense,
    make_probe,
    stand_alone,
    weigh,
)
from branchwise.agent.words import content_words
from branchwise.prompts.ask import Asker
from branchwise.prompts.budget import Meter
from branchwise.prompts.limits import Limits
from branchwise.prompts.model import Request
from branchwise.prompts.testing import FunctionModel, ScriptedModel
from branchwise.stores.embedding import make_embedder
from branchwise.stores.errors import ModelRefused, ModelUnavailable
from branchwise.stores.lexical import LexicalIndex
from branchwise.stores.records import Budget, Question, Rewrite, Turn

TEXTS = [
    "The Bode plot shows gain and phase of a filter over frequency.",
    "Goethe wrote Faust in Weimar; he was born in Frankfurt in 1749.",
    "A kettle boils water for tea.",
    "Phase margin tells how far a feedback loop is from instability.",
    "Weimar is a city in Thuringia.",
]
LEXICAL = LexicalIndex.build(TEXTS)
EMBEDDER = make_embedder("embedded", texts=TEXTS)
FAUST = (
    Turn(role="user", text="Who wrote Faust?"),
    Turn(role="assistant", text="It was written by Johann Wolfgang Goethe. [1] Others wrote about it too."),
)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is the phase margin of a loop?", ["phase", "margin", "loop"]),
        ("Qual é o prazo para a licitação?", ["prazo", "licitação"]),
        ("how did they do it", []),
        ("", []),
    ],
)
def test_content_words_leave_grammar_out(question: str, words: list[str]) -> None:
    """Only what says something about the subject stays."""
    assert content_words(question) == words


async def test_off_is_the_identity() -> None:
    """Without rewriting the legs search for the question and for nothing else."""
    question = Question(text="When was he born?", history=FAUST)
    rewrite, usage = await NoRewriter().rewrite(question)
    assert rewrite == Rewrite(standalone=question.text, written_by="off")
    assert usage.calls == 0
    plain = make_probe(Question(text="tea"), None, embedder=EMBEDDER, lexical=LEXICAL)
    assert plain.words == "tea"
    assert np.array_equal(plain.vector, EMBEDDER.embed_query("tea"))


async def test_a_question_that_points_back_gets_the_words_it_points_to() -> None:
    """A pronoun is given the subject and the names said before; the question's own words come first."""
    rewrite, _ = await EmbeddedRewriter().rewrite(Question(text="Where was he born?", history=FAUST))
    assert rewrite.standalone.startswith("Where was he born?")
    assert {"Faust", "Goethe"} <= set(rewrite.standalone.replace("(", "").replace(")", "").split())


@pytest.mark.parametrize("text", ["What is a Bode plot?", "Does Weimar lie in Thuringia?"])
def test_a_question_that_stands_alone_stays_as_it_is(text: str) -> None:
    """A new subject is not mixed with the old one."""
    assert stand_alone(Question(text=text, history=FAUST)) == text


def test_an_elliptic_question_takes_the_last_subject_first() -> None:
    """After several turns, the words of the last question stand before older ones."""
    history = (
        Turn(role="user", text="Which kettle boils fastest?"),
        Turn(role="user", text="What shows phase margin?"),
    )
    words = stand_alone(Question(text="And why?", history=history)).split()
    assert words.index("margin") < min([i for i, word in enumerate(words) if "kettle" in word] or [99])


@given(literal=st.sampled_from(TEXTS), added=st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=80))
def test_literal_words_keep_their_share(literal: str, added: list[str]) -> None:
    """However much is added, at least half of the query's weight is the user's."""
    query = LEXICAL.terms(weigh(literal, added, LEXICAL))
    own = set(LEXICAL.terms(literal))
    weights = [(term in own, LEXICAL.idf(term)) for term in query]
    literal_weight = sum(weight for is_own, weight in weights if is_own)
    assert literal_weight >= LITERAL_SHARE * sum(weight for _, weight in weights) - 1e-6


def test_a_probe_is_a_unit_vector_and_holds_the_question() -> None:
    """With keywords and evidence blended in, the vector stays a unit vector and the words keep the question."""
    rewrite = Rewrite(standalone="x", keywords=("Bode plot",), evidence="The phase margin tells of instability.")
    probe = make_probe(Question(text="Is my loop stable?"), rewrite, embedder=EMBEDDER, lexical=LEXICAL)
    assert probe.words.startswith("loop stable")
    assert "plot" in probe.words
    assert np.linalg.norm(probe.vector) == pytest.approx(1.0, abs=1e-5)


REPLY = {
    "standalone": "Where was Goethe born?",
    "keywords": ["birthplace", "Frankfurt"],
    "sub_questions": ["Who wrote Faust?", "Where was that author born?"],
    "evidence": "Goethe was born in Frankfurt.",
}


async def test_a_model_rewrites_in_one_call_that_is_counted() -> None:
    """The model's rewrite is typed, attributed and paid for."""
    meter = Meter()
    rewrite, usage = await ModelRewriter(Asker(ScriptedModel([json.dumps(REPLY)], name="m"))).rewrite(
        Question(text="Where was he born?", history=FAUST), meter=meter
    )
    assert rewrite.standalone == REPLY["standalone"]
    assert rewrite.sub_questions == tuple(REPLY["sub_questions"])
    assert rewrite.written_by == "m"
    assert usage.calls == meter.spent.calls == 1


async def test_history_reaches_the_model_as_data() -> None:
    """Earlier turns are fenced items of the prompt, in order."""
    seen: list[str] = []

    def answer(request: Request) -> str:
        seen.append(request.messages[-1].content)
        return json.dumps(REPLY)

    await ModelRewriter(Asker(FunctionModel(answer))).rewrite(Question(text="Where was he born?", history=FAUST))
    assert seen[0].index("<item 1>") < seen[0].index("Who wrote Faust?") < seen[0].index("Where was he born?")


@pytest.mark.parametrize(
    "replies", [["garbage", "garbage"], [ModelUnavailable("down")] * 8, ['{"standalone": ""}'] * 2]
)
async def test_a_rewriter_that_fails_is_stood_in_for(replies: list[str | Exception]) -> None:
    """Garbage, silence and an empty rewrite end with the embedded rewrite, labelled; what was spent is counted."""
    asker, meter = Asker(ScriptedModel(replies, name="m"), limits=Limits(attempts=2, first_wait=0.001)), Meter()
    rewrite, usage = await ModelRewriter(asker).rewrite(Question(text="Where was he born?", history=FAUST), meter=meter)
    assert rewrite.written_by == "fallback:m"
    assert "Goethe" in rewrite.standalone
    assert usage.calls == meter.spent.calls >= 1


async def test_a_spent_budget_rewrites_for_free() -> None:
    """Without a call left the embedded rewriter stands in, and the model is not asked."""
    rewrite, usage = await ModelRewriter(Asker(ScriptedModel([], name="m"))).rewrite(
        Question(text="tea"), meter=Meter(Budget(max_calls=0))
    )
    assert (rewrite.written_by, usage.calls) == ("fallback:m", 0)


async def test_a_wrong_key_is_not_hidden() -> None:
    """A server that refuses for good is the user's to know."""
    with pytest.raises(ModelRefused):
        await ModelRewriter(Asker(ScriptedModel([ModelRefused("wrong key")]))).rewrite(Question(text="tea"))


async def test_a_hostile_rewrite_is_cut_to_size() -> None:
    """Endless lists and texts from the model reach the search in bounded form."""
    flood = {
        "standalone": "x " * 5000,
        "keywords": ["k" * 999] * 99,
        "sub_questions": ["q"] * 99,
        "evidence": "e " * 5000,
    }
    rewrite, _ = await ModelRewriter(Asker(ScriptedModel([json.dumps(flood)]))).rewrite(Question(text="tea"))
    assert len(rewrite.standalone) < 2000
    assert (len(rewrite.keywords), len(rewrite.sub_questions)) == (1, 1)
    assert len(rewrite.evidence) <= 800


async def test_condensing_asks_only_where_there_is_a_history() -> None:
    """A first question is its own condensation; a later one is the model's, or the embedded one where it fails."""
    assert await condense(Question(text="tea?"), Asker(ScriptedModel([]))) == ("tea?", (await _free()))
    asked, usage = await condense(
        Question(text="Where was he born?", history=FAUST),
        Asker(ScriptedModel(['{"standalone": "Where was Goethe born?"}'])),
    )
    assert (asked, usage.calls) == ("Where was Goethe born?", 1)
    text, _ = await condense(Question(text="Where was he born?", history=FAUST), Asker(ScriptedModel(["no", "no"])))
    assert "Goethe" in text


async def _free() -> object:
    _, usage = await NoRewriter().rewrite(Question(text=""))
    return usage
