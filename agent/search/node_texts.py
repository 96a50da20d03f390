"""What a judge that reads sees of a node, for one question: no text of a passage that the question excludes.

A leaf shows its title and passage, a branch its title and summary, or what `search.sight` leaves of it. Tested in
tests/agent/test_judge_model.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from branchwise.agent.search.sight import Sight
from branchwise.agent.search.sight import join as join
from branchwise.stores.index import Index
from branchwise.stores.records import Question


def visible_texts(index: Index, question: Question, node_ids: Sequence[str]) -> dict[str, str]:
    """Title and text of each node as `question` may see them."""
    return Sight(index, question).texts(node_ids)
