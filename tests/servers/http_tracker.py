"""A minimal tracker with an HTTP API, and its logger."""

import http.client
import json
import os
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from rankzero import Logger
from rankzero.errors import RejectedError, TrackerUnavailableError
from rankzero.testing import Tracked
from rankzero.testing.loopback import Answer, LoopbackHandler, LoopbackServer

URL = "HTTP_TRACKER_URL"


class _Handler(LoopbackHandler):
    def ask(self):
        _, what, run, *name = self.path.split("/")
        stored = self.server.owner.runs.setdefault(run, {})
        if what == "events":
            for event in json.loads(self.body):
                stored[json.dumps(event["id"])] = event
        else:
            stored[name[0]] = {"kind": "artifact", "name": name[0], "content": self.body, "aliases": name[1].split(",")}
        return Answer(200, {"Content-Type": "application/json"}, b'{"stored": true}')


class HttpTracker(LoopbackServer):
    """Stores data with the same id once."""

    handler = _Handler

    def __init__(self):
        super().__init__()
        self.runs = {}

    def tracked(self, run):
        tracked = Tracked()
        for event in self.runs.get(run, {}).values():
            match event["kind"]:
                case "metric":
                    tracked.add_metric(event["name"], event["step"], event["value"], event["time"])
                case "param":
                    tracked.params[event["name"]] = event["value"]
                case "status":
                    tracked.status = event["value"]
                case "artifact":
                    tracked.add_item("artifact", event["name"], None, event["content"], aliases=event["aliases"])
        return tracked


class HttpLogger(Logger):
    """Buffers events, and sends them when it is flushed."""

    name = "http"

    def __init__(self):
        super().__init__()
        self._events = []

    @property
    def version(self):
        return self.run_info.id if self.run_info else None

    def log_metrics(self, metrics, step=None):
        self._add("metric", metrics, step=step, time=self.context.time)

    def log_hyperparams(self, params, metrics=None):
        self._add("param", params)

    def log_artifact(self, path, name=None, type=None, aliases=(), metadata=None):
        self._send("PUT", f"/files/{self.version}/{name}/{','.join(aliases)}", Path(path).read_bytes())

    def finalize(self, status):
        self._add("status", {"": status})
        self.flush()

    def flush(self):
        events, self._events = self._events, []
        if events:
            self._send("POST", f"/events/{self.version}", json.dumps(events).encode())

    def close(self):
        self.flush()

    def _add(self, kind, values, **more):
        for name, value in values.items():
            self._events.append({"kind": kind, "name": name, "value": value, "id": self._id(kind, name), **more})

    def _id(self, kind, name):
        return [kind, name, self.context.line]

    def _send(self, method, path, body):
        try:
            with closing(http.client.HTTPConnection(urlsplit(os.environ[URL]).netloc, timeout=1)) as connection:
                connection.request(method, path, body)
                response = connection.getresponse()
                self._check(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise TrackerUnavailableError(str(error)) from error

    def _check(self, status, body):
        if status in (413, 422):
            raise RejectedError(f"it answered {status}")
        if (status, body) != (200, b'{"stored": true}'):
            raise TrackerUnavailableError(f"it answered {status}")
