"""One thread of linear algebra, and all of them again afterwards."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from branchwise.stores.linear_algebra import one_thread


def _threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_one_thread_while_the_block_lasts() -> None:
    """Blocks may nest; at the end everything is as it was."""
    assert np.ones(3) @ np.ones(3) == 3
    before = _threads()
    with one_thread():
        assert set(_threads()) <= {1}
        with one_thread():
            assert set(_threads()) <= {1}
        assert set(_threads()) <= {1}
    assert _threads() == before
