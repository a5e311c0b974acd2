"""The addresses of a server: /predict, /explain, /model, /health, the page, and /openapi.json."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from zoo import __version__, catalog
from zoo.api.model import Model
from zoo.api.run import Run
from zoo.errors import InputError, UsageError, ZooError
from zoo.export.web import part as page_part
from zoo.predict import writers
from zoo.serve.desk import Desk
from zoo.serve.intake import Intake, refused

AFTER = 0.3  # seconds from an answer until what is not for it may begin
_UNREAD = "if a viewer shows it, save it anew as JPEG or PNG; else take another copy of it"
_ROW = {
    "type": "object",
    "description": "A row of `zoo predict --json`.",
    "properties": {
        "path": {"type": "string", "description": "the file's name, as it was sent"},
        "status": {"enum": ["ok", "error"]},
        "label": {"description": "the likeliest class; of several labels a list"},
        "probability": {"description": "of the label; of several labels a list"},
        "error": {"type": ["string", "null"]},
        "labels": {"type": "array", "items": {"type": "string"}},
        "probabilities": {"type": "array", "items": {"type": "number"}},
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "object", "properties": {"files": {"type": "array", "items": _BINARY["schema"]}}}
_BODY = {"multipart/form-data": {"schema": _FILES}, "image/*": _BINARY}
_WHY = {
    400: "the request is damaged, or ended early", 401: "the token is missing or wrong",
    403: "a page of another address sent it",
    408: "it came too slowly", 413: "too many bytes or pictures",
    415: "neither a picture nor a form with files", 422: "no picture of it can be read",
    503: "too much waits: send it again later",
}  # fmt: skip
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": why} for status, why in _WHY.items()
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes. queue: pictures that wait. size: bytes of a request.

    token: that every request must carry but those for the page and /health. hosts: the names by
    which it may be called, against pages elsewhere that find a way to this machine; any if none.
    """

    queue: int = 128
    size: int = 32_000_000
    token: str | None = None
    hosts: Sequence[str] = ()


def create(model: Model, limits: Limits) -> FastAPI:
    """Return the application over a model that is opened here. Raises ZooError."""
    desk, intake = Desk(model, limits.queue), Intake(limits.size)
    app = _without_addresses(limits)
    known = [Depends(partial(_must_know, limits.token))]
    page, policy = _page()

    async def predict(request: Request, top: Annotated[int, Query(ge=1)] = 1) -> Response:
        """Name what each picture shows: a row each, in order."""
        async with intake.pictures(request) as found:
            _must_fit(desk, len(found))
            ready = [asyncio.wrap_future(desk.row(one, top)) for one in found]
            rows = [await ready[0]] if len(ready) == 1 else await asyncio.gather(*ready)
        if _explains(model):
            asyncio.get_running_loop().call_later(AFTER, desk.prepare)
        form = writers.Form(min(top, len(desk.predictor.classes)))
        told = [writers.shown(writers.as_object(row, form)) for row in rows]
        bad = all(row.status == "error" for row in rows)
        first = {"error": rows[0].error, "hint": _UNREAD, "rows": told}
        return _json(first, 422) if bad else _json(told)

    app.router.add_api_route(
        "/predict", predict, methods=["POST"], dependencies=known,
        responses=_ERRORS | _ok({"application/json": _rows()}),
        openapi_extra={"requestBody": {"content": _BODY}},
        route_class_override=_Direct if limits.token is None else APIRoute,
    )  # fmt: skip

    @app.post(
        "/explain", dependencies=known, responses=_ERRORS | _ok({"image/png": _BINARY}),
        openapi_extra={"requestBody": {"content": _BODY}},
    )  # fmt: skip
    async def explain(request: Request, label: str | None = None) -> Response:
        """Draw which places of a picture speak for a class, by Grad-CAM: a PNG."""
        if not _explains(model):
            raise refused(422, "an exported file has no Grad-CAM", "serve the run it came from")
        async with intake.pictures(request) as found:
            if len(found) != 1:
                raise refused(422, f"{len(found)} pictures to explain", "send one")
            _must_fit(desk, 1)
            drawn = await asyncio.wrap_future(desk.explained(found[0], label))
        return Response(drawn, media_type="image/png")

    @app.get("/model", dependencies=known)
    async def about() -> dict[str, Any]:
        """Tell what answers: classes, Preprocess, licence and version."""
        return _about(model, desk)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tell that it is ready, and how many pictures wait and were answered."""
        return {"status": "ok", "waiting": desk.waiting, "answered": desk.answered}

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        desk.page_seen = True
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})

    app.state.desk = desk
    return app


def _without_addresses(limits: Limits) -> FastAPI:
    app = FastAPI(title="zoo serve", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_Called, names=limits.hosts)
    app.add_exception_handler(AnyHTTPException, _said)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ZooError, _failed)
    return app


class _Direct(APIRoute):
    """A route whose function is called with the request at once where nothing stands behind a `?`.

    FastAPI's search for what is not there would take as long as all else beside the network.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        looked_at = super().get_route_handler()

        async def handler(request: Request) -> Response:
            answer = looked_at if request.scope["query_string"] else self.endpoint
            found: Response = await answer(request)
            return found

        return handler


class _Called:
    """Refuses a request for another host's name than those of the server, if any are given."""

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.names:
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("host", "")
        if re.sub(r":\d*$", "", asked).strip("[]").lower() in self.names:
            await self.app(scope, receive, send)
            return
        hint = f"it is {self.names[0]}, for this machine alone; a proxy sends `Host: localhost`"
        told = {"error": f"the server is not called {asked!r}", "hint": hint}
        await _json(told, 400)(scope, receive, send)


async def _must_know(
    token: str | None,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Refuse whoever does not carry the token, where there is one.

    A coroutine, as all that FastAPI calls here: for a function it changes threads, and back.
    """
    said = given.credentials if given else ""
    if token is not None and not secrets.compare_digest(said.encode(), token.encode()):
        hint = "send `Authorization: Bearer TOKEN`"
        detail = {"error": "the token is missing or wrong", "hint": hint}
        raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def _must_fit(desk: Desk, count: int) -> None:
    """Refuse pictures for which the queue has no room."""
    if not desk.has_room(count):
        what = f"{desk.waiting} pictures wait, and {count} more are above {desk.most}"
        raise refused(503, what, "send it again later, or serve with a longer --queue")


def _explains(model: Model) -> bool:
    return not catalog.is_exported(model.name)


def _about(model: Model, desk: Desk) -> dict[str, Any]:
    weights = model.record.get("weights", {}) if isinstance(model, Run) else {}
    return {
        "model": model.record["model"] if isinstance(model, Run) else Path(model.name).name,
        "classes": [writers.shown({"": name})[""] for name in desk.predictor.classes],
        "threshold": desk.predictor.threshold,
        "preprocess": desk.predictor.preprocess.to_dict(),
        "licence": weights.get("licence") or None,
        "engine": desk.predictor.about,
        "explains": _explains(model),
        "version": __version__,
    }


def _page() -> tuple[str, str]:
    """Return the page and its policy: its own script and styles, and this server, alone."""
    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    for name in ("photos.css", "photos.html", "photos.js"):
        text = text.replace(f"{{{name}}}", page_part(name))
    digests = {}
    for kind in ("script", "style"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digests[kind] = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    return text, (
        "default-src 'none'; img-src blob: data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; "
        f"script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'"
    )


# What is said, and how.


def _rows() -> dict[str, Any]:
    return {"schema": {"type": "array", "items": _ROW}}


def _ok(content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "the answer", "content": content}}


def _json(value: object, status: int = 200, headers: Any = None) -> Response:
    return Response(json.dumps(value), status, headers, "application/json")


async def _said(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    detail: Any = error.detail
    there = "POST /predict takes photos; /openapi.json has all of it"
    said = detail if isinstance(detail, dict) else {"error": str(detail), "hint": there}
    return _json(said, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    what = f"{first['loc'][-1]}={first.get('input')!r}: {first['msg']}"
    return _json({"error": what, "hint": "/openapi.json has what is taken"}, 422)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ZooError)
    status = 422 if isinstance(error, InputError | UsageError) else 500
    return _json({"error": error.what, "hint": error.advice}, status)
