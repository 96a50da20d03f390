"""Embeddings from any OpenAI-compatible server.

The key comes from the environment and is never stored; what is stored is the model, the server's address and a
fingerprint of the vectors it gave for a fixed text. Tested in tests/stores/test_embed_endpoint.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from branchwise.stores.embedding import KIND_FILE, FloatMatrix, FloatVector, Progress, unit_rows
from branchwise.stores.errors import InputError, ModelRefused, ModelUnavailable

if TYPE_CHECKING:
    from openai import OpenAI

_BATCH = 64  # texts a request: every known server takes as many
_ATTEMPTS = 5
_TIMEOUT = 60.0  # seconds a request
_LONGEST_WAIT = 60.0  # seconds between two attempts
_PROBE = "Branchwise: a tree of meanings."
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class EndpointEmbedder:
    """`dimension` and `fingerprint` are found out by one request when first asked for.

    The fingerprint is model, host, dimension and the rounded direction of a probe, so that another model behind the
    same name is noticed, and the noise of a GPU is not.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self.name = f"openai:{model}"
        self._model = model
        self._base_url = base_url
        self._api_key = api_key

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return len(self._probe)

    @cached_property
    def fingerprint(self) -> str:
        """What tells these vectors apart from others, as the server gives them now."""
        largest = np.argsort(-np.abs(self._probe), kind="stable")[:4]
        signs = [int(np.sign(self._probe[i])) for i in largest]
        direction = sorted(zip(largest.tolist(), signs, strict=True))
        host = urlsplit(str(self._client.base_url)).hostname or ""
        digest = hashlib.sha256(json.dumps([len(self._probe), direction]).encode()).hexdigest()[:12]
        return f"{self.name}/{host}/{len(self._probe)}/{digest}"

    def embed_texts(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatMatrix:
        """(n, d) float32 with unit rows; zero for an empty text, which servers refuse.

        Raises ModelUnavailable where the server failed five times, ModelRefused where it never will accept.
        """
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            some = texts[start : start + _BATCH]
            rows = [row for row, text in enumerate(some) if text.strip()]
            if rows:
                vectors = self._request([some[row] for row in rows])
                if vectors.shape[1] != self.dimension:
                    raise ModelRefused(
                        f"{self.name} gave vectors of {vectors.shape[1]} dimensions instead of {self.dimension}."
                    )
                found[[start + row for row in rows]] = vectors
            if progress is not None:
                progress(len(some))
        return found

    def embed_query(self, text: str) -> FloatVector:
        """(d,) float32, a unit vector or zero."""
        vector: FloatVector = self.embed_texts([text])[0]
        return vector

    def save(self, folder: Path) -> None:
        """Write model, address and fingerprint; neither a key nor anything else that the address may carry."""
        parts = urlsplit(str(self._client.base_url))
        netloc = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
        facts = {
            "kind": "endpoint",
            "model": self._model,
            "base_url": urlunsplit((parts.scheme, netloc, parts.path, "", "")),
            "dimension": self.dimension,
            "fingerprint": self.fingerprint,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KIND_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @cached_property
    def _probe(self) -> FloatVector:
        vector: FloatVector = self._request([_PROBE])[0]
        return vector

    @cached_property
    def _client(self) -> OpenAI:
        import openai

        try:
            return openai.OpenAI(
                base_url=self._base_url, api_key=self._api_key or _key(), max_retries=0, timeout=_TIMEOUT
            )
        except openai.OpenAIError as error:
            raise InputError(
                f"The embedder {self.name} cannot be used: {error}", hint="Set OPENAI_API_KEY and OPENAI_BASE_URL."
            ) from error

    def _request(self, texts: list[str]) -> FloatMatrix:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        attempts = Retrying(
            retry=retry_if_exception_type(ModelUnavailable),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_wait(),
            reraise=True,
        )
        reply: FloatMatrix = attempts(self._call, texts)
        return reply

    def _call(self, texts: list[str]) -> FloatMatrix:
        import openai

        try:
            reply = self._client.embeddings.create(model=self._model, input=texts, encoding_format="float")
        except openai.APIStatusError as error:
            message = f"{self.name} answered {error.status_code}: {self._told(error.message)}"
            if error.status_code in _RETRIED and error.code != "insufficient_quota":
                raise ModelUnavailable(message, retry_after=_retry_after(error.response.headers)) from error
            raise ModelRefused(message) from error
        except openai.APIConnectionError as error:
            raise ModelUnavailable(
                f"{self.name} cannot be reached: {error}", hint="Is the server running, and --base-url right?"
            ) from error
        except ValueError as error:  # a body that is no JSON, or JSON without data, passes the client as this
            raise ModelRefused(f"{self.name} did not answer with embeddings.") from error
        return self._matrix(reply, len(texts))

    def _told(self, text: str) -> str:
        """What a server said, cut short; some repeat the key."""
        return text.replace(self._client.api_key, "[key]")[:300]

    def _matrix(self, reply: Any, count: int) -> FloatMatrix:
        """The vectors in the order of the texts; servers may give them in any."""
        try:
            rows = sorted(reply.data, key=lambda row: int(row.index))
            matrix = np.array([row.embedding for row in rows], dtype=np.float32)
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelRefused(f"{self.name} did not answer with embeddings.") from error
        if matrix.ndim != 2 or len(matrix) != count or not np.isfinite(matrix).all():
            raise ModelRefused(f"{self.name} answered with {matrix.shape} numbers for {count} texts.")
        return unit_rows(matrix)


def _wait() -> Callable[[Any], float]:
    """The server's own wish, or else a wait that doubles, with jitter."""
    from tenacity import wait_random_exponential

    backoff = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT)

    def wait(state: Any) -> float:
        error = state.outcome.exception()
        wished = error.retry_after if isinstance(error, ModelUnavailable) else None
        return min(_LONGEST_WAIT, wished) if wished is not None else float(backoff(state))

    return wait


def _retry_after(headers: Any) -> float | None:
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _key() -> str:
    """A local server needs no key, but the client wants one."""
    return os.environ.get("OPENAI_API_KEY") or "none"
