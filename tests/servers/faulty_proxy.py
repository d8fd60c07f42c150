"""A proxy on loopback before a real server, which answers some requests as no healthy server would.

proxy.fail("log-batch", status(429, retry_after="1"), times=2)
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What the real server said."""

    status: int
    headers: dict[str, str]
    body: bytes


Fault = Callable[["_Handler"], Answer | None]
"""Returns what is answered; with None the connection is closed without a word."""


class Request(NamedTuple):
    """A request that came."""

    time: float
    method: str
    path: str


def status(code: int, body: str = "", **headers: str) -> Fault:
    """Answer with a status, and not pass the request on."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return lambda handler: Answer(code, named, body.encode())


def lost(handler: _Handler) -> None:
    """Pass the request on, and lose the answer."""
    handler.ask()


def truncated(handler: _Handler) -> Answer:
    """Pass the request on, and break off in the middle of the answer."""
    answer = handler.ask()
    return answer._replace(body=answer.body[: len(answer.body) // 2], headers={"Content-Length": str(1 << 20)})


def silent(seconds: float) -> Fault:
    """Say nothing for some seconds, then close the connection."""
    return lambda handler: time.sleep(seconds)


class FaultyProxy:
    """The proxy; ``uri`` is where it is, ``requests`` what came.

    Args:
        target: the URI of the real server.
    """

    def __init__(self, target: str) -> None:
        self.requests: list[Request] = []
        self._target = urlsplit(target).netloc
        self._faults: list[tuple[str, Fault, Iterator[None]]] = []
        self._server = _Server(self)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, text: str, fault: Fault, times: int | None = None) -> None:
        """From now on, let requests with ``text`` in method, path or body meet a fault, so many times."""
        self._faults.append((text, fault, repeat(None) if times is None else repeat(None, times)))

    def heal(self) -> None:
        """Let all requests pass."""
        self._faults.clear()

    def fault_for(self, request: str) -> Fault | None:
        """Return the fault that a request meets, if any."""
        return next((fault for text, fault, left in self._faults if text in request and next(left, 0) is None), None)

    def pass_on(self, handler: _Handler) -> Answer:
        """Ask the real server."""
        connection = http.client.HTTPConnection(self._target)
        connection.request(handler.command, handler.path, handler.body, dict(handler.headers))
        response = connection.getresponse()
        body = response.read()
        connection.close()
        kept = {name: value for name, value in response.getheaders() if name.lower() == "content-type"}
        return Answer(response.status, kept, body)

    @contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Serve as long as the context lasts."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one segment
    server: _Server

    def ask(self) -> Answer:
        return self.server.proxy.pass_on(self)

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.proxy.requests.append(Request(time.time(), self.command, self.path))
        fault = self.server.proxy.fault_for(f"{self.command} {self.path} {self.body.decode(errors='replace')}")
        answer = fault(self) if fault else self.ask()
        self.close_connection = self.close_connection or fault is not None
        if answer is not None:
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked has gone
                self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""
