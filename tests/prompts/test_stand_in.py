"""The stand-in model answers every prompt in form, from what the prompt says."""

from __future__ import annotations

import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.replies import (
    CondenseReply,
    FingerprintReply,
    ReadReply,
    RewriteReply,
    SlateReply,
    SummaryReply,
    TopicsReply,
    settle,
)
from branchwise.prompts.stand_in import stand_in_model
from tests.prompts.test_library import VARIABLES

KINDS = {
    "judge_leaf.v1": SlateReply,
    "judge_inner.v1": SlateReply,
    "fingerprint.v1": FingerprintReply,
    "summarise.v1": SummaryReply,
    "topics.v1": TopicsReply,
    "rewrite.v1": RewriteReply,
    "condense.v1": CondenseReply,
    "read.v1": ReadReply,
}


@pytest.mark.parametrize("name", sorted(VARIABLES))
async def test_every_prompt_is_answered_at_the_first_asking(name: str) -> None:
    """Typed, unrepaired, one call, the same each time."""
    model = stand_in_model()
    first = await Asker(model).ask(name, VARIABLES[name], KINDS[name])
    again = await Asker(model).ask(name, VARIABLES[name], KINDS[name])
    assert first.value == again.value
    assert not first.repaired
    assert len(model.requests) == 2


async def test_it_reads_what_it_is_shown() -> None:
    """Shared words score, quotes are literal, every string is in one topic, languages stay."""
    asker = Asker(stand_in_model())
    scores, _ = settle((await asker.ask("judge_leaf.v1", VARIABLES["judge_leaf.v1"], SlateReply)).value, 3)
    assert scores[2] == 0
    read = {"passages": ["The moon. Yeast makes bread rise by gas."], "history": [], "query": "Why does bread rise?"}
    reading = (await asker.ask("read.v1", read, ReadReply)).value
    assert reading.sentences[0].citations[0].quote in read["passages"][0]
    topics = (await asker.ask("topics.v1", VARIABLES["topics.v1"], TopicsReply)).value
    assert sorted(n for topic in topics.topics for n in topic.members) == [1, 2]
    summary = (await asker.ask("summarise.v1", {"children": ["El pan sube. Sí."], "count": 1}, SummaryReply)).value
    assert summary.parts[0].text == "El pan sube."
    nothing = {**read, "query": "Who painted Guernica?"}
    assert not (await asker.ask("read.v1", nothing, ReadReply)).value.found
