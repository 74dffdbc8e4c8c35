"""Routes: bytes or pixels in, labels out; nothing here opens a path or an address that a request names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastnn.distribution import to_install
from fastnn.errors import FastnnError, MissingExtraError
from fastnn.web.guards import Guards, Receive, RefusedError, Scope, Send
from fastnn.web.metrics import Metrics
from fastnn.web.predict import Predict
from fastnn.web.service import Service
from fastnn.web.session import TrainingSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from fastnn.model.model import Model

ASSETS = {  # path: file beside this one, type
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/digit.js": ("digit.js", "text/javascript; charset=utf-8"),
    "/openapi.json": ("openapi.json", "application/json"),
}


def application(models: dict[str, Model], hosts: Iterable[str] = (), training: bool = True) -> Any:
    """The server, as an ASGI application.

    Parameters
    ----------
    models : dict of str to Model
        The first is asked where none is named.
    hosts : iterable of str
        Names besides the loopback ones that it may be called by.
    training : bool
        Whether nets may be trained here.

    Raises
    ------
    MissingExtraError
        When Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError(f"the page needs Starlette and uvicorn: {to_install('web')}") from error

    service, metrics = Service(models), Metrics()
    session = TrainingSession(service.add, service.drop) if training else None
    assets = {path: (files("fastnn.web").joinpath(name).read_bytes(), kind) for path, (name, kind) in ASSETS.items()}

    async def asset(request: Request) -> Response:
        content, kind = assets[request.url.path]
        return Response(content, media_type=kind)

    async def list_models(request: Request) -> Response:
        listed = {"models": [_model(name, one.model) for name, one in list(service.models.items())]}
        return JSONResponse({**listed, "train": session.choices if session else None})

    async def train(request: Request) -> Response:
        assert session
        session.start(_json(request, await request.body()))
        return JSONResponse({"started": True}, 202)

    async def stop(request: Request) -> Response:
        assert session
        session.stop()
        return JSONResponse({"stopped": True})

    async def events(request: Request) -> Response:
        assert session
        return StreamingResponse(session.events(), media_type="text/event-stream")

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", "models": len(service.models), "waiting": service.waiting})

    async def show_metrics(request: Request) -> Response:
        return PlainTextResponse(metrics.text(service.waiting), media_type="text/plain; version=0.0.4")

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse({"error": error.message}, error.status, error.headers)

    async def unreadable(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    async def by_status(request: Request, error: Exception) -> Response:
        status = int(getattr(error, "status_code", 500))
        said = {404: "there is nothing here; see /openapi.json", 405: "not by this method; see /openapi.json"}
        headers = getattr(error, "headers", None)
        return JSONResponse({"error": said.get(status, "something went wrong here")}, status, headers)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if session:
                session.close()
            service.close()

    app = Starlette(
        routes=[
            *(Route(path, asset) for path in assets),
            Route("/models", list_models),
            Route("/healthz", healthz),
            Route("/metrics", show_metrics),
            *([Route("/train", train, methods=["POST"])] if session else []),
            *([Route("/train/stop", stop, methods=["POST"]), Route("/train/events", events)] if session else []),
        ],
        exception_handlers={
            RefusedError: refused,
            FastnnError: unreadable,
            404: by_status,
            405: by_status,
            500: by_status,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    predict = Predict(service, metrics)

    async def by_path(scope: Scope, receive: Receive, send: Send) -> None:
        endpoint: Any = predict if scope.get("path") == "/predict" else app
        await endpoint(scope, receive, send)

    return Guards(by_path, hosts, metrics.count)


def _json(request: Request, body: bytes) -> Any:
    """The JSON of a request; its type forces a browser to ask first, so that a foreign page can't send it blindly."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "content-type: expected application/json")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "not JSON") from error


def _model(name: str, model: Model) -> dict[str, Any]:
    return {
        "name": name,
        "layers": list(model.network.sizes),
        "classes": list(model.classes),
        "sha256": model.sha256,
        "unsure_below": model.unsure_below,
    }
