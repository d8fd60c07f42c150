"""The runs that this process logs to for MLflow, and their artifacts."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import RLock, Timer
from typing import Any

import msgspec
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from rankzero.compat.mlflow.state import ARTIFACTS, path_of
from rankzero.errors import RankzeroError
from rankzero.events.structs import Artifact
from rankzero.journal.opening import has_journal
from rankzero.journal.tail import read_start
from rankzero.rank import is_rank_zero
from rankzero.run.run import Run
from rankzero.run.start import open_run, start
from rankzero.rundir.finding import run_status
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.writer_lock import Writer, writer_state

_ENDED = ("success", "finished", "failed", "aborted", "killed")
_IDLE = 1.0  # seconds
_open: dict[Path, Run] = {}  # a forked child continues the runs of its parent
_ending: dict[Path, Timer] = {}  # of ended runs that were logged to again; the process waits for these threads
_lock = RLock()


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
    if (ending := _ending.pop(run_dir, None)) is not None:
        ending.cancel()
        ending.join()  # it may have begun
    if (run := find_open(run_dir)) is not None:
        return run
    existing = read_start(run_dir / JOURNAL)
    if existing is None:
        raise MlflowException(f"There is no run in {run_dir}", codes.RESOURCE_DOES_NOT_EXIST)
    runs_dir = run_dir.parents[len(Path(existing.run.project).parts)]
    begin(run_dir, run_dir.parent.relative_to(runs_dir).as_posix(), runs_dir, resume="must")
    return _open[run_dir]


@contextmanager
def logging_to(run_dir: Path, idle: float = _IDLE) -> Iterator[Run]:
    """Yield the run in ``run_dir``; an ended run is resumed, and ends again when it is idle for a second.

    Raises:
        MlflowException: there is no such run, or another process writes it.
    """
    if (run := find_open(run_dir)) is not None and run_dir not in _ending:
        yield run
        return
    with _lock:
        ending, status = _ending.get(run_dir), _status(run_dir)
        if ending is not None and find_open(run_dir) is not None:
            (status,) = ending.args
        run = writer(run_dir)
        try:
            yield run
        finally:
            if status in _ENDED:
                _ending[run_dir] = Timer(_IDLE if ending else idle, run.finish, [status])
                with suppress(RuntimeError):  # the interpreter is about to exit, and ends the run
                    _ending[run_dir].start()


def _status(run_dir: Path) -> str | None:
    with suppress(RankzeroError):
        return run_status(run_dir)
    return None


def _join(run_dir: Path) -> Run | None:
    """Return a run that appends to the journal of another living process, as its children do; None if there is none."""
    start = read_start(run_dir / JOURNAL)
    if start is None or find_open(run_dir) is not None or writer_state(run_dir) is not Writer.ALIVE:
        return None
    run = Run(msgspec.structs.replace(start.run, dir=str(run_dir)))
    run.__setstate__({**run.__getstate__(), "is_active": True})
    return run


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
        if has_journal(Path(self.artifact_dir)):
            raise MlflowException(
                f"MLflow did not start the run in {self.artifact_dir}, and cannot change its files",
                codes.INVALID_PARAMETER_VALUE,
            )
        return is_rank_zero()

    def _record(self, names: Iterable[str]) -> None:
        run_dir = Path(self.artifact_dir).parent
        if not has_journal(run_dir):
            return  # of a logged model, which is recorded when it is complete
        joined = _join(run_dir)
        # Another process, such as a server for this one, may be about to log to a run that has ended.
        with logging_to(run_dir, idle=0.0) if joined is None else nullcontext(joined) as run:
            for name in names:
                run.record(Artifact(time.time(), f"{ARTIFACTS}/{posixpath.normpath(name)}", name))
