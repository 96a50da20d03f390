"""The HTTP application: its routes, its errors, its beginning and its end.

REST (`/search`, `/ask`, `/tree`, `/document`, `/indexes`), the same questions as a stream of events that can be
resumed, the web page, and what operators look at (`/healthz`, `/metrics`). OpenAI's protocol is next door (openai_api),
as are the rules of access (security) and uploads. Tested in tests/surfaces/server/test_rest.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sse_starlette import EventSourceResponse, JSONServerSentEvent
from starlette.exceptions import HTTPException

from branchwise.agent.surfaces.server import openai_api, uploads
from branchwise.agent.surfaces.server.desk import ClientGone, Desk, unless_gone
from branchwise.agent.surfaces.server.events import Run
from branchwise.agent.surfaces.server.gate import Busy, Gate
from branchwise.agent.surfaces.server.security import Access, Guard
from branchwise.agent.surfaces.server.shelf import Shelf
from branchwise.agent.surfaces.server.wire import Id, QuestionIn, node_json, read_sight
from branchwise.agent.surfaces.shapes import answer_json, search_json
from branchwise.stores.errors import BranchwiseError, IndexMissing, InputError, ModelUnavailable
from branchwise.stores.index import Index

PING_SECONDS = 15
WINDOW = 20_000  # characters of a document in one answer
PAGE = 200  # children of a node in one answer

WEB = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/dom.js": ("dom.js", "text/javascript; charset=utf-8"),
    "/evidence.js": ("evidence.js", "text/javascript; charset=utf-8"),
    "/net.js": ("net.js", "text/javascript; charset=utf-8"),
    "/steps.js": ("steps.js", "text/javascript; charset=utf-8"),
    "/tree.js": ("tree.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

JsonFilters = Annotated[str | None, Query(max_length=10_000)]
ExcludedIds = Annotated[Sequence[Id], Query(max_length=1_000)]

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at once: searches that run, searches that wait, bytes of an upload (0: none are taken)."""

    max_running: int = 8
    max_waiting: int = 500
    max_upload: int = 0
    refresh_seconds: float = 2.0
    grace_seconds: float = 5.0


def create_app(shelf: Shelf, *, access: Access, limits: Limits | None = None) -> Guard:
    """The application over a shelf, which is opened, where it is not yet, when it starts, and closed when it ends."""
    limits = limits or Limits()
    gate = Gate(max_running=limits.max_running, max_waiting=limits.max_waiting)
    desk = Desk(shelf=shelf, gate=gate, grace=limits.grace_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await shelf.open()
        refreshing = asyncio.create_task(shelf.keep_fresh(limits.refresh_seconds))
        try:
            yield
        finally:
            refreshing.cancel()
            for run in desk.runs:
                run.cancel()
            await asyncio.gather(*(run.wait() for run in desk.runs))
            shelf.close()

    # No documentation pages: FastAPI's load their scripts from elsewhere. /openapi.json describes everything.
    # Nor its own telemetry, which newer versions have: it tells the query of an address, and the words of an error.
    # Older ones take the argument and ignore it. What is told is told by desk.Desk.
    silent: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    app = FastAPI(title="Branchwise", lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=silent)
    app.state.desk = desk
    app.state.limits = limits
    app.include_router(router)
    app.include_router(openai_api.router)
    if limits.max_upload:
        app.include_router(uploads.router)
    app.add_exception_handler(BranchwiseError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientGone, _on_gone)
    app.add_exception_handler(Exception, _on_bug)
    return Guard(app, access, public=frozenset(WEB) | {"/healthz"}, max_upload=limits.max_upload)


def desk_of(request: Request) -> Desk:
    """The desk of the application that serves this request."""
    desk: Desk = request.app.state.desk
    return desk


@router.post("/search")
async def search(request: Request, asked: QuestionIn) -> Any:
    """Hits for a question: one JSON object, or the events of the search with `"stream": true`."""
    desk = desk_of(request)
    if asked.stream:
        return _events(desk.start("search", asked))
    return search_json(await unless_gone(request, desk.search(asked)))


@router.post("/ask")
async def ask(request: Request, asked: QuestionIn) -> Any:
    """A cited answer: one JSON object, or the events of search and reader with `"stream": true`."""
    desk = desk_of(request)
    if asked.stream:
        return _events(desk.start("ask", asked))
    return answer_json(await unless_gone(request, desk.ask(asked)))


@router.get("/runs/{run_id}/events")
async def resume(request: Request, run_id: str, last_event_id: Annotated[int, Header()] = -1) -> EventSourceResponse:
    """The events of a run after `Last-Event-ID`: those already told at once, then those to come."""
    return _events(desk_of(request).runs.get(run_id), after=last_event_id)


@router.post("/runs/{run_id}/stop")
async def stop(request: Request, run_id: str) -> dict[str, bool]:
    """Stop searching, and answer now from what was found."""
    desk_of(request).runs.get(run_id).meter.stop()
    return {"stopping": True}


@router.delete("/runs/{run_id}")
async def cancel(request: Request, run_id: str) -> dict[str, bool]:
    """End a run without an answer."""
    desk_of(request).runs.get(run_id).cancel()
    return {"cancelled": True}


@router.get("/indexes")
async def list_indexes(request: Request) -> dict[str, Any]:
    """What may be asked: each index with its size, and who judges and reads."""
    desk = desk_of(request)
    listed = []
    for name in desk.shelf.names:
        async with desk.shelf.lease(name) as engine:
            manifest = engine.index.manifest
            listed.append(
                {
                    "name": name,
                    "title": manifest.title,
                    "generation": manifest.generation,
                    "counts": dict(manifest.counts),
                    "judge": engine.judge_name,
                    "model": engine.asker.name if engine.asker else None,
                }
            )
    return {"indexes": listed, "uploads": bool(request.app.state.limits.max_upload)}


def refuse_strangers(request: Request) -> None:
    """Raise InputError for a parameter that the route does not have: a misspelt filter would hide nothing."""
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    if stranger := next((name for name in request.query_params if name not in known), None):
        raise InputError(f"{stranger}: there is no such parameter", hint=f"There are {', '.join(known)}.")


@router.get("/tree", dependencies=[Depends(refuse_strangers)])
async def tree(
    request: Request,
    index: Annotated[str | None, Query(max_length=200)] = None,
    node: Annotated[str | None, Query(max_length=1_000)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    filters: JsonFilters = None,
    excluded_ids: ExcludedIds = (),
) -> dict[str, Any]:
    """A node (the root where none is named) with its text, the way to it, and its children, 200 at a time.

    `filters` (a JSON object) and `excluded_ids` (repeatable) hide what they would hide from a search.
    """
    wanted = read_sight(filters, excluded_ids)

    def look(opened: Index) -> dict[str, Any]:
        sight = wanted.to_sight(opened)
        node_id = node or sight.root_id
        if node_id is None:
            return {"node": None, "path": [], "children": [], "next_offset": None}
        children = sight.children(node_id)
        shown = children[offset : offset + PAGE]
        return {
            "node": node_json(sight, node_id),
            "path": list(opened.tree.path_to(node_id)),
            "children": [node_json(sight, child) for child in shown],
            "next_offset": offset + PAGE if offset + PAGE < len(children) else None,
        }

    async with desk_of(request).shelf.lease(index) as engine:
        return await asyncio.to_thread(look, engine.index)


@router.get("/document", dependencies=[Depends(refuse_strangers)])
async def document(
    request: Request,
    doc_id: Annotated[str, Query(max_length=1_000)],
    index: Annotated[str | None, Query(max_length=200)] = None,
    start: Annotated[int, Query(ge=0)] = 0,
    filters: JsonFilters = None,
    excluded_ids: ExcludedIds = (),
) -> dict[str, Any]:
    """The stretch of a document that holds character `start`, 20,000 characters at most, and where it begins.

    `filters` and `excluded_ids` as for /tree: spaces stand for a passage that they hide, and `hidden` says where.
    """
    wanted = read_sight(filters, excluded_ids)
    async with desk_of(request).shelf.lease(index) as engine:
        found, hidden = await asyncio.to_thread(lambda: wanted.to_sight(engine.index).document(doc_id))
        first = max(0, min(start - WINDOW // 4, len(found.text) - WINDOW))
        return {
            "doc_id": found.doc_id,
            "title": found.title,
            "source": Path(found.source).name,
            "length": len(found.text),
            "first": first,
            "text": found.text[first : first + WINDOW],
            "hidden": hidden,
        }


@router.get("/healthz")
async def healthz(request: Request) -> JSONResponse:
    """Whether the server serves; 503 where an index could not follow its newest generation."""
    shelf = desk_of(request).shelf
    status = "stale" if shelf.troubles else "ok"
    return JSONResponse({"status": status, "stale": sorted(shelf.troubles)}, status_code=503 if shelf.troubles else 200)


@router.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    """Counters for Prometheus."""
    desk = desk_of(request)
    runs = sum(not run.finished for run in desk.runs)
    return PlainTextResponse(desk.metrics.expose(running=desk.gate.running, waiting=desk.gate.waiting, runs=runs))


async def _page(request: Request) -> Response:
    name, media_type = WEB[request.url.path]
    body = resources.files("branchwise.agent.surfaces.server").joinpath("web", name).read_bytes()
    return Response(body, media_type=media_type, headers={"cache-control": "no-cache"})


for _path in WEB:
    router.add_api_route(_path, _page, methods=["GET"], include_in_schema=False)


def _events(run: Run, *, after: int = -1) -> EventSourceResponse:
    """A run as server-sent events; each carries its number, its kind, and the milliseconds since the run began."""

    async def stream() -> AsyncIterator[JSONServerSentEvent]:
        async for told in run.follow(after):
            event = told.event
            yield JSONServerSentEvent(
                {"seq": event.seq, "kind": event.kind, "ms": told.milliseconds, "payload": event.payload},
                event=event.kind,
                id=str(event.seq),
            )

    return EventSourceResponse(
        stream(), ping=PING_SECONDS, headers={"x-run-id": run.run_id}, shutdown_grace_period=5, send_timeout=30
    )


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BranchwiseError)  # noqa: S101  # registered for this class
    status = 404 if isinstance(error, IndexMissing) else error.http_status
    wait = error.retry_after if isinstance(error, Busy | ModelUnavailable) else None
    headers = {} if wait is None else {"retry-after": str(max(1, round(wait)))}
    return _error(status, type(error).__name__, error.message, hint=error.hint, headers=headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body or a parameter that does not fit: say which, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _error(400, "InputError", f"{where or 'body'}: {first['msg']}")


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    return _error(error.status_code, "HTTPError", str(error.detail), headers=dict(error.headers or {}))


async def _on_gone(request: Request, error: Exception) -> JSONResponse:
    """Nobody reads this; 499 is what the log shows."""
    return _error(499, "ClientGone", "the client closed the connection")


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    """Ours: the traceback goes to the log, and no detail to the client."""
    return _error(500, "InternalError", "the server failed; its log says where")


def _error(
    status: int, kind: str, message: str, *, hint: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    """One shape for every error, which OpenAI's clients read too."""
    body = {"error": {"type": kind, "message": message, "hint": hint, "code": status}}
    return JSONResponse(json.loads(json.dumps(body)), status_code=status, headers=headers)
