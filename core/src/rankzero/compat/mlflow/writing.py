"""The runs that this process logs to for MLflow, and their artifacts."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from rankzero.compat.mlflow.state import ARTIFACTS, path_of
from rankzero.errors import RankzeroError
from rankzero.events.structs import Artifact
from rankzero.journal.tail import read_start
from rankzero.rank import is_rank_zero
from rankzero.run.run import Run
from rankzero.run.start import open_run, start
from rankzero.rundir.layout import JOURNAL

_open: dict[Path, Run] = {}  # a forked child goes on with the runs of its parent


def begin(run_dir: Path, project: str, runs_dir: Path, **settings: Any) -> None:
    """Start or resume the run in ``run_dir``, which stays open in this process until it is ended.

    Raises:
        MlflowException: a setting is invalid, or another process writes the run.
    """
    try:
        run = start(project=project, dir=runs_dir, run_id=run_dir.name, **settings)
    except RankzeroError as error:
        raise MlflowException(f"rankzero: {error}", codes.INVALID_PARAMETER_VALUE) from error
    _open[run_dir] = run
    run.call_at_end(lambda status: _open.pop(run_dir, None))


def find_open(run_dir: Path) -> Run | None:
    """Return the run in ``run_dir`` if this process logs to it."""
    return _open.get(run_dir) or open_run(run_dir.name)


def writer(run_dir: Path) -> Run:
    """Return the run in ``run_dir``, which is resumed unless this process logs to it already.

    Raises:
        MlflowException: there is no such run, or another process writes it.
    """
    if (run := find_open(run_dir)) is not None:
        return run
    existing = read_start(run_dir / JOURNAL)
    if existing is None:
        raise MlflowException(f"There is no run in {run_dir}", codes.RESOURCE_DOES_NOT_EXIST)
    runs_dir = run_dir.parents[len(Path(existing.run.project).parts)]
    begin(run_dir, run_dir.parent.relative_to(runs_dir).as_posix(), runs_dir, resume="must")
    return _open[run_dir]


class RunArtifacts(LocalArtifactRepository):  # type: ignore[misc]  # to mypy, MLflow is Any
    """Keeps files in a run's directory, and records them in its journal, so that couriers deliver them.

    The artifacts of a run that MLflow did not start are the files in its directory, which cannot be changed.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(str(path_of(artifact_uri)), tracking_uri, registry_uri)
        self.artifact_uri = artifact_uri

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        if self._may_change():
            super().log_artifact(local_file, artifact_path)
            self._record([posixpath.join(artifact_path or "", Path(local_file).name)])

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        if self._may_change():
            super().log_artifacts(local_dir, artifact_path)
            self._record([artifact_path] if artifact_path else [each.name for each in Path(local_dir).iterdir()])

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        if self._may_change():
            super().delete_artifacts(artifact_path)

    def _may_change(self) -> bool:
        if Path(self.artifact_dir, JOURNAL).exists():
            raise MlflowException(
                f"MLflow did not start the run in {self.artifact_dir}, and cannot change its files",
                codes.INVALID_PARAMETER_VALUE,
            )
        return is_rank_zero()

    def _record(self, names: Iterable[str]) -> None:
        run_dir = Path(self.artifact_dir).parent
        if not (run_dir / JOURNAL).exists():
            return  # of a logged model, which is recorded when it is complete
        for name in names:
            writer(run_dir).record(Artifact(time.time(), f"{ARTIFACTS}/{posixpath.normpath(name)}", name))
