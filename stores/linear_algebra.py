"""How many threads multiply matrices. The only home of threadpoolctl. Tested in tests/stores/test_linear_algebra.py."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra of this process by one thread while the block lasts.

    What is multiplied here is small, and threads of BLAS wait for each other by spinning: where the machine had other
    work, two took four times the processor time of one (clusters of 50,000 passages: 13.9 seconds and 3.3; a search: 79
    milliseconds and 48). The setting is the whole process's, so a block is for whoever owns the process, or is short.
    """
    limited: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> Any:
    """What NumPy has loaded; found once, since looking takes milliseconds."""
    import numpy as np  # noqa: F401  # its library must be there to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
