"""A proxy on 127.0.0.1 in front of a real server, which makes requests fail."""

from __future__ import annotations

import gzip
import http.client
import re
from contextlib import suppress
from urllib.parse import urlsplit

from rankzero.testing.loopback import Answer, Fault, LoopbackHandler, LoopbackServer

SIGN_IN = "/rankzero-testing/sign-in"
"""The path of a page of the proxy itself, like the login page of a portal."""

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
        with suppress(OSError, EOFError):  # the body is not compressed
            return gzip.decompress(body)
        return body


class FaultyProxy(LoopbackServer):
    """The proxy, which the client uses instead of the server.

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
        """Make each kind of request fail once from now on: each method and path, ignoring ids in the path."""
        self._each = fault
        self._met.clear()

    def heal(self) -> None:
        """Forward all requests."""
        self._each = None
        super().heal()

    def fault_for(self, name: str, body: bytes) -> Fault | None:
        """Return the fault for a request, if any; the text given to `fail` may also be in the body."""
        fault = super().fault_for(f"{name} {body.decode(errors='replace')}", body)
        kind = _IDS.sub("#", name.partition("?")[0])
        if fault is None and self._each is not None and kind not in self._met:
            self._met.add(kind)
            fault = self._each
        return fault

    def pass_on(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Forward a request to the real server."""
        connection = http.client.HTTPConnection(self._target.netloc)
        passed = {name: value for name, value in headers.items() if name.lower() != "transfer-encoding"}
        connection.request(method, path, body, {**passed, "Content-Length": str(len(body)), "Connection": "close"})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _NOT_PASSED_ON}
        return Answer(response.status, kept, content)
