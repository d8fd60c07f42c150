"""`MLFlowLogger`: writes a run to an MLflow server or database."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rankzero.errors import ConfigError, PluginNotInstalledError
from rankzero.events.run_info import MetricsRow, RunInfo
from rankzero.plugins.entry_points import is_installed
from rankzero.rank import is_rank_zero
from rankzero.values import Number, flatten, to_jsonable
from rankzero_mlflow.artifacts import Artifacts
from rankzero_mlflow.media_verbs import MediaVerbs
from rankzero_mlflow.names import metric_name
from rankzero_mlflow.opening import Settings, check_tracking_uri
from rankzero_mlflow.session import Session
from rankzero_mlflow.system_metrics import SystemMetrics
from rankzero_mlflow.tracked_run import TrackedRun
from rankzero_mlflow.viewing import how_to_view


class MLFlowLogger(MediaVerbs):
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
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument makes no sense.
    """

    LOGGER_JOIN_CHAR = "-"
    supports_join = True

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
        if not is_installed("mlflow"):
            raise PluginNotInstalledError("MLFlowLogger needs MLflow: pip install mlflow")
        if log_model not in (True, False, "all"):
            raise ConfigError(f'log_model is True, False or "all", not {log_model!r}')
        if not isinstance(tags, Mapping | None):
            raise ConfigError(f'tags are a dictionary, {{"team": "vision"}}, not {tags!r}')
        self.log_model = log_model
        self.tags = dict(tags or {})
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        check_tracking_uri(uri)
        settings = Settings(
            tracking_uri=uri,
            save_dir=None if save_dir is None else os.path.expanduser(os.path.expandvars(save_dir)),
            experiment_name=experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME"),
            experiment_id=None if experiment_name else os.environ.get("MLFLOW_EXPERIMENT_ID"),
            run_id=run_id,
            run_name=run_name,
            tags=self.tags,
            description=description,
            artifact_location=artifact_location,
            parent_run_id=parent_run_id,
            registered_model_name=registered_model_name,
            synchronous=synchronous,
        )
        self._session = Session(settings, SystemMetrics(log_system_metrics))
        self._prefix = prefix + self.LOGGER_JOIN_CHAR if prefix else ""

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
        return self._session.run.id if is_rank_zero() else None

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, which is made if need be; None on other ranks."""
        return self._session.run.experiment_id if is_rank_zero() else None

    @property
    def save_dir(self) -> str | None:
        """The directory of the database, or of a ``file:`` URI; None if another ``tracking_uri`` was given."""
        return self._session.save_dir

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is."""
        return self._session.tracking_uri

    @property
    def experiment(self) -> Any:
        """The ``MlflowClient``; its methods about a run take this one if none is named."""
        return self._session.experiment

    def how_to_view(self) -> str | None:
        run = self._session.run
        return how_to_view(self.tracking_uri, run.experiment_id, run.id)

    # Delivery

    def attach(self, run: RunInfo) -> None:
        super().attach(run)
        self._session.run_info = run

    def flush(self) -> None:
        self._session.wait()

    def finalize(self, status: str = "success") -> None:
        super().finalize(status)
        self._clear_scratch()
        self._session.end(status, self.context.time)

    def close(self) -> None:
        """Release everything; in direct use the run has ended then."""
        self._clear_scratch()
        self._session.close(self.context.time)

    def _going_on(self) -> TrackedRun:
        self._session.go_on(self.context.time)
        return self._session.run

    def _open_artifacts(self) -> Artifacts:
        self._session.go_on(self.context.time)
        return self._session.artifacts

    # Numbers, params, tags

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        numbers, others = self.numbers_and_others(metrics)
        for key, value in others.items():
            self.log_text(key, columns=["value"], data=[[value]], step=step)
        self.log_metrics_batch([MetricsRow(numbers, step, self.context)])

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        self._going_on().log_metrics(self._prefixed(row) for row in rows)

    def _prefixed(self, row: MetricsRow) -> MetricsRow:
        if not self._prefix:
            return row
        return MetricsRow({self._prefix + key: value for key, value in row.values.items()}, row.step, row.context)

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

    def download_checkpoint(self, alias: str = "best", directory: str | os.PathLike[str] | None = None) -> str:
        """Return the path of a local copy of the checkpoint that has an alias.

        Args:
            alias: ``best``, ``latest``, or one that `log_checkpoint` was given.
            directory: where to put it; a new temporary directory if not given.

        Raises:
            LookupError: no checkpoint of the run has this alias.
        """
        return self._session.artifacts.download_checkpoint(alias, directory)
