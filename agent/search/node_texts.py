"""What a judge that reads sees of a node, for one question: no text of a passage that the question excludes.

A leaf shows its title and passage, a branch its title and summary. Where some passages below a branch are excluded, or
filtered out, its summary may speak of them; then only the lines on children of which nothing is excluded are shown, and
the partly excluded children are described in the same way. Tested in tests/agent/test_judge_model.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from branchwise.stores.index import Index
from branchwise.stores.records import Question

MOST_LINES = 24
"""Lines at most where a summary is put together from parts, each of about 30 words."""


def visible_texts(index: Index, question: Question, node_ids: Sequence[str]) -> dict[str, str]:
    """Title and text of each node as `question` may see them."""
    allowed = index.allowed_rows(question.filters, question.excluded_ids)
    texts = index.texts(node_ids)
    return {node_id: _text(index, node_id, texts, allowed) for node_id in node_ids}


def _text(index: Index, node_id: str, texts: Mapping[str, str], allowed: npt.NDArray[np.bool_] | None) -> str:
    if allowed is None or index.tree.is_leaf(node_id) or allowed[index.tree.leaf_rows(node_id)].all():
        return join(index.tree.node(node_id).title, texts[node_id])
    return "\n".join(_lines(index, node_id, allowed)[:MOST_LINES])


def _lines(index: Index, node_id: str, allowed: npt.NDArray[np.bool_]) -> list[str]:
    """A line on each child of which nothing is excluded, and the lines of those of which something is left."""
    said = {part.child_id: part.text for part in index.node(node_id).parts}
    lines: list[str] = []
    for child in index.tree.children(node_id):
        seen = allowed[index.tree.leaf_rows(child)]
        if seen.all():
            lines.append(f"- {said.get(child) or index.tree.node(child).title}")
        elif seen.any() and len(lines) < MOST_LINES:
            lines.extend(_lines(index, child, allowed))
    return lines


def join(title: str, text: str) -> str:
    """Title, then text, without saying the title twice."""
    return text if not title or text.startswith(title) else f"{title}\n{text}" if text else title
