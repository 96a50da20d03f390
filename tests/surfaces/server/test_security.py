"""Who is let in, how much they may send, and what a browser is told it may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from branchwise.agent.surfaces.server import open_embedded, serve
from branchwise.agent.surfaces.server.app import WEB, create_app
from branchwise.agent.surfaces.server.security import MAX_BODY, Guard, access_for
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.stores.errors import InputError

TOKEN = "a-token-of-thirty-two-characters"


def guarded(index_path: Path, host: str = "127.0.0.1", token: str | None = None, **more: Any) -> httpx2.AsyncClient:
    """A client of a guarded application that was never started: what passes the guard fails with 500, or is public."""
    app = create_app(Shelf({"topics": index_path}, open_embedded), access=access_for(host, token=token, **more))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "128.0.0.1"])
def test_a_bind_beyond_loopback_needs_a_token(host: str, index_path: Path) -> None:
    """Without a token nothing but loopback is bound, and no socket is opened to find out."""
    with pytest.raises(InputError, match="token"):
        serve({"topics": index_path}, host=host, port=0)
    assert access_for(host, token=TOKEN).token == TOKEN


def test_a_short_token_is_refused() -> None:
    """A token that can be guessed is none."""
    with pytest.raises(InputError, match="at least 16"):
        access_for("0.0.0.0", token="hunter2")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_none(host: str) -> None:
    """On loopback the server is for this machine's user."""
    assert access_for(host, token=None).token is None


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "169.254.169.254", "a b"]
)
async def test_a_foreign_host_is_refused(index_path: Path, host: str) -> None:
    """DNS rebinding: a page whose name now points at this machine still sends its own name as Host."""
    async with guarded(index_path) as client:
        answer = await client.get("/healthz", headers={"host": host})
    assert answer.status_code == 421
    assert "evil" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321", "docs.example:80"])
async def test_our_own_names_are_known(index_path: Path, host: str) -> None:
    """Loopback in any spelling and the names that were allowed."""
    async with guarded(index_path, allowed_hosts=["docs.example"]) as client:
        assert (await client.get("/style.css", headers={"host": host})).status_code == 200


async def test_bound_to_all_addresses_any_address_is_a_host_but_no_name(index_path: Path) -> None:
    """Rebinding needs a name; a bare address in the Host header is what was typed."""
    async with guarded(index_path, host="0.0.0.0", token=TOKEN) as client:
        assert (await client.get("/style.css", headers={"host": "10.1.2.3:8321"})).status_code == 200
        assert (await client.get("/style.css", headers={"host": "evil.example"})).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "https://evil.example"},
    ],
)
async def test_other_sites_are_refused(index_path: Path, headers: dict[str, str]) -> None:
    """A page elsewhere can make a browser send requests here; the browser says so, and that ends it."""
    async with guarded(index_path) as client:
        answer = await client.post("/search", json={"question": "x"}, headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        preflight = await client.options(
            "/search", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
        )
        assert preflight.status_code == 403


async def test_the_page_and_links_to_it_work(index_path: Path) -> None:
    """Same origin, no browser at all, and following a link from elsewhere are all fine."""
    async with guarded(index_path) as client:
        for headers in (
            {"origin": "http://127.0.0.1:8321", "sec-fetch-site": "same-origin"},
            {},
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        ):
            assert (await client.get("/", headers=headers)).status_code == 200


async def test_the_token_opens_everything_but_the_empty_page(index_path: Path) -> None:
    """Without it: the page's own files and the health; with it: all. A wrong one is no one's."""
    async with guarded(index_path, token=TOKEN) as client:
        for path in (*WEB, "/healthz"):
            assert (await client.get(path)).status_code != 401, path
        for path in ("/indexes", "/tree", "/document?doc_id=x", "/metrics", "/v1/models", "/openapi.json", "/nope"):
            assert (await client.get(path)).status_code == 401, path
            wrong = await client.get(path, headers={"authorization": f"Bearer {TOKEN}x"})
            assert wrong.status_code == 401, path
            assert wrong.headers["www-authenticate"] == "Bearer"
            assert (await client.get(path, headers={"authorization": f"Bearer {TOKEN}"})).status_code != 401, path


async def test_large_bodies_are_refused_before_they_are_read(index_path: Path) -> None:
    """By their own word, and, where they give none, when they pass the limit."""
    async with guarded(index_path) as client:
        told = await client.post("/search", content=b"x" * (MAX_BODY + 1))
        assert told.status_code == 413

        async def endless() -> Any:
            for _ in range(MAX_BODY // 65_536 + 2):
                yield b"x" * 65_536

        assert (await client.post("/search", content=endless())).status_code == 413
        assert (await client.post("/search", content=b"{}", headers={"content-length": "-5"})).status_code == 413


async def test_every_answer_is_locked_down(index_path: Path) -> None:
    """Page, data, refusal and error all carry the policy: nothing inline, nothing from elsewhere, no framing."""
    async with guarded(index_path) as client:
        answers = [
            await client.get("/"),
            await client.get("/app.js"),
            await client.get("/nope"),
            await client.get("/", headers={"host": "evil.example"}),
        ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


async def test_the_page_names_no_other_host(index_path: Path) -> None:
    """No CDN, no font, no inline script or style: every reference is to the server itself."""
    async with guarded(index_path) as client:
        for path in WEB:
            text = (await client.get(path)).text.replace("http://www.w3.org/2000/svg", "")
            assert "//" not in text.replace("// ", "").replace('"/', ""), path if "http" in text else ""
            assert "http" not in text.replace("http:", "") or "http://" not in text, path
            assert "innerHTML" not in text
            assert " style=" not in text
            assert "<script>" not in text


async def test_nothing_of_a_request_is_logged(index_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log has method, route, status and time; no query, no body, no token, no header."""
    caplog.set_level("INFO")
    async with guarded(index_path, token=TOKEN) as client:
        await client.get("/document?doc_id=quokka-secret", headers={"authorization": f"Bearer {TOKEN}"})
        await client.post("/search", json={"question": "zyzzyva"}, headers={"authorization": "Bearer wrong-key"})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("branchwise")]
    assert any('"route": "/document"' in line for line in lines)
    assert not any(word in line for line in lines for word in ("quokka", "zyzzyva", TOKEN, "wrong-key"))


async def test_the_guard_passes_websockets_and_lifespan_through() -> None:
    """Only HTTP is guarded; the application has nothing else to open."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    await Guard(app, access_for("127.0.0.1", token=None))({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
