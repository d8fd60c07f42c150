"""HTTP servers on 127.0.0.1 that can die, come back, and answer some requests as no healthy server does.

`rankzero.testing.faults` has the wrong answers.
"""

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
    """A request that came."""

    time: float
    name: str
    """What faults are named by: method, path and query, unless the server says otherwise."""
    size: int
    """Bytes of the body as it came."""


class _Programmed(NamedTuple):
    name: str
    body: bytes
    fault: Fault
    left: Iterator[None]


class LoopbackServer:
    """A server; it can be stopped and started again on the same port."""

    handler: ClassVar[type[LoopbackHandler]]

    def __init__(self) -> None:
        self.requests: list[Request] = []
        """What came, in order."""
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
        """Where it is, also while it is stopped."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._listener is not None

    def start(self) -> None:
        """Listen."""
        with self._starting:
            self._listener = _Listener(self, self._port) if self._port else self._listen_anywhere()
            self._port = self._listener.server_address[1]
            threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def _listen_anywhere(self) -> _Listener:
        """Listen on a port that the system gives to nobody else while the server is stopped."""
        while True:
            with suppress(OSError):  # in use
                return _Listener(self, random.randrange(20_000, 30_000))

    def stop(self) -> None:
        """End as a kill would: connections break, new ones are refused."""
        with self._starting:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.shutdown()
                listener.server_close()
                listener.end_connections()

    def fail(self, name: str, fault: Fault, times: int = 1 << 30, body: str = "") -> None:
        """From now on, let requests meet a fault.

        Args:
            name: which: those whose name contains this.
            fault: what happens to them.
            times: how often; of faults that fit, the one that was named first goes first.
            body: and with this text in what they send, unpacked.
        """
        self._faults.append(_Programmed(name, body.encode(), fault, itertools.repeat(None, times)))

    def heal(self) -> None:
        """Be healthy from now on; what is stalled ends."""
        self._faults.clear()
        healed, self._healed = self._healed, threading.Event()
        healed.set()

    def wait_for_healing(self, seconds: float = threading.TIMEOUT_MAX) -> None:
        """Wait until somebody heals it, but no longer than that."""
        self._healed.wait(min(seconds, threading.TIMEOUT_MAX))

    def fault_for(self, name: str, body: bytes) -> Fault | None:
        """Return the fault that a request meets, if any."""
        for wanted, inside, fault, left in self._faults:
            if wanted in name and inside in body and next(left, 0) is None:
                return fault
        return None

    def count(self, name: str) -> int:
        """How many requests came whose name contains this."""
        return sum(name in request.name for request in self.requests)

    def note_change(self) -> None:
        """Called after each request."""


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers what comes over one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one segment
    server: _Listener
    body: bytes

    def handle(self) -> None:
        """Answer until the connection ends."""
        with suppress(ConnectionError):  # who asked has gone
            super().handle()

    def finish(self) -> None:
        """Send what is left."""
        with suppress(ConnectionError):
            super().finish()

    def ask(self) -> Answer | None:
        """Answer as a healthy server does; None if the answer is sent already."""
        raise NotImplementedError

    def name(self) -> str:
        """What the request is called when a fault is looked for."""
        return f"{self.command} {self.path}"

    def unpacked(self, body: bytes) -> bytes:
        """Return the body as it was before it was packed."""
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
        """Keep quiet."""


class _Listener(ThreadingTCPServer):
    """Takes connections, and can end them all."""

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
        """End those that are open."""
        for connection in list(self._open):
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)
