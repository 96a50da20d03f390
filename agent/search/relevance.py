"""Path relevance: how relevant a node is, given how relevant the path to it is.

Knows nothing of trees, judges or slates. Tested in tests/agent/test_relevance.py.
"""

from __future__ import annotations

CUT_OFF = 0.09
"""LATTICE's code gives a node that scores this or less no credit from its parent (the paper has no such rule)."""


def path_relevance(parent: float | None, local: float, *, alpha: float, cut_off: float = 0.0) -> float:
    """Relevance of a node given the path to it, in [0, 1] where both inputs are.

    `alpha` weighs the parent's path relevance against the node's own score: 1 trusts the path, 0 the node
    (arXiv:2510.13217v2, eq. 4; the paper uses 0.5). `parent` is None where nobody has judged the path, as for a
    passage that a seed reached directly: then the node speaks for itself. A `local` of `cut_off` or less takes no
    credit from the parent.
    """
    if parent is None or local <= cut_off:
        return local
    return alpha * parent + (1 - alpha) * local
