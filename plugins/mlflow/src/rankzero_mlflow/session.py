"""One logger's connection to its run in MLflow: opened when it is first used, and ended with its process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rankzero.errors import AccessError, DeliveryError, PossiblyRejectedError, RejectedError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.rank import rank_zero_warn
from rankzero.run.endings import forget, watch_over
from rankzero_mlflow.artifacts import Artifacts
from rankzero_mlflow.failures import CheckedClient
from rankzero_mlflow.names import LONGEST_TAG
from rankzero_mlflow.opening import Settings, artifacts_beside, connect, database_uri, find_or_create, tags_of
from rankzero_mlflow.system_metrics import SystemMetrics
from rankzero_mlflow.tracked_run import TrackedRun

_FILES = "file:"
_STATUSES = {"success": "FINISHED", "finished": "FINISHED", "aborted": "KILLED", "killed": "KILLED"}


class Session:
    """Opens and ends a run.

    Args:
        settings: what the user said of the run.
        system_metrics: measures the machine while something is logged.
    """

    def __init__(self, settings: Settings, system_metrics: SystemMetrics) -> None:
        self._settings = settings
        self._system_metrics = system_metrics
        self._mlflow_id = settings.run_id
        self._status = "success"
        self._is_ours = False  # in direct use: the run ends with this process
        self._run: TrackedRun | None = None
        self._artifacts: Artifacts | None = None
        self._experiment: Any = None
        self.run_info: RunInfo | None = None
        """The rankzero run, None in direct use."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **dict.fromkeys(["_run", "_artifacts", "_experiment"]), "_is_ours": False}

    # Where

    @property
    def save_dir(self) -> str | None:
        """The directory of the database or of the files; None if another tracking URI was given."""
        uri = self._settings.tracking_uri
        if uri is not None:
            return uri.removeprefix(_FILES) if uri.startswith(_FILES) else None
        return self._settings.save_dir or (self.run_info.runs_dir if self.run_info is not None else os.getcwd())

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is."""
        return self._settings.tracking_uri or database_uri(self.save_dir or ".")

    # Open

    @property
    def run(self) -> TrackedRun:
        """MLflow's run, opened but not changed."""
        if self._run is None:
            try:
                self._run = self._open()
            except RejectedError as error:  # what the user said of the run is to blame, no event
                raise AccessError(f"the run cannot be opened: {error}") from error
            except PossiblyRejectedError as error:
                raise TrackerUnavailableError(f"the run cannot be opened: {error}") from error
        return self._run

    @property
    def artifacts(self) -> Artifacts:
        """The files of MLflow's run."""
        if self._artifacts is None:
            self._artifacts = Artifacts(self.run, self._settings.registered_model_name)
        return self._artifacts

    @property
    def experiment(self) -> Any:
        """MLflow's own client."""
        if self._experiment is None:
            from rankzero_mlflow.client import RunClient

            self._experiment = RunClient(self.tracking_uri, self.run.id)
        return self._experiment

    def go_on(self, moment: float) -> None:
        """Say that something is logged that took place at ``moment``, in Unix seconds: the run is running."""
        self.run.go_on()
        self._own()
        self._system_metrics.start(self.run.id, self.tracking_uri, moment)

    def _open(self) -> TrackedRun:
        settings, has_courier = self._settings, self.run_info is not None
        if self.save_dir is not None:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
        location = settings.artifact_location or artifacts_beside(self.tracking_uri)
        settings = settings._replace(artifact_location=location)
        client = self._client(is_patient=not has_courier)
        if self._mlflow_id is None:
            found = find_or_create(client, settings, self.run_info, self.tracking_uri)
            self._mlflow_id = found.info.run_id
            self._own()
        else:
            found = client.get_run(self._mlflow_id)
        run = TrackedRun(client, found, True if has_courier else settings.synchronous)
        run.set_tags({key: text for key, text in tags_of(settings, self.run_info).items() if len(text) > LONGEST_TAG})
        return run

    def _client(self, *, is_patient: bool) -> CheckedClient:
        return CheckedClient(connect(self.tracking_uri), has_courier=not is_patient)

    # Ended

    def wait(self) -> None:
        """Wait for what was sent and not waited for."""
        if self._run is None:
            return
        try:
            self._run.wait()
        except DeliveryError:
            self._run = self._artifacts = None  # they remember as sent what MLflow does not have
            raise

    def end(self, status: str, moment: float) -> None:
        """Have the run marked as ended; in direct use only if it was opened."""
        self._status = status
        self._system_metrics.stop()
        if self._run is not None or self.run_info is not None:
            self.run.end(_STATUSES.get(status, "FAILED"), moment)
        self._disown()

    def close(self, moment: float) -> None:
        """Release everything; in direct use the run has ended then."""
        if self._is_ours:
            self.end(self._status, moment)
        self._system_metrics.stop()
        self._run = self._artifacts = self._experiment = None

    def _own(self) -> None:
        if self.run_info is None:
            self._is_ours = True
            watch_over(self)

    def _disown(self) -> None:
        self._is_ours = False
        forget(self)

    def end_with_process(self, status: str | None, timeout: float) -> None:
        """Be told that the process ends: in direct use, a run that nobody ended would be running for ever."""
        try:
            if self._run is not None:
                self._run.client = self._client(is_patient=False)
            self.end(status or self._status, time.time())
        except Exception as error:  # other runs are to be told, too
            self._disown()
            rank_zero_warn(f"MLflow says that the run is running, for it could not be told that it ended: {error}")
        self.close(time.time())

    def after_fork(self) -> None:
        """Be told that this process is a forked child: the run is its parent's to end."""
        self._is_ours = False
