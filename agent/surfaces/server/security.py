"""Who may talk to the server, and what a browser may do with its answers.

One ASGI layer around everything, so that no route can forget it. A web page that a user visits elsewhere must not reach
a server on the user's own machine: the Host must be ours (DNS rebinding), the Origin, where a browser names one, must
be the same site, and no CORS header is ever sent. Any bind other than loopback needs a token. Bodies are bounded while
they arrive. Nothing of a request but its method, route, status and time is logged. Knows nothing of indexes or
searches. Tested in tests/surfaces/server/test_security.py.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from branchwise.stores.errors import InputError

log = logging.getLogger("branchwise.server")

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MIN_TOKEN = 16  # characters; `secrets.token_urlsafe(24)` gives 32
MAX_BODY = 1_000_000  # bytes of a JSON request: a question of 20,000 characters, a long history and 10,000 ids

# No script, style, font, image or request from anywhere but here; no inline code; no HTML made from strings.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who is let in: the names the server goes by, and the token, where one is asked for."""

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    any_address: bool = False
    """Bound beyond loopback: any bare IP address is a fine Host, since rebinding needs a name."""


def access_for(host: str, *, token: str | None, allowed_hosts: Iterable[str] = ()) -> Access:
    """The access rules of a server bound to `host`. Raises InputError where the bind needs a (longer) token."""
    if token is not None and len(token) < MIN_TOKEN:
        raise InputError(f"the token has {len(token)} characters, at least {MIN_TOKEN} are needed")
    if token is None and not is_loopback(host):
        raise InputError(
            f"binding to {host} opens the server to the network, and that needs a token",
            hint="set BRANCHWISE_TOKEN to a long random string, or bind to 127.0.0.1",
        )
    hosts = LOOPBACK_NAMES | {name.lower() for name in allowed_hosts} | {host.lower()}
    return Access(token=token, hosts=frozenset(hosts), any_address=not is_loopback(host))


def is_loopback(host: str) -> bool:
    """True where only this machine can connect to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """The layer itself: checks a request before the application sees it, and marks every answer."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        *,
        public: frozenset[str] = frozenset(),
        max_body: int = MAX_BODY,
        max_upload: int = 0,
    ) -> None:
        """`public` are the paths that need no token: they hold no data. Bodies are limited in bytes."""
        self._app = app
        self._public = public
        self._access = access
        self._max_body = max_body
        self._max_upload = max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with one sentence, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        limit = max(self._max_upload, self._max_body) if scope["path"] == "/documents" else self._max_body
        refusal = self._refusal(scope, limit)
        try:
            if refusal:
                await _refuse(marked, *refusal)
            else:
                await self._app(scope, _bounded(receive, limit), marked)
        finally:
            route = getattr(scope.get("route"), "path", "-")
            milliseconds = round(1000 * (time.perf_counter() - started), 1)
            log.info(json.dumps({"method": scope["method"], "route": route, "status": status, "ms": milliseconds}))

    def _refusal(self, scope: Scope, limit: int) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "this server does not go by that name (Host header); add it with --allow-host"
        if not _same_site(headers, hosts[0]):
            return 403, "requests from other sites are refused (Origin header)"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            return 413, f"the body is larger than {limit:,} bytes"
        if self._access.token and scope["path"] not in self._public and not self._knows(headers):
            return 401, "this server asks for its token: send the header Authorization: Bearer TOKEN"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._access.hosts:
            return True
        if not self._access.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _knows(self, headers: Headers) -> bool:
        given = headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._access.token}".encode())


def _same_site(headers: Headers, host: str) -> bool:
    """True unless a browser says that another site sent this. Clients that are no browsers send neither header."""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return headers.get("sec-fetch-mode") == "navigate" and "origin" not in headers
    origin = headers.get("origin")
    return origin is None or origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


def _bounded(receive: Receive, limit: int) -> Receive:
    """`receive`, but a body that grows past the limit without having said so is cut off there."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"the body is larger than {limit:,} bytes")
        return message

    return counted


async def _refuse(send: Send, status: int, sentence: str) -> None:
    kind = {401: "unauthorized", 403: "forbidden", 413: "too_large", 421: "misdirected"}[status]
    body = json.dumps({"error": {"type": kind, "message": sentence}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
