"""HTTP servers on 127.0.0.1 that can be stopped and restarted, and that fail with `rankzero.testing.faults`."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, ClassVar, NamedTuple, Self


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes


Fault = Callable[[Any], Answer | None]
"""Called with the `LoopbackHandler` of a request; returns the answer, or None to close the connection without one."""


class Request(NamedTuple):
    """A received request."""

    time: float
    name: str
    """The name for choosing faults: method, path and query, unless the server overrides it."""
    size: int
    """The size of the received body in bytes."""


class _Programmed(NamedTuple):
    name: str
    body: bytes
    fault: Fault
    left: Iterator[None]


class LoopbackServer:
    """A server that can be stopped and started again on the same port."""

    handler: ClassVar[type[LoopbackHandler]]

    def __init__(self) -> None:
        self.requests: list[Request] = []
        """The received requests, in order."""
        self._port = 0
        self._listener: _Listener | None = None
        self._faults: list[_Programmed] = []
        self._healed = threading.Event()
        self._starting = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.heal()

    @property
    def url(self) -> str:
        """The URL, also while the server is stopped."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether the server is started."""
        return self._listener is not None

    def start(self) -> None:
        """Start to listen."""
        with self._starting:
            self._listener = _Listener(self, self._port) if self._port else self._listen_anywhere()
            self._port = self._listener.server_address[1]
            threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def _listen_anywhere(self) -> _Listener:
        """Listen on a port that the system does not assign to other programs while the server is stopped."""
        while True:
            with suppress(OSError):  # the port is in use
                return _Listener(self, random.randrange(20_000, 30_000))

    def stop(self) -> None:
        """Stop like a kill: open connections break, new ones are refused."""
        with self._starting:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.shutdown()
                listener.server_close()
                listener.end_connections()

    def fail(self, name: str, fault: Fault, times: int = 1 << 30, body: str = "") -> None:
        """Make requests fail with a fault from now on.

        Args:
            name: a part of the name of the requests.
            fault: the fault.
            times: how often; of several matching faults, the one added first comes first.
            body: a text that the unpacked body of the requests must contain.
        """
        self._faults.append(_Programmed(name, body.encode(), fault, itertools.repeat(None, times)))

    def heal(self) -> None:
        """Remove all faults; stalled requests end."""
        self._faults.clear()
        healed, self._healed = self._healed, threading.Event()
        healed.set()

    def wait_for_healing(self, seconds: float = threading.TIMEOUT_MAX) -> None:
        """Wait until `heal` is called, at most ``seconds``."""
        self._healed.wait(min(seconds, threading.TIMEOUT_MAX))

    def fault_for(self, name: str, body: bytes) -> Fault | None:
        """Return the fault for a request, if any."""
        for wanted, inside, fault, left in self._faults:
            if wanted in name and inside in body and next(left, 0) is None:
                return fault
        return None

    def count(self, name: str) -> int:
        """Return the number of received requests whose name contains a text."""
        return sum(name in request.name for request in self.requests)

    def note_change(self) -> None:
        """Called after each request."""


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one segment
    server: _Listener
    body: bytes

    def handle(self) -> None:
        """Answer requests until the connection ends."""
        with suppress(ConnectionError):  # the client has closed the connection
            super().handle()

    def finish(self) -> None:
        """Send the buffered data."""
        with suppress(ConnectionError):
            super().finish()

    def ask(self) -> Answer | None:
        """Process the request and return the correct answer; None if it is sent already."""
        raise NotImplementedError

    def name(self) -> str:
        """Return the name of the request for choosing a fault."""
        return f"{self.command} {self.path}"

    def unpacked(self, body: bytes) -> bytes:
        """Return the body without its content encoding."""
        return body

    def _handle(self) -> None:
        raw = self._read_body()
        self.body = self.unpacked(raw)
        owner, name = self.server.owner, self.name()
        owner.requests.append(Request(time.time(), name, len(raw)))
        fault = owner.fault_for(name, self.body)
        answer = fault(self) if fault else self.ask()
        self.close_connection = self.close_connection or fault is not None
        if answer is not None:
            self._send(answer)
        owner.note_change()

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        connection = "close" if self.close_connection else "keep-alive"
        headers = {"Content-Length": str(len(answer.body)), "Connection": connection, **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _Listener(ThreadingTCPServer):
    """Accepts connections, and can close all of them."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: LoopbackServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), owner.handler)
        self.owner: Any = owner
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Close all open connections."""
        for connection in list(self._open):
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
