"""Path relevance."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from branchwise.agent.search.relevance import CUT_OFF, path_relevance

share = st.floats(0, 1)


@given(parent=share, local=share, more=share, alpha=share)
def test_is_bounded_and_monotone(parent: float, local: float, more: float, alpha: float) -> None:
    """Relevance stays between parent and node, and never falls when either rises."""
    value = path_relevance(parent, local, alpha=alpha)
    assert min(parent, local) - 1e-12 <= value <= max(parent, local) + 1e-12
    assert path_relevance(max(parent, more), local, alpha=alpha) >= value - 1e-12
    assert path_relevance(parent, max(local, more), alpha=alpha) >= value - 1e-12


def test_unknown_path_takes_nothing_away() -> None:
    """Where nobody judged the path the node speaks for itself: unknown is not 0."""
    assert path_relevance(None, 0.7, alpha=0.5) == 0.7


def test_cut_off_gives_no_credit() -> None:
    """A node at the cut-off gets nothing from a good parent, one above it does."""
    assert path_relevance(1.0, 0.09, alpha=0.5, cut_off=CUT_OFF) == 0.09
    assert path_relevance(1.0, 0.1, alpha=0.5, cut_off=CUT_OFF) == 0.55
