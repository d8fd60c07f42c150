"""The data of the server."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from servers.neptune_mock.run import StoredRun
from servers.neptune_mock.sessions import Sessions


@dataclass
class Project:
    """A project, and the number of its runs."""

    id: str
    workspace: str
    name: str
    key: str
    runs_made: int = 0

    @property
    def qualified_name(self) -> str:
        """``workspace/name``."""
        return f"{self.workspace}/{self.name}"


@dataclass
class Upload:
    """A file that is sent in parts."""

    length: int
    ext: str
    parts: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """Number of a part → its offset and bytes."""

    @property
    def content(self) -> bytes | None:
        """The whole content; None if a part is missing."""
        joined = b"".join(content for _, content in sorted(self.parts.values()))
        return joined if len(joined) == self.length else None


@dataclass
class Store:
    """Projects, runs and sessions.

    Args:
        owner: the owner of all runs.
        idle_after: see `StoredRun`.
    """

    sessions: Sessions
    owner: str
    idle_after: float
    lock: threading.RLock = field(default_factory=threading.RLock)
    projects: dict[str, Project] = field(default_factory=dict)
    """By id."""
    runs: dict[str, StoredRun] = field(default_factory=dict)
    """By id, not ``sys/id``."""
    uploads: dict[str, Upload] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    """ZIP files of file sets for download."""

    def add_project(self, qualified_name: str, key: str = "RUN") -> None:
        """Add a project; the ids of its runs begin with the key."""
        workspace, _, name = qualified_name.partition("/")
        project = Project(str(uuid.uuid4()), workspace, name, key)
        self.projects[project.id] = project

    def find_project(self, identifier: str) -> Project | None:
        """Return the project with an id or ``workspace/name``."""
        by_name = {project.qualified_name: project for project in self.projects.values()}
        return self.projects.get(identifier) or by_name.get(identifier)

    def find_run(self, identifier: str) -> StoredRun | None:
        """Return the run with an id or ``workspace/project/RUN-1``."""
        by_name = {f"{run.workspace}/{run.project}/{run.sys_id}": run for run in self.runs.values()}
        return self.runs.get(identifier) or by_name.get(identifier)

    def create_run(self, project: Project, sent: dict[str, Any]) -> StoredRun:
        """Return a new run, or the one with the custom id."""
        custom_id = sent.get("customId")
        for run in self.runs.values():
            if custom_id and (run.workspace, run.project, run.custom_id) == (
                project.workspace,
                project.name,
                custom_id,
            ):
                return run
        project.runs_made += 1
        run = StoredRun(
            id=str(uuid.uuid4()),
            sys_id=f"{project.key}-{project.runs_made}",
            custom_id=custom_id,
            workspace=project.workspace,
            project=project.name,
            owner=self.owner,
            lock=self.lock,
            idle_after=self.idle_after,
            created=sent,
        )
        self.runs[run.id] = run
        return run
