"""The HTTP side: which request is what, and whom it is answered by."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from servers.faulty_proxy import Answer
from servers.wandb_mock import artifact_operations, run_operations, sweep_operations

if TYPE_CHECKING:
    from servers.wandb_server import WandbServer

_OPERATIONS = {**run_operations.OPERATIONS, **artifact_operations.OPERATIONS, **sweep_operations.OPERATIONS}
_OPERATION_NAME = re.compile(r"\b(?:query|mutation)\s+(\w+)")


class Listener(ThreadingTCPServer):
    """Takes connections, and can end them all."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, mock: WandbServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.mock = mock
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


class Handler(BaseHTTPRequestHandler):
    """Answers what comes over one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one segment
    server: Listener

    def handle(self) -> None:
        with suppress(ConnectionError):  # who asked has gone
            super().handle()

    def ask(self) -> Answer:
        """Answer as a healthy server does."""
        kind, *rest = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        store = self.server.mock.store
        if kind in ("graphql", "files") and not self._is_known():
            return _json(401, {"errors": [{"message": "user is not logged in"}]})
        with store.lock:
            if kind == "graphql":
                return self._graphql()
            if kind == "files":
                return self._stream(*rest)
            if kind == "run-file":
                return self._file(store.runs[rest[0], rest[1], rest[2]].files, "/".join(rest[3:]))
            if kind == "artifact-file":
                return self._artifact_file(rest[0], "/".join(rest[1:]))
            if kind == "artifact-manifest":
                return self._manifest(rest[0])
            return _json(200, {})

    def _is_known(self) -> bool:
        _, _, sent = self.headers.get("Authorization", "").partition(" ")
        return base64.b64encode(f"api:{self.server.mock.api_key}".encode()).decode() == sent

    def _graphql(self) -> Answer:
        name = self._operation()
        sent = json.loads(self.body).get("variables") or {}
        try:
            data = _OPERATIONS[name](self.server.mock.store, sent, f"http://{self.headers['Host']}")
        except run_operations.Refused as error:
            return _json(error.status, {"errors": [{"message": str(error)}]})
        except LookupError as error:
            self.server.mock.problems.append(f"{name}({sent}): {error!r}")
            return _json(400, {"errors": [{"message": f"{name}: {error!r}"}]})
        return _json(200, {"data": data})

    def _operation(self) -> str:
        sent = json.loads(self.body)
        found = _OPERATION_NAME.search(sent["query"])
        return sent.get("operationName") or (found[1] if found else "")

    def _stream(self, entity: str, project: str, run_id: str, *_: str) -> Answer:
        run = self.server.mock.store.find_run(entity, project, run_id)
        if run is None:
            return _json(404, {"error": f"run {entity}/{project}/{run_id} not found"})
        run.stream(json.loads(self.body))
        return _json(200, {"exitcode": None, "limits": {}})

    def _file(self, files: dict[str, bytes], name: str) -> Answer:
        if self.command == "PUT":
            files[name] = self.body
        return Answer(200, {}, files[name] if self.command == "GET" else b"") if name in files else _json(404, {})

    def _artifact_file(self, artifact_id: str, path: str) -> Answer:
        artifacts = self.server.mock.store.artifacts
        if self.command == "PUT":
            artifacts.store(artifact_id, path, self.body)
            return _json(200, {})
        return Answer(200, {}, artifacts.by_id[artifact_id].files[path])

    def _manifest(self, artifact_id: str) -> Answer:
        version = self.server.mock.store.artifacts.by_id[artifact_id]
        if self.command == "PUT":
            version.raw_manifest = self.body
        return Answer(200, {}, version.raw_manifest)

    def _name(self) -> str:
        """What the request is called when a fault is looked for."""
        path = unquote(urlsplit(self.path).path)
        return f"{path} {self._operation()}" if path == "/graphql" else f"{self.command} {path}"

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            self.body = gzip.decompress(self.body)
        fault = self.server.mock.fault_for(self._name())
        answer = fault(self) if fault else self.ask()  # type: ignore[arg-type]
        self.close_connection = self.close_connection or fault is not None
        if answer is not None:
            self._send(answer)
        self.server.mock.note_change()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _json(status: int, content: Any) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())
