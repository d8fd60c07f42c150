"""The server of `rankzero view`: it serves only this machine, and only who knows its token.

The token is the first part of every path, so no other page, and no other user of the machine, can ask for anything. The
host must be this machine's, so that no name that an attacker's DNS points here is served, and the origin, if a browser
names it, must be the page itself.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from rankzero.reader.page.contents import TYPES
from rankzero.reader.page.html import policy, render
from rankzero.reader.page.packing import as_block, as_json
from rankzero.reader.view.live import LiveRuns
from rankzero.values import to_jsonable

HOST = "127.0.0.1"
_PORTS = 50  # to try
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_MEDIA_POLICY = "sandbox; default-src 'none'"  # a file that is opened by itself runs no script

_read_news = msgspec.json.Decoder(dict[str, tuple[int, int]])


class Guard:
    """ASGI middleware that refuses requests without the token, of other hosts and of other origins."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            if not self._is_allowed(request, scope["server"][1]):
                await PlainTextResponse("not allowed: open the address that rankzero view printed", 403)(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, request: Request, port: int) -> bool:
        hosts = (f"{HOST}:{port}", f"localhost:{port}")
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        token = request.scope["path"].split("/")[1]
        return (
            secrets.compare_digest(token.encode(), self._token.encode())
            and host in hosts
            and (origin is None or origin == f"http://{host}")
        )


def make_app(directory: Path, token: str) -> Starlette:
    """Return the ASGI application that serves the runs below a directory."""
    runs, lock = LiveRuns(directory), threading.Lock()

    def reading(read: Callable[..., Any]) -> Callable[..., Any]:
        """Read files in a thread, one request at a time."""

        def read_alone(*args: Any) -> Any:
            with lock:
                return read(*args)

        return lambda *args: run_in_threadpool(read_alone, *args)

    async def page(request: Request) -> Response:
        manifest = as_block(as_json(to_jsonable(await reading(runs.manifest)())))
        html = render(f"runs in {directory.name or directory}", [("manifest", manifest)], is_live=True)
        headers = {"Content-Security-Policy": policy(is_live=True)}
        return StreamingResponse(html, media_type="text/html", headers=_HEADERS | headers)

    async def curves(request: Request) -> Response:
        return _data(await reading(runs.curves)(request.query_params.get("name", "")))

    async def details(request: Request) -> Response:
        try:
            return _data(await reading(lambda: runs[request.path_params["number"]].details())())
        except IndexError:
            return _missing()

    async def media(request: Request) -> Response:
        try:
            path = runs[request.path_params["number"]].media(request.path_params["path"])
        except IndexError:
            path = None
        if path is None:
            return _missing()
        kind = TYPES.get(path.suffix.lower())
        headers = _HEADERS | {"Content-Security-Policy": _MEDIA_POLICY}
        disposition = "inline" if kind else "attachment"
        return FileResponse(
            path,
            media_type=kind or "application/octet-stream",
            headers=headers,
            filename=path.name,
            content_disposition_type=disposition,
        )

    async def news(request: Request) -> Response:
        try:
            read = _read_news.decode(await request.body())
        except msgspec.MsgspecError:
            return PlainTextResponse("not understood", 400, headers=_HEADERS)
        return _data(as_json(to_jsonable(await reading(runs.news)(read))))

    routes = [
        Route(f"/{token}/", page),
        Route(f"/{token}/curves", curves),
        Route(f"/{token}/details/{{number:int}}", details),
        Route(f"/{token}/media/{{number:int}}/{{path:path}}", media),
        Route(f"/{token}/news", news, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)])


def _data(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream", headers=_HEADERS)


def _missing() -> Response:
    return PlainTextResponse("there is no such file", 404, headers=_HEADERS)


def bind(port: int) -> socket.socket:
    """Return a socket that listens on a port of this machine, or on the next one that is free.

    Raises:
        OSError: all of the next ports are taken.
    """
    for number in range(port, port + _PORTS):
        try:
            return socket.create_server((HOST, number))
        except OSError:
            if number == port + _PORTS - 1 or not port:
                raise
    raise AssertionError


def serve(directory: Path, token: str, listening: socket.socket) -> None:
    """Serve until the user presses Ctrl-C.

    Raises:
        KeyboardInterrupt: the user did; all connections are closed.
    """
    config = uvicorn.Config(make_app(directory, token), log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])
