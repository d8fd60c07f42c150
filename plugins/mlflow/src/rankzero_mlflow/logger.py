"""`MLFlowLogger`: writes a run to an MLflow server or database."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rankzero.events.run_info import RunInfo, TrackedMetrics
from rankzero.loggers.adapter import TrackerLogger
from rankzero.rank import is_rank_zero
from rankzero_mlflow.client import ERRORS, LONGEST_TAG, CheckedClient, NotThereError, metric_name, read_failure
from rankzero_mlflow.opening import Finder, tags_of
from rankzero_mlflow.options import MlflowOptions, database_uri, has_database
from rankzero_mlflow.session import STATUSES, MlflowSession

_FILES = "file:"


class MLFlowLogger(TrackerLogger):
    """Writes to MLflow; accepts the arguments of Lightning's `MLFlowLogger`.

    Used directly, each call is a request. Under a Run, a request has up to 1,000 values, each value arrives exactly
    once, and after a crash the run is continued: it is found by its tag ``rankzero.run_id``.

    Args:
        experiment_name: the experiment; ``$MLFLOW_EXPERIMENT_NAME`` (or ``_ID``), the Run's project, or
            ``lightning_logs`` if not given.
        run_name: the run's name; the Run's name, or one that MLflow generates, if not given.
        tracking_uri: a server or database; ``$MLFLOW_TRACKING_URI``, or the SQLite database ``mlflow.db`` in
            ``save_dir``, if not given.
        tags: tags of the run.
        save_dir: the directory of the database and its artifacts; the directory with all runs, or the working
            directory, if not given. Ignored with a ``tracking_uri``.
        log_model: upload the checkpoints of a ModelCheckpoint: those that exist at the end (True), each one when it is
            saved (``"all"``), or none (False).
        prefix: put before the names of metrics, followed by ``-``.
        artifact_location: the artifact location of a new experiment; the server's default if not given.
        run_id: MLflow's id of a run to continue.
        synchronous: False lets calls in direct use return before MLflow has answered.
        description: a description of the run; the Run's notes if not given.
        parent_run_id: MLflow's or rankzero's id of the parent run.
        registered_model_name: the registered model; each checkpoint becomes a version of it.
        rewind: under a Run, replace the MLflow run by a new one without superseded steps when the Run is rewound; see
            `Run.rewind`. Otherwise MLflow keeps both.

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument is invalid.
    """

    sdk = "mlflow"
    tracker = "MLflow"
    options_class = MlflowOptions
    errors = ERRORS
    read_failure = staticmethod(read_failure)
    statuses = STATUSES
    prefixes_epoch = False
    reopens_after_failed_flush = True
    supports_join = True

    options: MlflowOptions

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
        rewind: bool = False,
    ) -> None:
        super().__init__(
            prefix=prefix,
            log_model=log_model,
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri,
            tags=tags,
            save_dir=save_dir,
            artifact_location=artifact_location,
            run_id=run_id,
            synchronous=synchronous,
            description=description,
            parent_run_id=parent_run_id,
            registered_model_name=registered_model_name,
            rewind=rewind,
        )
        self.tags = dict(tags or {})
        self._mlflow_id = run_id
        self._rewound_at: int | None = None  # the line of a rewind, for which the next session creates a new run
        self.captures = frozenset(["rewind"] if rewind and run_id is None else [])

    def open(self, run: RunInfo | None) -> MlflowSession:
        if self.save_dir is not None:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
        client, is_new = CheckedClient(self.tracking_uri, has_courier=run is not None), self._mlflow_id is None
        if is_new:
            mlflow_run = Finder(client, self.tracking_uri, self.options, run).find_or_create(self._rewound_at)
            self._mlflow_id, self._rewound_at = mlflow_run.info.run_id, None
        else:
            mlflow_run = client.get_run(self._mlflow_id)
        session = MlflowSession(client, mlflow_run, self, self.tracking_uri)
        if is_new:
            session.end_with_this_process()
        tags = tags_of(self.options, run)
        session.set_tags({name: text for name, text in tags.items() if len(text) > LONGEST_TAG})
        return session

    @property
    def address(self) -> str:
        return self.tracking_uri

    def read_points(self, run: RunInfo, names: Sequence[str]) -> TrackedMetrics:
        if not has_database(self.tracking_uri):
            return {}
        client = CheckedClient(self.tracking_uri, has_courier=True)
        run_id = self._mlflow_id or Finder(client, self.tracking_uri, self.options, run).find()
        if run_id is None:
            return {}
        try:
            return {
                name: [(each.step, each.value) for each in client.get_metric_history(run_id, metric_name(name))]
                for name in names
            }
        except NotThereError:
            return {}

    def rewind(self, step: int) -> int | None:
        first = super().rewind(step)
        if first is not None:
            # The next event creates the new run: the courier must first have saved that it starts over.
            self.discard()
            self._mlflow_id, self._rewound_at = None, self.context.line
        return first

    # Identity

    @property
    def name(self) -> str | None:
        """MLflow's id of the experiment; sends a request."""
        return self.experiment_id

    @property
    def version(self) -> str | None:
        """MLflow's id of the run; sends a request."""
        return self.run_id

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, which is created if necessary; None on other ranks."""
        return self.session.id if is_rank_zero() else None

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, which is created if necessary; None on other ranks."""
        return self.session.experiment_id if is_rank_zero() else None

    @property
    def save_dir(self) -> str | None:
        """The directory of the database, or of a ``file:`` URI; None if another ``tracking_uri`` was given."""
        uri: str | None = self.options["tracking_uri"]
        given: str | os.PathLike[str] | None = self.options["save_dir"]
        if uri:
            return uri.removeprefix(_FILES) if uri.startswith(_FILES) else None
        if given:
            return os.path.expanduser(os.path.expandvars(os.fspath(given)))
        return self.run_info.runs_dir if self.run_info is not None else os.getcwd()

    @property
    def tracking_uri(self) -> str:
        """The URI of MLflow's server or database."""
        return str(self.options["tracking_uri"] or database_uri(self.save_dir or "."))
