"""A Comet server on loopback for the real SDK; what it stored is compared with what was logged.

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
        workspace: where experiments go that name none, and whose the keys are.
        api_keys: the keys that are accepted; none named means any.
    """

    handler = Handler

    def __init__(self, workspace: str = "tester", api_keys: Collection[str] = ()) -> None:
        super().__init__()
        self.api_keys = set(api_keys)
        self.store = Store(workspace)

    @property
    def url(self) -> str:
        """Where it is, also while it is stopped: what ``COMET_URL_OVERRIDE`` is."""
        return f"{super().url}/clientlib/"

    def environment(self, directory: Path) -> dict[str, str]:
        """What a process needs to log here, and to find and leave its own files only in a directory."""
        return {
            "COMET_URL_OVERRIDE": self.url,
            "COMET_API_KEY": next(iter(sorted(self.api_keys)), "0123456789abcdefghijklmno"),
            "COMET_CONFIG": str(directory / "comet.config"),
            "COMET_OFFLINE_DIRECTORY": str(directory / "comet-offline"),
            "COMET_DISABLE_ANNOUNCEMENT": "1",
            "COMET_ERROR_TRACKING_ENABLE": "0",
        }

    def knows(self, api_key: str | None) -> bool:
        """Whether a key is accepted."""
        return bool(api_key) and (not self.api_keys or api_key in self.api_keys)

    def experiment(self, key: str) -> StoredExperiment:
        """Return the experiment that has a key; KeyError if there is none."""
        with self.store.lock:
            return self.store.experiments[key]

    def artifact(self, name: str, workspace: str | None = None) -> StoredArtifact:
        """Return the artifact that has a name; KeyError if there is none."""
        with self.store.lock:
            found = self.store.artifacts.find(workspace or self.store.workspace, name)
        if found is None:
            raise KeyError(name)
        return found

    def artifact_version(self, name: str, workspace: str | None = None) -> ArtifactVersion:
        """Return the version that ``name:alias`` or ``name:version`` means, also if it is not complete.

        Raises:
            KeyError: there is none.
        """
        name, _, wanted = name.partition(":")
        found = self.artifact(name, workspace).find(wanted or None)
        if found is None:
            raise KeyError(name)
        return found
