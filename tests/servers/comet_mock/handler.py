"""HTTP requests → the functions that answer them."""

from __future__ import annotations

import gzip

from servers.comet_mock import artifact_endpoints, client_endpoints, read_endpoints, write_endpoints
from servers.comet_mock.client_endpoints import Endpoint
from servers.comet_mock.request import UNKNOWN_KEY, Refused, Request, as_json, refusal

from rankzero.testing.loopback import Answer, LoopbackHandler

_REST = {**read_endpoints.ENDPOINTS, **write_endpoints.ENDPOINTS, **artifact_endpoints.ENDPOINTS}
_ENDPOINTS: dict[str, Endpoint] = {
    **{f"/clientlib/{path}": endpoint for path, endpoint in client_endpoints.ENDPOINTS.items()},
    # the client uses both
    **{f"/clientlib/rest/v2/{path}": endpoint for path, endpoint in _REST.items()},
    **{f"/api/rest/v2/{path}": endpoint for path, endpoint in _REST.items()},
}
_FOR_ALL = ("/clientlib/isAlive/ver", "/clientlib/health/ping")
_DONE = {"msg": "", "code": 200, "data": None, "sdk_error_code": 0}


class Handler(LoopbackHandler):
    """Answers the requests of one connection."""

    def ask(self) -> Answer:
        mock = self.server.owner
        request = Request(self.command, self.path, self.headers, self.body)
        if request.path not in _FOR_ALL and not mock.knows(request.headers.get("Authorization")):
            return _stranger(request)
        endpoint = _ENDPOINTS.get(request.path)
        if endpoint is None:
            mock.problems.append(f"{request.method} {request.path}: no such endpoint")
            return refusal(404, f"no such endpoint: {request.path}")
        try:
            with mock.store.lock:
                answer = endpoint(mock.store, request)
        except Refused as error:
            return error.answer
        except (LookupError, TypeError, ValueError) as error:
            mock.problems.append(f"{request.method} {request.path}: {error!r}")
            return refusal(400, f"{request.path}: {error!r}")
        return answer if isinstance(answer, Answer) else as_json(_DONE if answer is None else answer)

    def unpacked(self, body: bytes) -> bytes:
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body


def _stranger(request: Request) -> Answer:
    """Return the response to an unknown API key, which differs between REST and ``/clientlib/``."""
    if request.path.startswith("/api/"):
        return refusal(401, "API key is not valid")
    return refusal(400, "API key is not registered", UNKNOWN_KEY)
