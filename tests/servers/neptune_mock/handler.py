"""HTTP requests → calls."""

from __future__ import annotations

import base64
import hashlib
import json
import traceback
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from servers.neptune_mock import file_calls, login_calls, run_calls, table_calls, value_calls
from servers.neptune_mock.calls import Asked, Call, Content, Problem
from servers.neptune_mock.swagger import document

from rankzero.testing.loopback import Answer, LoopbackHandler

_CALLS = {**login_calls.CALLS, **run_calls.CALLS, **value_calls.CALLS, **file_calls.CALLS, **table_calls.CALLS}
_BY_PATH = {(call.method, call.path): call for call in _CALLS.values()}
_REFRESH = f"{login_calls.ISSUER}/protocol/openid-connect/token"
_BY_PATH["POST", _REFRESH] = Call("oauth", "POST", _REFRESH, "", "", login_calls.refresh, is_open=True)
_SIGNALS = "/api/notifications/v1/runs/"
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DOCUMENTS = {f"/api/{api}/swagger.json": document(api, _CALLS) for api in ("backend", "leaderboard")}


class Handler(LoopbackHandler):
    """Answers the requests of one connection."""

    def ask(self) -> Answer | None:
        path = urlsplit(self.path).path
        if path.startswith(_SIGNALS):
            return self._signal()
        if path in _DOCUMENTS:
            return _json(200, _DOCUMENTS[path])
        call = _BY_PATH.get((self.command, path))
        if call is None:
            return self._unknown(path)
        store = self.server.owner.store
        with store.lock:
            reason = None if call.is_open else store.sessions.refuse(self.headers.get("Authorization", ""))
            if reason is not None:
                error_type = {"errorType": "AUTHORIZATION_TOKEN_EXPIRED"} if reason == "expired" else {}
                return _json(401, {"code": 401, "title": f"The access token is {reason}", **error_type})
            return self._call(call)

    def _call(self, call: Call) -> Answer:
        mock = self.server.owner
        url = f"http://{self.headers['Host']}"
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        asked = Asked(mock.store, url, query, self.headers, self.body, mock.part_sizes, mock.increasing_steps)
        try:
            answer = call.answer(asked)
        except Problem as problem:
            return _json(problem.status, problem.body)
        except Exception:
            mock.problems.append(f"{self.name()}: {traceback.format_exc()}")
            return _json(400, {"code": 400, "title": "this server does not understand the request"})
        return _file(answer) if isinstance(answer, Content) else _json(200, answer)

    def _unknown(self, path: str) -> Answer:
        self.server.owner.problems.append(self.name())
        return _json(404, {"code": 404, "title": f"there is no {path}"})

    def _signal(self) -> None:
        """Open the websocket for stopping a run, and send nothing until the client closes it."""
        self.close_connection = True
        digest = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _WEBSOCKET).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.wfile.flush()
        if self.rfile.read(1):
            self.wfile.write(b"\x88\x00")  # the client sends only the close frame

    def name(self) -> str:
        return f"{self.command} {unquote_plus(self.path)}"


def _json(status: int, content: Any) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def _file(content: Content) -> Answer:
    named = {"Content-Disposition": f'attachment; filename="{content.name}"'} if content.name else {}
    return Answer(200, {"Content-Type": content.type, **named}, content.body)
