"""The data of the server."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from servers.comet_mock.artifacts import Artifacts
from servers.comet_mock.experiment import Asset, StoredExperiment
from servers.comet_mock.request import UNKNOWN_EXPERIMENT, Refused


@dataclass
class Store:
    """Experiments and artifacts.

    Args:
        workspace: the default workspace of experiments.
    """

    workspace: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    experiments: dict[str, StoredExperiment] = field(default_factory=dict)
    artifacts: Artifacts = field(default_factory=Artifacts)

    def add_experiment(
        self, key: str, workspace: str | None, project: str | None, offline: bool = False
    ) -> StoredExperiment:
        """Add an experiment."""
        where = workspace or self.workspace, project or "general"
        experiment = StoredExperiment(key, *where, created=now(), offline=offline)
        self.experiments[key] = experiment
        return experiment

    def experiment(self, key: str | None, status: int = 400) -> StoredExperiment:
        """Return an experiment.

        Raises:
            Refused: the experiment does not exist.
        """
        if key is None or key not in self.experiments:
            raise Refused(f"there is no experiment {key}, or it is not yours", UNKNOWN_EXPERIMENT, status)
        return self.experiments[key]

    def asset(self, asset_id: str) -> Asset:
        """Return the last file with an id.

        Raises:
            Refused: the file does not exist.
        """
        for experiment in self.experiments.values():
            for asset in reversed(experiment.assets):
                if asset.id == asset_id:
                    return asset
        raise Refused(f"there is no asset {asset_id}", status=404)


def now() -> int:
    """Return the time in milliseconds."""
    return int(time.time() * 1000)
