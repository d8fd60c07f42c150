"""A mock of Comet's server for the real SDK.

with CometServer() as server:
    subprocess.run([...], env={**os.environ, **server.environment(tmp_path)})
    assert server.experiment("a" * 32).series("loss") == [(0, 0.5, 1_700_000_000_000)]
    server.fail("batch/logger/experiment/metric", status(500), times=3)
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from servers.comet_mock.artifacts import ArtifactVersion, StoredArtifact
from servers.comet_mock.experiment import StoredExperiment
from servers.comet_mock.handler import Handler
from servers.comet_mock.store import Store
from servers.mock_server import MockServer


class CometServer(MockServer):
    """The server. Requests are named by method, path and query.

    Args:
        workspace: the default workspace, and the owner of the keys.
        api_keys: the accepted keys; any key if empty.
    """

    handler = Handler

    def __init__(self, workspace: str = "tester", api_keys: Collection[str] = ()) -> None:
        super().__init__()
        self.api_keys = set(api_keys)
        self.store = Store(workspace)

    @property
    def url(self) -> str:
        """The URL for ``COMET_URL_OVERRIDE``, also while the server is stopped."""
        return f"{super().url}/clientlib/"

    def environment(self, directory: Path) -> dict[str, str]:
        """Environment variables for a process that logs here, and keeps its own files in a directory."""
        return {
            "COMET_URL_OVERRIDE": self.url,
            "COMET_API_KEY": next(iter(sorted(self.api_keys)), "0123456789abcdefghijklmno"),
            "COMET_CONFIG": str(directory / "comet.config"),
            "COMET_OFFLINE_DIRECTORY": str(directory / "comet-offline"),
            "COMET_DISABLE_ANNOUNCEMENT": "1",
            "COMET_ERROR_TRACKING_ENABLE": "0",
        }

    def knows(self, api_key: str | None) -> bool:
        """Return whether a key is accepted."""
        return bool(api_key) and (not self.api_keys or api_key in self.api_keys)

    def experiment(self, key: str) -> StoredExperiment:
        """Return the experiment with a key; KeyError if there is none."""
        with self.store.lock:
            return self.store.experiments[key]

    def artifact(self, name: str, workspace: str | None = None) -> StoredArtifact:
        """Return the artifact with a name; KeyError if there is none."""
        with self.store.lock:
            found = self.store.artifacts.find(workspace or self.store.workspace, name)
        if found is None:
            raise KeyError(name)
        return found

    def artifact_version(self, name: str, workspace: str | None = None) -> ArtifactVersion:
        """Return the version ``name:alias`` or ``name:version``, which may be incomplete.

        Raises:
            KeyError: the version does not exist.
        """
        name, _, wanted = name.partition(":")
        found = self.artifact(name, workspace).find(wanted or None)
        if found is None:
            raise KeyError(name)
        return found
