"""A mock of Neptune's server for the real SDK.

with NeptuneServer() as server:
    subprocess.run([...], env={**os.environ, **server.environment(tmp_path)})
    assert server.run("RUN-1").series("loss") == [(0.5, 0.0, 1_700_000_000_000)]
    server.fail("attributes/operations", status(500), times=3)

``python -m servers.neptune_server`` starts it as a separate process, which prints the environment for clients as a line
of JSON, and ends when its standard input ends; `separate_neptune` does so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.mock_server import MockServer
from servers.neptune_mock.handler import Handler
from servers.neptune_mock.run import StoredRun
from servers.neptune_mock.sessions import Sessions, api_token
from servers.neptune_mock.store import Store

PROJECT = "tester/project"


class NeptuneServer(MockServer):
    """The server.

    Requests are named by method, path and query. The paths contain ``swagger.json``, ``clients/config``,
    ``oauth-token``, ``openid-connect/token``, ``projects/get``, ``experiments/create``, ``experiments/get``,
    ``experiments/attributes``, ``attributes/operations``, ``experiments/ping``, ``attributes/file/upload``,
    ``attributes/fileSet/`` (``upload``, ``tar``, ``zip``).

    Args:
        projects: the projects, ``workspace/name``.
        api_key: an accepted key; a new one for each server if None, because the client caches responses by it.
            ``store.sessions`` can add, revoke and expire keys.
        token_lifetime: seconds for which an access token is accepted.
        part_sizes: bytes above which a file must be sent in parts, and the size of a part.
        increasing_steps: refuse a point whose step is not greater than the previous one, as Neptune did. Otherwise
            all points are stored, so that tests see those that are sent twice.
        idle_after: seconds without a request after which a run is no longer active.
    """

    handler = Handler

    def __init__(
        self,
        projects: tuple[str, ...] = (PROJECT,),
        *,
        api_key: str | None = None,
        token_lifetime: float = 3600.0,
        part_sizes: tuple[int, int] = (5 << 20, 5 << 20),
        increasing_steps: bool = False,
        idle_after: float = 300.0,
    ) -> None:
        super().__init__()
        self.api_key = api_key or uuid.uuid4().hex
        self.part_sizes = part_sizes
        self.increasing_steps = increasing_steps
        self.store = Store(Sessions(token_lifetime, {self.api_key}), projects[0].partition("/")[0], idle_after)
        for project in projects:
            self.store.add_project(project)

    @property
    def api_token(self) -> str:
        """The API token of clients."""
        return api_token(self.url, self.api_key)

    def environment(self, directory: Path | None = None) -> dict[str, str]:
        """Environment variables for a process that logs here, and keeps its own files in a directory."""
        project = next(iter(self.store.projects.values())).qualified_name
        return {
            "NEPTUNE_API_TOKEN": self.api_token,
            "NEPTUNE_PROJECT": project,
            "OAUTHLIB_INSECURE_TRANSPORT": "1",
            **({"NEPTUNE_DATA_DIRECTORY": str(directory)} if directory else {}),
        }

    def run(self, identifier: str) -> StoredRun:
        """Return the run with a ``sys/id`` or custom id; KeyError if there is none."""
        with self.store.lock:
            runs = self.store.runs.values()
            return {**{run.custom_id: run for run in runs}, **{run.sys_id: run for run in runs}}[identifier]


@contextmanager
def separate_neptune() -> Iterator[dict[str, str]]:
    """Run the server in a separate process; yield the environment variables for its clients."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "servers.neptune_server"]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


if __name__ == "__main__":
    with NeptuneServer() as served:
        print(json.dumps(served.environment()), flush=True)
        sys.stdin.read()
