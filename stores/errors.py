"""Every error that Branchwise raises on purpose.

    BranchwiseError
    ├── InputError               yours: an argument, a file, the configuration        exit 2, HTTP 400
    ├── BudgetSpent              a limit you set is reached; what was bought is kept  exit 0, `partial`
    ├── StoreError               the index                                            exit 3, HTTP 409
    │   ├── IndexMissing         nothing there
    │   ├── IndexMismatch        another format version or another embedder
    │   ├── IndexCorrupt         a file is damaged or gone; names the file
    │   └── IndexLocked          another writer is at work
    └── ModelError               the model or its server                              exit 4
        ├── ModelUnavailable     may succeed later: retried                           HTTP 503
        ├── ModelRefused         will not succeed by trying again: key, quota, name   HTTP 502
        └── ReplyInvalid         carries prompt name, prompt version and reply body   HTTP 502

A message says whose fault it is, names the thing, and gives the next command. A bug stays what it is: a TypeError is
never dressed up as one of these. Tested in tests/stores/test_errors.py.
"""

from __future__ import annotations


class BranchwiseError(Exception):
    """Base of all errors raised on purpose; `hint` is the next command or step, shown on a line of its own."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(BranchwiseError):
    """An argument, a file or the configuration is wrong, and only the caller can mend it."""

    exit_code = 2
    http_status = 400


class BudgetSpent(BranchwiseError):
    """The next call would pass a limit that the caller set. Raised before the call, so nothing is overspent."""

    exit_code = 0
    http_status = 200


class StoreError(BranchwiseError):
    """The index on disk cannot be used as asked."""

    exit_code = 3
    http_status = 409


class IndexMissing(StoreError):
    """There is no index at this path, or no such node, passage or document in it."""


class IndexMismatch(StoreError):
    """The index has another format version, or was embedded by another embedder."""


class IndexCorrupt(StoreError):
    """A file of the index is damaged or gone; the message names it."""


class IndexLocked(StoreError):
    """Another process is writing this index; readers are not affected."""


class ModelError(BranchwiseError):
    """The model or its server did not do what was asked."""

    exit_code = 4
    http_status = 502


class ModelUnavailable(ModelError):
    """The server cannot be reached, is overloaded or timed out: the same call may succeed later.

    `retry_after` is the server's own wish in seconds, None where it gave none.
    """

    http_status = 503

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ModelRefused(ModelError):
    """The server says no for good: wrong key, unknown model, exhausted quota, a request it will never accept."""


class ReplyInvalid(ModelError):
    """The model answered, but not with what the prompt asks for."""

    def __init__(self, message: str, *, prompt: str = "", body: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.prompt = prompt
        self.body = body
