"""`MLFlowLogger`: writes a run to an MLflow server or database."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rankzero import Logger
from rankzero.encoders import as_table, histogram
from rankzero.errors import ConfigError, RejectedError, TrackerUnavailableError
from rankzero.lifecycle import forget, watch_over
from rankzero.logger import MetricsRow
from rankzero.media import MediaFile, MediaStore
from rankzero.rank import is_rank_zero, rank_zero_warn
from rankzero.values import Number, flatten, to_jsonable, to_number
from rankzero_mlflow.artifacts import Artifacts
from rankzero_mlflow.failures import CheckedClient
from rankzero_mlflow.names import LONGEST_TAG, metric_name, path_name
from rankzero_mlflow.opening import (
    Settings,
    artifacts_in,
    check_tracking_uri,
    connect,
    database_uri,
    find_or_create,
    tags_of,
)
from rankzero_mlflow.system_metrics import SystemMetrics
from rankzero_mlflow.tracked_run import TrackedRun

_STATUSES = {"success": "FINISHED", "finished": "FINISHED", "aborted": "KILLED", "killed": "KILLED"}


class MLFlowLogger(Logger):
    """Writes to MLflow; takes the arguments of Lightning's logger of this name.

    Used directly, each call is a request. Under a Run, up to 1,000 values are one, delivery is exactly once, and the
    run goes on after a crash: it is found again by its tag ``rankzero.run_id``.

    Args:
        experiment_name: the experiment; ``$MLFLOW_EXPERIMENT_NAME`` (or ``_ID``), the Run's project, or
            ``lightning_logs`` if not given.
        run_name: the Run's name, or one that MLflow makes up, if not given.
        tracking_uri: a server or database; ``$MLFLOW_TRACKING_URI``, or the SQLite database ``mlflow.db`` in
            ``save_dir``, if not given.
        tags: tags of the run.
        save_dir: a directory for the database and its artifacts; that of all runs, or the working directory, if not
            given. Not used with a ``tracking_uri``.
        log_model: upload what a ModelCheckpoint saves: what it has left at the end (True), each when it is saved
            (``"all"``), or nothing.
        prefix: put before the names of metrics, with a ``-``.
        artifact_location: where a new experiment keeps its artifacts; the server's default if not given.
        run_id: MLflow's id of a run that is to be continued.
        synchronous: False lets direct use go on before a request is answered.
        description: a text about the run; the Run's notes if not given.
        parent_run_id: MLflow's or rankzero's id of the run under which this one is nested.
        registered_model_name: the registered model of which each checkpoint becomes a version.
        log_system_metrics: measure CPU, memory, disk, network and GPUs of the machine on which the logger runs;
            ``$MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`` if not given. Needs ``rankzero-mlflow[system]``.

    Raises:
        ModuleNotFoundError: a package is missing.
        ConfigError: an argument makes no sense.
    """

    LOGGER_JOIN_CHAR = "-"
    joinable = True

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        log_model: bool | Literal["all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
        *,
        description: str | None = None,
        parent_run_id: str | None = None,
        registered_model_name: str | None = None,
        log_system_metrics: bool | None = None,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("mlflow") is None:
            raise ModuleNotFoundError("MLFlowLogger needs MLflow: pip install mlflow")
        if log_model not in (True, False, "all"):
            raise ConfigError(f'log_model is True, False or "all", not {log_model!r}')
        self.log_model = log_model
        self.tags = dict(tags or {})
        self._settings = Settings(
            experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME"),
            None if experiment_name else os.environ.get("MLFLOW_EXPERIMENT_ID"),
            run_name,
            self.tags,
            description,
            artifact_location,
            parent_run_id,
        )
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        check_tracking_uri(self._tracking_uri)
        self._save_dir = None if save_dir is None else os.path.expanduser(os.path.expandvars(save_dir))
        self._prefix = prefix + self.LOGGER_JOIN_CHAR if prefix else ""
        self._run_id = run_id
        self._synchronous = synchronous
        self._registered_model_name = registered_model_name
        self._system_metrics = SystemMetrics(log_system_metrics)
        self._status = "success"
        self._is_ours = False  # in direct use: the run ends with this process
        self._run: TrackedRun | None = None
        self._artifacts: Artifacts | None = None
        self._experiment: Any = None
        self._scratch: Any = None

    def __getstate__(self) -> dict[str, Any]:
        closed = dict.fromkeys(["_run", "_artifacts", "_experiment", "_scratch"])
        return {**self.__dict__, **closed, "_is_ours": False, "_checkpoint_callbacks": []}

    # Identity

    @property
    def name(self) -> str | None:
        """MLflow's id of the experiment; asks MLflow."""
        return self.experiment_id

    @property
    def version(self) -> str | None:
        """MLflow's id of the run; asks MLflow."""
        return self.run_id

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, which is made if need be; None on other ranks."""
        return self._opened().id if is_rank_zero() else None

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, which is made if need be; None on other ranks."""
        return self._opened().experiment_id if is_rank_zero() else None

    @property
    def save_dir(self) -> str | None:
        """The directory of the database; None if a ``tracking_uri`` was given."""
        if self._tracking_uri is not None:
            return None
        return self._save_dir or (self.run_info.runs_dir if self.run_info is not None else os.getcwd())

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is."""
        return self._tracking_uri or database_uri(self.save_dir or ".")

    @property
    def experiment(self) -> Any:
        """The ``MlflowClient``; its methods about a run take this one if none is named."""
        from rankzero_mlflow.client import RunClient

        run = self._opened()
        if self._experiment is None:
            self._experiment = RunClient(self.tracking_uri, run.id)
        return self._experiment

    def how_to_view(self) -> str | None:
        from rankzero_mlflow.viewing import how_to_view

        run = self._opened()
        return how_to_view(self.tracking_uri, run.experiment_id, run.id)

    # Delivery

    def flush(self) -> None:
        if self._run is not None:
            self._run.wait()

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._status = status
        self._system_metrics.stop()
        self._clear_scratch()
        if self._run is not None or self.run_info is not None:
            self._opened().end(_STATUSES.get(status, "FAILED"), self.moment.time)
        self._disown()

    def close(self) -> None:
        """Release everything; in direct use the run has ended then."""
        if self._is_ours:
            self.finalize(self._status)
        self._system_metrics.stop()
        self._clear_scratch()
        self._run = self._artifacts = self._experiment = None

    def finish(self, status: str | None, timeout: float) -> None:
        """Be told that the process ends: in direct use, a run that nobody finalized would be running for ever."""
        try:
            if self._run is not None:
                self._run.client = self._client(is_patient=False)
            self.finalize(status or self._status)
        except Exception as error:  # other runs are to be told, too
            self._disown()
            rank_zero_warn(f"MLflow says that the run is running, for it could not be told that it ended: {error}")
        self.close()

    def after_fork(self) -> None:
        """Be told that this process is a forked child: the run is its parent's to end."""
        self._is_ours = False

    def _own(self) -> None:
        if self.run_info is None:
            self._is_ours = True
            watch_over(self)

    def _disown(self) -> None:
        self._is_ours = False
        forget(self)

    def _opened(self) -> TrackedRun:
        if self._run is None:
            try:
                self._run = self._open()
            except RejectedError as error:  # what the user said of the run is to blame, no event
                raise TrackerUnavailableError(f"the run cannot be opened: {error}") from error
            self._artifacts = Artifacts(self._run, self._registered_model_name)
        return self._run

    def _open(self) -> TrackedRun:
        settings, has_courier = self._settings, self.run_info is not None
        if self.save_dir is not None:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
            location = settings.artifact_location or artifacts_in(self.save_dir)
            settings = settings._replace(artifact_location=location)
        client = self._client(is_patient=not has_courier)
        if self._run_id is None:
            found = find_or_create(client, settings, self.run_info)
            self._run_id = found.info.run_id
            self._own()
        else:
            found = client.get_run(self._run_id)
        run = TrackedRun(client, found, True if has_courier else self._synchronous)
        run.set_tags({key: text for key, text in tags_of(settings, self.run_info).items() if len(text) > LONGEST_TAG})
        return run

    def _client(self, is_patient: bool) -> CheckedClient:
        return CheckedClient(connect(self.tracking_uri), has_courier=not is_patient)

    def _going_on(self) -> TrackedRun:
        run = self._opened()
        run.go_on()
        self._own()
        self._system_metrics.start(run.id, self.tracking_uri, self.moment.time)
        return run

    @property
    def _files(self) -> Artifacts:
        self._going_on()
        self._clear_scratch()  # what the last verb wrote is uploaded
        assert self._artifacts is not None
        return self._artifacts

    @property
    def _media(self) -> MediaStore:
        if self.run_info is not None:
            return super()._media
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="rankzero-mlflow-")
        return MediaStore(Path(self._scratch.name))

    def _clear_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    # Numbers, params, tags

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        numbers: dict[str, Number] = {}
        for key, value in flatten(metrics):
            number = to_number(value)
            if value is None:
                self._say_once(f"None {key}", f"the metric {key!r} was None; there is nothing to log")
            elif number is None:
                self.log_text(key, columns=["value"], data=[[value]], step=step)
            else:
                numbers[key] = number
        self.log_metrics_batch([MetricsRow(numbers, step, self.moment)])

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        self._going_on().log_metrics(self._prefixed(row) for row in rows)

    def _prefixed(self, row: MetricsRow) -> MetricsRow:
        if not self._prefix:
            return row
        return MetricsRow({self._prefix + key: value for key, value in row.values.items()}, row.step, row.moment)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace | None = None, metrics: Mapping[str, Number] | None = None
    ) -> None:
        plain = to_jsonable(vars(params) if isinstance(params, Namespace) else params or {})
        self._going_on().log_params({key: str(value) for key, value in flatten(plain)})
        if metrics:
            self.log_metrics(dict(metrics), step=0)

    def log_tags(self, tags: Sequence[str]) -> None:
        self._going_on().set_tags({metric_name(tag): "true" for tag in tags})

    def define_metric(
        self, name: str, step_metric: str | None = None, summary: str | None = None, goal: str | None = None
    ) -> None:
        self._going_on().define_metric(self._prefix + name, step_metric, summary, goal)

    # Media

    def log_image(
        self,
        key: str,
        images: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._say_ignored("pictures", kwargs)
        self._files.log_images(key, self.as_files("image", images, caption), step, self.moment)

    def log_audio(
        self,
        key: str,
        audios: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        sample_rate: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._say_ignored("sounds", kwargs)
        store, files = self._files, self.as_files("audio", audios, caption, sample_rate=sample_rate)
        store.log_files("audio", key, files, step, self.moment)

    def log_video(
        self,
        key: str,
        videos: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        fps: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._say_ignored("videos", kwargs)
        self._files.log_files("videos", key, self.as_files("video", videos, caption, fps=fps), step, self.moment)

    def log_figure(self, key: str, figure: Any, step: int | None = None, **kwargs: Any) -> None:
        self._say_ignored("figures", kwargs)
        self._files.log_files("figures", key, self.as_files("figure", [figure]), step, self.moment)

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        self._log_table("tables", key, *as_table(columns, data, dataframe), step)

    def _log_table(self, folder: str, key: str, names: list[str], rows: list[list[Any]], step: int | None) -> None:
        store, plain = self._files, [[self._cell(cell) for cell in row] for row in rows]
        store.log_table(f"{folder}/{path_name(key)}", names, plain, step, self.moment)

    def _cell(self, cell: Any) -> Any:
        if isinstance(cell, MediaFile) or not hasattr(cell, "save"):
            return cell if isinstance(cell, MediaFile) else to_jsonable(cell)
        return self.as_files("image", [cell])[0]

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        names, rows = as_table(columns, data, dataframe)
        if len(names) == len(rows) == 1:
            self._files.log_text(key, str(rows[0][0]), step, self.moment)
        else:
            self._log_table("texts", key, names, rows, step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        self._files.log_histogram(key, histogram(values, bins), step, self.moment)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if isinstance(model, MediaFile):  # frameworks call it of their own accord
            self._files.log_graph(model)

    def _say_ignored(self, what: str, options: Mapping[str, Any]) -> None:
        for option in options:
            self._say_once(f"{what} {option}", f"MLflow shows {what} without {option!r}, which is not logged")

    # Files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        details = {"type": type, "aliases": list(aliases), "metadata": to_jsonable(metadata or {})}
        given = {key: value for key, value in details.items() if value}
        self._files.log_artifact(os.fspath(path), name or Path(path).name, given)

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        score: float | None = None,
        step: int | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        details = {"score": score, "step": step, "aliases": list(aliases), **(metadata or {})}
        self._files.log_checkpoint(os.fspath(path), step, aliases, to_jsonable(details))

    def download_checkpoint(self, alias: str = "best", directory: str | os.PathLike[str] | None = None) -> str:
        """Return the path of a local copy of the checkpoint that has an alias.

        Args:
            alias: ``best``, ``latest``, or one that `log_checkpoint` was given.
            directory: where to put it; a new temporary directory if not given.

        Raises:
            LookupError: no checkpoint of the run has this alias.
        """
        self._opened()
        assert self._artifacts is not None
        return self._artifacts.download_checkpoint(alias, directory)
