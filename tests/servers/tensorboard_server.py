"""A real `tensorboard` process, with the HTTP requests of its page."""

import json
import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from waiting import A_WHILE

LOADERS = ["data server", "python"]
"""How TensorBoard reads event files: with its Rust program, or in Python."""


class TensorBoard:
    """A server at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, body: Any = None, **query: Any) -> Any:
        """Return the response to a request: JSON, or bytes if it is not JSON."""
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.url}/data/{path}" + (f"?{urlencode(query)}" if query else "")
        with urlopen(Request(address, data, {"Content-Type": "application/json"}), timeout=A_WHILE) as answer:
            content = answer.read()
            return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def until(self, condition) -> Any:
        """Wait until ``condition(self)`` is true, because files are read in the background; return its value."""
        deadline = time.monotonic() + A_WHILE
        while not (result := condition(self)):
            assert time.monotonic() < deadline, "TensorBoard did not show this in time"
            time.sleep(0.05)
        return result

    def scalars(self, run: str, tag: str) -> list[tuple[int, float]]:
        """The points of a chart."""
        if tag not in self.ask("plugin/scalars/tags").get(run, {}):
            return []
        return [(step, value) for _, step, value in self.ask("plugin/scalars/scalars", run=run, tag=tag)]

    def hparams(self) -> tuple[list[str], list[str], dict[str, Any]]:
        """The HPARAMS table: names of hyperparameters, names of metrics, and the row of each run."""
        experiment = self.ask("plugin/hparams/experiment", {})
        statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        wanted = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses}
        groups = self.ask("plugin/hparams/session_groups", wanted).get("sessionGroups", [])
        rows = {
            group["name"]: {
                **group["hparams"],
                **{each["name"]["tag"]: round(each["value"], 6) for each in group["metricValues"]},
                "status": group["sessions"][0]["status"],
            }
            for group in groups
        }
        metrics = [each["name"]["tag"] for each in experiment.get("metricInfos", [])]
        return [each["name"] for each in experiment.get("hparamInfos", [])], metrics, rows


@contextmanager
def tensorboard(logdir: str | Path, loader: str = LOADERS[0]) -> Iterator[TensorBoard]:
    """Start a server on a free port, and stop it at the end of the context."""
    arguments = ["--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
    arguments += ["--load_fast", "true" if loader == "data server" else "false"]
    # Forked from a process that has imported TensorBoard, which takes seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorboard.default", "tensorboard.main"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(arguments, sender))
    process.start()
    sender.close()
    try:
        yield TensorBoard(receiver.recv())
    finally:
        receiver.close()
        process.terminate()
        process.join()


def _serve(arguments: list[str], sender: Any) -> None:
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(["tensorboard", *arguments])
    sender.send(server.launch())
    signal.pause()
