"""HTTP requests → the functions that answer them."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from servers.wandb_mock import artifact_operations, run_operations, sweep_operations

from rankzero.testing.loopback import Answer, LoopbackHandler

_OPERATIONS = {**run_operations.OPERATIONS, **artifact_operations.OPERATIONS, **sweep_operations.OPERATIONS}
_OPERATION_NAME = re.compile(r"\b(?:query|mutation)\s+(\w+)")


class Handler(LoopbackHandler):
    """Answers the requests of one connection."""

    def ask(self) -> Answer:
        kind, *rest = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        store = self.server.owner.store
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
        return base64.b64encode(f"api:{self.server.owner.api_key}".encode()).decode() == sent

    def _graphql(self) -> Answer:
        name = self._operation()
        sent = json.loads(self.body).get("variables") or {}
        try:
            data = _OPERATIONS[name](self.server.owner.store, sent, f"http://{self.headers['Host']}")
        except run_operations.RefusedError as error:
            return _json(400, {"errors": [{"message": str(error)}], "data": None})
        except LookupError as error:
            self.server.owner.problems.append(f"{name}({sent}): {error!r}")
            return _json(400, {"errors": [{"message": f"{name}: {error!r}"}]})
        return _json(200, {"data": data})

    def _operation(self) -> str:
        sent = json.loads(self.body)
        found = _OPERATION_NAME.search(sent["query"])
        return sent.get("operationName") or (found[1] if found else "")

    def _stream(self, entity: str, project: str, run_id: str, *_: str) -> Answer:
        run = self.server.owner.store.find_run(entity, project, run_id)
        if run is None:
            return _json(404, {"error": f"run {entity}/{project}/{run_id} not found"})
        run.stream(json.loads(self.body))
        return _json(200, {"exitcode": None, "limits": {}})

    def _file(self, files: dict[str, bytes], name: str) -> Answer:
        if self.command == "PUT":
            files[name] = self.body
        return Answer(200, {}, files[name] if self.command == "GET" else b"") if name in files else _json(404, {})

    def _artifact_file(self, artifact_id: str, path: str) -> Answer:
        artifacts = self.server.owner.store.artifacts
        if self.command == "PUT":
            artifacts.store(artifact_id, path, self.body)
            return _json(200, {})
        return Answer(200, {}, artifacts.by_id[artifact_id].files[path])

    def _manifest(self, artifact_id: str) -> Answer:
        version = self.server.owner.store.artifacts.by_id[artifact_id]
        if self.command == "PUT":
            version.raw_manifest = self.body
        return Answer(200, {}, version.raw_manifest)

    def name(self) -> str:
        path = unquote(urlsplit(self.path).path)
        return f"{path} {self._operation()}" if path == "/graphql" else f"{self.command} {path}"

    def unpacked(self, body: bytes) -> bytes:
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body


def _json(status: int, content: Any) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())
