"""The data of the server."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from servers.wandb_mock.artifacts import Artifacts
from servers.wandb_mock.run import StoredRun
from servers.wandb_mock.sweep import Sweep


@dataclass
class Store:
    """Runs, artifacts and sweeps of one account.

    Args:
        entity: the name of the account.
    """

    entity: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    runs: dict[tuple[str, str, str], StoredRun] = field(default_factory=dict)
    artifacts: Artifacts = field(default_factory=Artifacts)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    can_rewind: bool = True
    """Whether the server has the preview feature of rewinding runs."""
    unknown_entities: set[str] = field(default_factory=set)
    """Accounts that do not exist; all others do."""

    def place(self, entity: str | None, project: str | None) -> tuple[str, str]:
        """Return entity and project, with defaults."""
        return entity or self.entity, project or "uncategorized"

    def find_run(self, entity: str | None, project: str | None, run_id: str) -> StoredRun | None:
        """Return a run; None if it does not exist."""
        return self.runs.get((*self.place(entity, project), run_id))

    def add_run(self, entity: str | None, project: str | None, run_id: str) -> StoredRun:
        """Add a run."""
        run = StoredRun(*self.place(entity, project), run_id, self.lock)
        run.display_name = f"run-{len(self.runs) + 1}"
        self.runs[run.entity, run.project, run_id] = run
        return run
