"""Find the run in MLflow, by its saved id or by its tag, or create it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import AccessError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.files.writing import read_own_json, write_file
from rankzero_mlflow.client import LONGEST_TAG, RUN_TAG, AlreadyThereError, CheckedClient, NotThereError, metric_name
from rankzero_mlflow.options import MlflowOptions, artifacts_beside, without_password
from rankzero_mlflow.rewinding import REWOUND_TO, find_successor

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # or MLflow shows pages for agents
_NOTE_TAG = "mlflow.note.content"


class Finder:
    """Finds or creates the MLflow run of a rankzero run.

    Args:
        client: the client.
        uri: the tracking URI.
        options: the options of the logger.
        run: the rankzero run; None in direct use, which always creates a run.
    """

    def __init__(self, client: CheckedClient, uri: str, options: MlflowOptions, run: RunInfo | None) -> None:
        self._client = client
        self._uri = uri
        self._options = options
        self._run = run
        self._name = options["experiment_name"] or (run.project if run is not None else "lightning_logs")

    def find_or_create(self, rewound_at: int | None = None) -> Any:
        """Return MLflow's ``Run``, or the one that is to replace it.

        Args:
            rewound_at: the journal line of a rewind for which to create a run that is to replace the existing one.

        Raises:
            AccessError: the run of an earlier delivery, or its experiment, was deleted.
        """
        if self._run is None:
            return self._create(self._experiment_id())
        from filelock import FileLock

        # No other process on this machine may create the run after this one has searched for it.
        with FileLock(Path(self._run.dir, "mlflow.lock")):
            if (known_id := _known_ids(self._ids_file).get(self._destination)) is not None:
                mlflow_run = self._reopen(known_id)
            else:
                experiment_id = self._experiment_id()
                mlflow_run = find_run(self._client, experiment_id, self._run.id) or self._create(experiment_id)
                self._save_id(mlflow_run.info.run_id)
            successor = find_successor(self._client, mlflow_run, rewound_at) if self._options["rewind"] else None
            return mlflow_run if successor is None else _checked(successor)

    def find(self) -> str | None:
        """Return MLflow's id of the run without creating it; None if there is none.

        Raises:
            AccessError: the run was deleted.
        """
        assert self._run is not None
        if known := _known_ids(self._ids_file).get(self._destination):
            return known
        experiment_id = self._options.experiment_id
        if not experiment_id:
            experiment = self._client.get_experiment_by_name(self._name)
            experiment_id = experiment.experiment_id if experiment is not None else None
        found = find_run(self._client, experiment_id, self._run.id) if experiment_id else None
        return str(found.info.run_id) if found is not None else None

    @property
    def _destination(self) -> str:
        """The server, experiment and run: the key of MLflow's saved id of the run."""
        assert self._run is not None
        return f"{without_password(self._uri)} {self._options.experiment_id or self._name} {self._run.id}"

    @property
    def _ids_file(self) -> Path:
        assert self._run is not None
        return Path(self._run.dir, "mlflow.runs.json")

    def _save_id(self, run_id: str) -> None:
        ids = {**_known_ids(self._ids_file), self._destination: run_id}
        write_file(self._ids_file, msgspec.json.encode(ids))

    def _reopen(self, run_id: str) -> Any:
        """Return the run of an earlier delivery."""
        assert self._run is not None
        try:
            mlflow_run = self._client.get_run(run_id)
        except NotThereError as error:
            raise AccessError(
                f"the run {run_id}, to which this one was delivered, was deleted permanently in MLflow. To deliver "
                f"all of it to a new run, delete {self._ids_file} and then: rankzero sync {shlex.quote(self._run.dir)} "
                "--again"
            ) from error
        if REWOUND_TO in mlflow_run.data.tags:  # the saved id is that of a copy of the run's directory
            return self._reopen(mlflow_run.data.tags[REWOUND_TO])
        if mlflow_run.info.lifecycle_stage == "deleted":
            _check_experiment(self._client.get_experiment(mlflow_run.info.experiment_id))
            raise _deleted(run_id)
        return _checked(mlflow_run)

    def _experiment_id(self) -> str:
        if self._options.experiment_id:
            return self._options.experiment_id
        experiment = self._client.get_experiment_by_name(self._name)
        if experiment is None:
            location = self._options["artifact_location"] or artifacts_beside(self._uri)
            try:
                return str(self._client.create_experiment(self._name, location, tags=_EXPERIMENT_TAGS))
            except AlreadyThereError:
                experiment = self._client.get_experiment_by_name(self._name)
        _check_experiment(experiment)
        return str(experiment.experiment_id)

    def _create(self, experiment_id: str) -> Any:
        from mlflow.tracking.context.registry import resolve_tags
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

        run, name, started = self._run, self._options["run_name"], None
        tags = {key: value[:LONGEST_TAG] for key, value in tags_of(self._options, run).items()}
        if self._options["parent_run_id"]:
            tags[MLFLOW_PARENT_RUN_ID] = self._parent_id(experiment_id, self._options["parent_run_id"])
        elif parent := parent_of(run, self._client, experiment_id):
            tags[MLFLOW_PARENT_RUN_ID] = parent
        tagged = tags.pop(MLFLOW_RUN_NAME, None)  # MLflow refuses the name twice
        if run is None:
            tags, name = resolve_tags() | tags, name or tagged
        else:
            tags, name = _context_of(run) | tags | {RUN_TAG: run.id}, name or run.name
            started = round(run.started * 1000) or None
        return _checked(self._client.create_run(experiment_id, start_time=started, tags=tags, run_name=name))

    def adopt(self, run_id: str) -> None:
        """Have the run with MLflow's id ``run_id`` found from now on."""
        from filelock import FileLock

        assert self._run is not None
        self._client.set_tag(run_id, RUN_TAG, self._run.id)
        with FileLock(Path(self._run.dir, "mlflow.lock")):
            self._save_id(run_id)

    def _parent_id(self, experiment_id: str, run_id: str) -> str:
        """Return MLflow's id of the parent, given by its id in MLflow or rankzero."""
        parent = find_run(self._client, experiment_id, run_id)
        if parent is None:
            try:
                parent = self._client.get_run(run_id)
            except TrackerUnavailableError as error:  # it is retried: the parent's courier may create it later
                raise TrackerUnavailableError(f"MLflow has no run parent_run_id={run_id!r} (yet): {error}") from error
        return str(parent.info.run_id)


def find_run(client: CheckedClient, experiment_id: str, run_id: str) -> Any:
    """Return MLflow's ``Run`` of a rankzero run; None if there is none.

    Raises:
        AccessError: the run was deleted.
    """
    from mlflow.entities import ViewType

    query = f"tags.`{RUN_TAG}` = '{run_id}'"
    runs = client.search_runs([experiment_id], query, run_view_type=ViewType.ALL)
    active = [each for each in runs if each.info.lifecycle_stage == "active"]
    if runs and not active:
        raise _deleted(runs[0].info.run_id)
    return active[0] if active else None


def parent_of(run: RunInfo | None, client: CheckedClient, experiment_id: str) -> str | None:
    """Return MLflow's id of a rankzero run's parent; None if it has no parent, or the parent is not in MLflow yet."""
    if run is None or run.parent is None:
        return None
    try:
        parent = find_run(client, experiment_id, run.parent)
    except AccessError:  # the parent was deleted; this run is delivered without it
        return None
    return None if parent is None else str(parent.info.run_id)


def tags_of(options: MlflowOptions, run: RunInfo | None) -> dict[str, str]:
    """Return the run's tags, including the description."""
    tags = {} if run is None else dict.fromkeys(run.tags, "true")
    if run is not None:
        tags |= {name: value for name, value in (("group", run.group), ("parent", run.parent)) if value is not None}
    tags |= {key: str(value) for key, value in (options["tags"] or {}).items()}
    note = options["description"] or (run.notes if run is not None else None)
    named = {metric_name(key): value for key, value in tags.items()}
    return named | ({_NOTE_TAG: note} if note else {})


def _context_of(run: RunInfo) -> dict[str, str]:
    """Return MLflow's tags about the training script; MLflow's own would be about the courier."""
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.git_utils import get_git_commit
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

    context = {MLFLOW_USER: resolve_tags().get(MLFLOW_USER, "")}
    if run.program:
        context |= {MLFLOW_SOURCE_NAME: run.program, MLFLOW_SOURCE_TYPE: "LOCAL"}
        context[MLFLOW_GIT_COMMIT] = get_git_commit(run.program) or ""
    return {key: value for key, value in context.items() if value}


def _known_ids(path: Path) -> dict[str, str]:
    """Return destination → MLflow's id of the run, which is different in each destination."""
    return read_own_json(path, dict[str, str]) or {}


def _checked(run: Any) -> Any:
    """Return a run of a response; raise `TrackerUnavailableError` if the response has none."""
    if not run.info.run_id:
        raise TrackerUnavailableError("the answer has no run id; it may not be from MLflow")
    return run


def _deleted(run_id: str) -> AccessError:
    return AccessError(f"the run was deleted in MLflow. Restore it: mlflow runs restore --run-id {run_id}")


def _check_experiment(experiment: Any) -> None:
    if experiment.lifecycle_stage == "deleted":
        raise AccessError(
            f"the experiment {experiment.name!r} was deleted in MLflow. Restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    if not experiment.experiment_id:
        raise TrackerUnavailableError("the answer has no experiment id; it may not be from MLflow")
