"""OpenAIChat against a real server on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from branchwise.prompts.ask import Asker
from branchwise.prompts.openai_chat import OpenAIChat
from branchwise.prompts.replies import SlateReply, settle
from tests.loopback.server import LoopbackServer, run_server

SLATE = {
    "relevance": "It answers the query.",
    "reasons": True,
    "candidates": ["Bread rises because yeast makes gas.", "The moon pulls the tides."],
    "anchors": ["Salt slows yeast."],
    "count": 3,
    "query": "Why does bread rise with yeast?",
}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A fresh loopback server."""
    with run_server() as running:
        yield running


async def test_a_slate_is_judged_through_a_server(server: LoopbackServer) -> None:
    """The competent stand-in behind the server ranks the passage that shares the query's words first."""
    asker = Asker(OpenAIChat("stand-in", server.base_url))
    asked = await asker.ask("judge_leaf.v1", SLATE, SlateReply)
    scores, complaint = settle(asked.value, 3)
    assert complaint is None
    assert scores[1] is not None
    assert scores[2] == 0
    assert scores[1] > (scores[3] or 0)
    assert asked.usage.calls == 1
    assert asked.usage.input_tokens > 100
    assert asked.usage.cost == 0.0
    await asker.aclose()
