"""What every request passes before anything is done for it: who it comes from, how large it is, how long it takes.

A page elsewhere can make a browser send requests to this machine; so the Host header must be one of ours (DNS
rebinding), and the Origin, where there is one, the page we served (cross-site requests; `null` is foreign).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MAX_BODY = 2**20
BODY_SECONDS = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_OF_PAGES = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    ),
    "referrer-policy": "no-referrer",
}
_OF_ALL = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
HEADERS = {**_OF_PAGES, **_OF_ALL}
_JSON = (b"content-type", b"application/json")
_JSON_HEADERS, _HEADERS = ([(k.encode(), v.encode()) for k, v in named.items()] for named in (_OF_ALL, HEADERS))

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]
Count = Callable[[str, int], None]


class RefusedError(Exception):
    """A request that is answered with an error: status, and what to say."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class Guards:
    """ASGI middleware: checks Host, Origin and size, reads the body within its time, adds headers, counts responses.

    Parameters
    ----------
    app : ASGI application
        Gets whole bodies.
    hosts : iterable of str
        Allowed besides the loopback names, without ports.
    count : callable
        Told the path and the status of every response.
    """

    def __init__(self, app: Any, hosts: Iterable[str] = (), count: Count = lambda path, status: None) -> None:
        self._app, self._count = app, count
        self._hosts = {name.lower() for name in (*LOOPBACK, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let the application do it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets here
            return
        started = False

        async def guarded(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._count(scope["path"], message["status"])
                message["headers"] += _JSON_HEADERS if _JSON in message["headers"] else _HEADERS
            await send(message)

        try:
            self._check_source(scope)
            body = await self._body(scope, receive)
            await self._app(scope, _replayed(body, receive), guarded)
        except RefusedError as refused:
            if not started:
                await respond(guarded, refused.status, {"error": refused.message}, refused.headers)
        except ConnectionError:
            pass  # whoever asked is gone
        except Exception:
            if not started:
                await respond(guarded, 500, {"error": "something went wrong here"})
            raise  # so that it is logged

    def _check_source(self, scope: Scope) -> None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = headers.get("host", [])
        if len(host) != 1 or _without_port(host[0]) not in self._hosts:
            raise RefusedError(400, "this Host is not served here; whoever runs the server can allow it")
        origins = headers.get("origin", [])
        if any(origin.lower() != f"{scope.get('scheme', 'http')}://{host[0]}".lower() for origin in origins):
            raise RefusedError(403, "requests from pages of other origins are not answered")
        site, mode = headers.get("sec-fetch-site", [""])[0], headers.get("sec-fetch-mode", [""])[0]
        visit = scope["method"] == "GET" and mode == "navigate" and scope["path"] == "/"  # a link to the page
        if site in ("cross-site", "same-site") and not visit:
            raise RefusedError(403, "requests from other sites are not answered")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        lengths = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
        if lengths and lengths[0].isdigit() and int(lengths[0]) > MAX_BODY:
            raise RefusedError(413, f"a body of more than {MAX_BODY:,} bytes", {"connection": "close"})
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY:
                        raise RefusedError(413, f"a body of more than {MAX_BODY:,} bytes", {"connection": "close"})
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RefusedError(
                408, f"the body took more than {BODY_SECONDS:g} seconds", {"connection": "close"}
            ) from None


def _without_port(host: str) -> str:
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdigit() and not name.endswith(":") else host.lower()


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def once() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


async def respond(
    send: Send, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """A whole JSON response."""
    body = json.dumps(content).encode()
    pairs = [_JSON, (b"content-length", b"%d" % len(body))]
    pairs += [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
