"""A mock of W&B's server for the real SDK.

with WandbServer() as server:
    subprocess.run([...], env={**os.environ, **server.environment(tmp_path)})
    assert server.run("abc").scalars("loss") == [(0, 0.5, 1.7e9)]
    server.fail("file_stream", status(500), times=3)
"""

from __future__ import annotations

from pathlib import Path

from servers.mock_server import MockServer
from servers.wandb_mock.artifacts import ArtifactVersion
from servers.wandb_mock.handler import Handler
from servers.wandb_mock.run import StoredRun
from servers.wandb_mock.store import Store

_RETRIED = ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")


class WandbServer(MockServer):
    """The server.

    Requests are named ``/graphql UpsertBucket``, ``POST /files/ENTITY/PROJECT/RUN/file_stream``,
    ``PUT /run-file/ENTITY/PROJECT/RUN/PATH``, ``PUT /artifact-file/ID/PATH``, ``PUT /artifact-manifest/ID``, and the
    last three with ``GET``.

    Args:
        entity: the owner of the key.
    """

    handler = Handler

    def __init__(self, entity: str = "tester") -> None:
        super().__init__()
        self.api_key = "0123456789abcdef" * 2 + "01234567"
        self.store = Store(entity)

    def environment(self, directory: Path) -> dict[str, str]:
        """Environment variables for a process that logs here, and keeps its own files in a directory.

        One second is the shortest interval of the client, which truncates fractions, and treats 0 as unset.
        """
        kept = {f"WANDB_{name}_DIR": str(directory / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
        return {
            **kept,
            "WANDB_DIR": str(directory),
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.api_key,
            "WANDB_SILENT": "true",
            "WANDB_ERROR_REPORTING": "false",
            "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
            **{f"WANDB__{kind}_RETRY_WAIT_MIN_SECONDS": "1" for kind in _RETRIED},
            **{f"WANDB__{kind}_RETRY_WAIT_MAX_SECONDS": "1" for kind in _RETRIED},
        }

    def run(self, run_id: str) -> StoredRun:
        """Return the run with an id; KeyError if there is none."""
        with self.store.lock:
            return {run.id: run for run in self.store.runs.values()}[run_id]

    def artifact(self, name: str, project: str = "uncategorized") -> ArtifactVersion:
        """Return the version ``name:alias``; KeyError if there is none."""
        with self.store.lock:
            found = self.store.artifacts.find(self.store.entity, project, name)
        if found is None:
            raise KeyError(name)
        return found
