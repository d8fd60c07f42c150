"""A proxy on 127.0.0.1 before a real server, which answers some requests as no healthy server does."""

from __future__ import annotations

import gzip
import http.client
import re
from contextlib import suppress
from urllib.parse import urlsplit

from rankzero.testing.loopback import Answer, Fault, LoopbackHandler, LoopbackServer

SIGN_IN = "/rankzero-testing/sign-in"
"""Where the proxy has a page of its own, as a portal before a server has."""

PAGE = "<html>Sign in</html>"

_NOT_PASSED_ON = ("connection", "content-length", "date", "keep-alive", "server", "transfer-encoding")
_IDS = re.compile(r"(?i)[0-9a-f]{16,}|[0-9a-f-]{36}|\d+")


class _Handler(LoopbackHandler):
    def ask(self) -> Answer:
        if self.path == SIGN_IN:
            return Answer(200, {"Content-Type": "text/html"}, PAGE.encode())
        proxy: FaultyProxy = self.server.owner
        return proxy.pass_on(self.command, self.path, self.body_as_sent, dict(self.headers))

    def unpacked(self, body: bytes) -> bytes:
        self.body_as_sent = body
        with suppress(OSError, EOFError):  # it is not packed
            return gzip.decompress(body)
        return body


class FaultyProxy(LoopbackServer):
    """The proxy. It stands where the client believes the server to be.

    Args:
        target: the URL of the real server.
    """

    handler = _Handler

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = urlsplit(target)
        self._each: Fault | None = None
        self._met: set[str] = set()

    def fail_each(self, fault: Fault) -> None:
        """From now on, let each request meet a fault once: each method and path, whatever the ids in it are."""
        self._each = fault
        self._met.clear()

    def heal(self) -> None:
        """Let all requests pass."""
        self._each = None
        super().heal()

    def fault_for(self, name: str, body: bytes) -> Fault | None:
        """Return the fault that a request meets, if any; the text that `fail` was given may be in the body, too."""
        fault = super().fault_for(f"{name} {body.decode(errors='replace')}", body)
        kind = _IDS.sub("#", name.partition("?")[0])
        if fault is None and self._each is not None and kind not in self._met:
            self._met.add(kind)
            fault = self._each
        return fault

    def pass_on(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Ask the real server."""
        connection = http.client.HTTPConnection(self._target.netloc)
        passed = {name: value for name, value in headers.items() if name.lower() != "transfer-encoding"}
        connection.request(method, path, body, {**passed, "Content-Length": str(len(body)), "Connection": "close"})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _NOT_PASSED_ON}
        return Answer(response.status, kept, content)
