"""Find the run in MLflow, by the id that was kept or by its tag, or create it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import AccessError, NotAFileError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.files.writing import read_own, write_file
from rankzero_mlflow.client import AlreadyThereError, CheckedClient, NotThereError
from rankzero_mlflow.names import LONGEST_TAG, metric_name
from rankzero_mlflow.options import MlflowOptions, artifacts_beside, without_password

RUN_TAG = "rankzero.run_id"
"""The tag that holds the id of the rankzero run; one that has it is never made a second time."""

_OF_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # MLflow would take it for one of agents
_NOTE_TAG = "mlflow.note.content"


class Finder:
    """Finds the run of MLflow that is written to, or makes it.

    Args:
        client: how MLflow is reached.
        uri: where MLflow is.
        options: the logger's options.
        run: the run of rankzero; None in direct use, where each run is a new one.
    """

    def __init__(self, client: CheckedClient, uri: str, options: MlflowOptions, run: RunInfo | None) -> None:
        self._client = client
        self._uri = uri
        self._options = options
        self._run = run
        self._name = options["experiment_name"] or (run.project if run is not None else "lightning_logs")

    def find_or_create(self) -> Any:
        """Return MLflow's ``Run``.

        Raises:
            AccessError: the run that was written to before, or its experiment, was deleted.
        """
        if self._run is None:
            return self._create(self._experiment_id())
        from filelock import FileLock

        # Nobody else on this machine may look for it between our looking and our making it.
        with FileLock(Path(self._run.dir, "mlflow.lock")):
            known = _known_ids(ids := Path(self._run.dir, "mlflow.runs.json"))
            if self._where in known:
                return self._reopen(known[self._where], ids)
            experiment_id = self._experiment_id()
            found = find_run(self._client, experiment_id, self._run.id) or self._create(experiment_id)
            write_file(ids, msgspec.json.encode({**known, self._where: found.info.run_id}))
            return found

    def find(self) -> str | None:
        """Return MLflow's id of the run without making anything; None if there is none.

        Raises:
            AccessError: the run was deleted.
        """
        assert self._run is not None
        if known := _known_ids(Path(self._run.dir, "mlflow.runs.json")).get(self._where):
            return known
        experiment_id = self._options.experiment_id
        if not experiment_id:
            experiment = self._client.get_experiment_by_name(self._name)
            experiment_id = experiment.experiment_id if experiment is not None else None
        found = find_run(self._client, experiment_id, self._run.id) if experiment_id else None
        return str(found.info.run_id) if found is not None else None

    @property
    def _where(self) -> str:
        """The server, experiment and run, by which MLflow's id of the run is kept."""
        assert self._run is not None
        return f"{without_password(self._uri)} {self._options.experiment_id or self._name} {self._run.id}"

    def _reopen(self, run_id: str, ids: Path) -> Any:
        """Return the run of this id, which was written to before."""
        assert self._run is not None
        try:
            found = self._client.get_run(run_id)
        except NotThereError as error:
            raise AccessError(
                f"the run {run_id} that this one was delivered to is no longer in MLflow: it was deleted for good. To "
                f"deliver all of it to a new run, delete {ids} and then: rankzero sync {shlex.quote(self._run.dir)} "
                "--again"
            ) from error
        if found.info.lifecycle_stage == "deleted":
            _check_experiment(self._client.get_experiment(found.info.experiment_id))
            raise _deleted(run_id)
        return _identified(found)

    def _experiment_id(self) -> str:
        if self._options.experiment_id:
            return self._options.experiment_id
        experiment = self._client.get_experiment_by_name(self._name)
        if experiment is None:
            location = self._options["artifact_location"] or artifacts_beside(self._uri)
            try:
                return str(self._client.create_experiment(self._name, location, tags=_OF_TRAINING))
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
        return _identified(self._client.create_run(experiment_id, start_time=started, tags=tags, run_name=name))

    def _parent_id(self, experiment_id: str, run_id: str) -> str:
        """Return MLflow's id of the parent, which may be given by its rankzero id, too."""
        found = find_run(self._client, experiment_id, run_id)
        if found is None:
            try:
                found = self._client.get_run(run_id)
            except TrackerUnavailableError as error:  # tried again: perhaps its courier has not made it yet
                raise TrackerUnavailableError(f"parent_run_id={run_id!r} is no run of MLflow (yet): {error}") from error
        return str(found.info.run_id)


def find_run(client: CheckedClient, experiment_id: str, run_id: str) -> Any:
    """Return MLflow's ``Run`` of a run of rankzero; None if there is none.

    Raises:
        AccessError: it was deleted.
    """
    from mlflow.entities import ViewType

    query = f"tags.`{RUN_TAG}` = '{run_id}'"
    found = client.search_runs([experiment_id], query, run_view_type=ViewType.ALL)
    active = [each for each in found if each.info.lifecycle_stage == "active"]
    if found and not active:
        raise _deleted(found[0].info.run_id)
    return active[0] if active else None


def parent_of(run: RunInfo | None, client: CheckedClient, experiment_id: str) -> str | None:
    """Return MLflow's id of the parent of a run of rankzero; None if there is none, or it is not in MLflow yet."""
    if run is None or run.parent is None:
        return None
    try:
        found = find_run(client, experiment_id, run.parent)
    except AccessError:  # it was deleted, which is no reason not to deliver this run
        return None
    return None if found is None else str(found.info.run_id)


def tags_of(options: MlflowOptions, run: RunInfo | None) -> dict[str, str]:
    """Return the tags that the user asked for, and the description, which is one."""
    tags = {} if run is None else dict.fromkeys(run.tags, "true")
    if run is not None:
        tags |= {name: value for name, value in (("group", run.group), ("parent", run.parent)) if value is not None}
    tags |= {key: str(value) for key, value in (options["tags"] or {}).items()}
    note = options["description"] or (run.notes if run is not None else None)
    named = {metric_name(key): value for key, value in tags.items()}
    return named | ({_NOTE_TAG: note} if note else {})


def _context_of(run: RunInfo) -> dict[str, str]:
    """Return MLflow's tags about the training script; MLflow itself would describe the courier."""
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.git_utils import get_git_commit
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

    context = {MLFLOW_USER: resolve_tags().get(MLFLOW_USER, "")}
    if run.program:
        context |= {MLFLOW_SOURCE_NAME: run.program, MLFLOW_SOURCE_TYPE: "LOCAL"}
        context[MLFLOW_GIT_COMMIT] = get_git_commit(run.program) or ""
    return {key: value for key, value in context.items() if value}


def _known_ids(path: Path) -> dict[str, str]:
    """Return MLflow's ids of a run of rankzero, which may go to several places and has an id in each."""
    try:
        return msgspec.json.decode(read_own(path), type=dict[str, str])
    except (FileNotFoundError, NotAFileError, msgspec.MsgspecError):
        return {}


def _identified(run: Any) -> Any:
    """Return a run of an answer, if the answer has one."""
    if not run.info.run_id:
        raise TrackerUnavailableError("MLflow's answer names no run; perhaps something else answers for it")
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
        raise TrackerUnavailableError("MLflow's answer names no experiment; perhaps something else answers for it")
