"""The error tree: whose fault, which exit code, what next."""

from __future__ import annotations

import pytest

from branchwise.stores import errors


@pytest.mark.parametrize(
    ("kind", "parent", "exit_code", "http_status"),
    [
        (errors.InputError, errors.BranchwiseError, 2, 400),
        (errors.BudgetSpent, errors.BranchwiseError, 0, 200),
        (errors.IndexMissing, errors.StoreError, 3, 409),
        (errors.IndexMismatch, errors.StoreError, 3, 409),
        (errors.IndexCorrupt, errors.StoreError, 3, 409),
        (errors.IndexLocked, errors.StoreError, 3, 409),
        (errors.ModelUnavailable, errors.ModelError, 4, 503),
        (errors.ModelRefused, errors.ModelError, 4, 502),
        (errors.ReplyInvalid, errors.ModelError, 4, 502),
    ],
)
def test_each_error_has_its_place(
    kind: type[errors.BranchwiseError], parent: type, exit_code: int, http_status: int
) -> None:
    """Parent, exit code and HTTP status are those of the table in the README."""
    assert issubclass(kind, parent)
    assert (kind.exit_code, kind.http_status) == (exit_code, http_status)


def test_the_hint_stands_on_its_own_line() -> None:
    """What is wrong first, then the next command; without a hint, one line."""
    assert str(errors.InputError("No.", hint="branchwise demo")) == "No.\n  branchwise demo"
    assert str(errors.InputError("No.")) == "No."


def test_a_broken_reply_carries_its_evidence() -> None:
    """Prompt and body are there to be looked at, and not in the message."""
    error = errors.ReplyInvalid("Bad reply.", prompt="judge_leaf.v1", body="{")
    assert (error.prompt, error.body, str(error)) == ("judge_leaf.v1", "{", "Bad reply.")
    assert errors.ModelUnavailable("Busy.", retry_after=2.0).retry_after == 2.0
