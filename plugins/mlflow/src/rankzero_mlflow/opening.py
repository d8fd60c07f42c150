"""Which run of MLflow is written to: the one of the id that was kept, found by its tag, or made if there is none."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.errors import AccessError, ConfigError, TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero_mlflow.failures import AlreadyThereError, CheckedClient, NotThereError, without_password
from rankzero_mlflow.kept_ids import KeptIds
from rankzero_mlflow.names import LONGEST_TAG, metric_name

RUN_TAG = "rankzero.run_id"
"""The tag that holds the id of the rankzero run; one that has it is never made a second time."""


_OF_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # MLflow would take it for one of agents
_SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc"}
_SQLITE = "sqlite:///"
_NOTE_TAG = "mlflow.note.content"


class Settings(NamedTuple):
    """What the user said of the run, and of where it is."""

    tracking_uri: str | None
    save_dir: str | None
    experiment_name: str | None
    experiment_id: str | None
    run_id: str | None
    run_name: str | None
    tags: Mapping[str, Any]
    description: str | None
    artifact_location: str | None
    parent_run_id: str | None
    registered_model_name: str | None
    synchronous: bool | None


def database_uri(directory: str) -> str:
    """Return the URI of the SQLite database in ``directory``."""
    return f"{_SQLITE}{os.path.abspath(directory)}/mlflow.db"


def artifacts_beside(uri: str) -> str | None:
    """Return where the artifacts of runs in a SQLite database are kept; None for what is no such database.

    MLflow's default is the working directory of whoever makes the experiment.
    """
    if not uri.startswith(_SQLITE) or uri.startswith(f"{_SQLITE}:"):
        return None
    return os.path.join(os.path.dirname(os.path.abspath(uri.removeprefix(_SQLITE))), "mlartifacts")


def check_tracking_uri(uri: str | None) -> None:
    """Refuse what cannot be a server or database, before training begins.

    Raises:
        ConfigError: the URI has no scheme, or a wrong one, or is a directory of files, which MLflow 3 refuses.
    """
    if uri is None:
        return
    if not isinstance(uri, str):
        raise ConfigError(f"tracking_uri is a text, not {uri!r}")
    is_directory = uri.startswith("file:") or (":" not in uri and not uri.startswith("databricks"))
    if is_directory:
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise ConfigError(
                f"MLflow 3 no longer writes to directories of files, and tracking_uri={uri!r} is one. Leave it out to "
                "get a database in save_dir, or name one: sqlite:///mlflow.db"
            )
    elif not _is_scheme(uri.partition(":")[0].partition("+")[0]):
        raise ConfigError(
            f"tracking_uri={uri!r} is neither a server (http://HOST:PORT) nor a database (sqlite:///PATH, postgresql://…)"
        )


def _is_scheme(name: str) -> bool:
    from importlib.metadata import entry_points

    return name in _SCHEMES or name in entry_points(group="mlflow.tracking_store").names


def connect(uri: str) -> Any:
    """Return an ``MlflowClient``, which makes the tables of a new database."""
    from mlflow import MlflowClient

    scheme, _, path = uri.partition(":///")
    if scheme != "sqlite":
        return MlflowClient(uri)
    from filelock import FileLock

    # Two processes that make the same tables at once spoil them for each other.
    with FileLock(f"{path}.lock"):
        return MlflowClient(uri)


def find_or_create(client: CheckedClient, settings: Settings, run: RunInfo | None, uri: str) -> Any:
    """Return MLflow's ``Run`` of ``run``; a new one for a logger that is used directly.

    Raises:
        AccessError: the run that was written to before, or its experiment, was deleted.
    """
    name = settings.experiment_name or (run.project if run is not None else "lightning_logs")
    if run is None:
        return _create(client, settings, settings.experiment_id or _experiment(client, settings, name), run)
    from filelock import FileLock

    # Nobody else on this machine may look for it between our looking and our making it.
    with FileLock(Path(run.dir, "mlflow.lock")):
        ids = KeptIds(run.dir)
        place = f"{without_password(uri)} {settings.experiment_id or name} {run.id}"
        known = ids.get(place)
        if known is not None:
            return _reopen(client, known, run, ids)
        experiment_id = settings.experiment_id or _experiment(client, settings, name)
        found = _find(client, experiment_id, run.id) or _create(client, settings, experiment_id, run)
        ids.keep(place, found.info.run_id)
        return found


def _reopen(client: CheckedClient, run_id: str, run: RunInfo, ids: KeptIds) -> Any:
    """Return the run of this id, which was written to before."""
    try:
        found = client.get_run(run_id)
    except NotThereError as error:
        raise AccessError(
            f"the run {run_id} that this one was delivered to is no longer in MLflow: it was deleted for good. To "
            f"deliver all of it to a new run, delete {ids.path} and then: rankzero sync {shlex.quote(run.dir)} --again"
        ) from error
    if found.info.lifecycle_stage == "deleted":
        _check_experiment(client.get_experiment(found.info.experiment_id))
        raise _deleted(run_id)
    return _identified(found)


def _identified(run: Any) -> Any:
    """Return a run that MLflow told of, if it did."""
    if not run.info.run_id:
        raise TrackerUnavailableError("MLflow's answer names no run; perhaps something else answers for it")
    return run


def _deleted(run_id: str) -> AccessError:
    return AccessError(f"the run was deleted in MLflow. Restore it: mlflow runs restore --run-id {run_id}")


def _experiment(client: CheckedClient, settings: Settings, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, settings.artifact_location, tags=_OF_TRAINING))
        except AlreadyThereError:
            experiment = client.get_experiment_by_name(name)
    _check_experiment(experiment)
    return str(experiment.experiment_id)


def _check_experiment(experiment: Any) -> None:
    if experiment.lifecycle_stage == "deleted":
        raise AccessError(
            f"the experiment {experiment.name!r} was deleted in MLflow. Restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    if not experiment.experiment_id:
        raise TrackerUnavailableError("MLflow's answer names no experiment; perhaps something else answers for it")


def _find(client: CheckedClient, experiment_id: str, run_id: str) -> Any:
    from mlflow.entities import ViewType

    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run_id}'", run_view_type=ViewType.ALL)
    active = [each for each in found if each.info.lifecycle_stage == "active"]
    if found and not active:
        raise _deleted(found[0].info.run_id)
    return active[0] if active else None


def _create(client: CheckedClient, settings: Settings, experiment_id: str, run: RunInfo | None) -> Any:
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

    tags = {key: value[:LONGEST_TAG] for key, value in tags_of(settings, run).items()}
    if settings.parent_run_id:
        tags[MLFLOW_PARENT_RUN_ID] = _parent(client, experiment_id, settings.parent_run_id)
    name = tags.pop(MLFLOW_RUN_NAME, None)  # MLflow refuses to be told it twice
    if run is None:
        tags = _context() | tags
        return _identified(client.create_run(experiment_id, tags=tags, run_name=settings.run_name or name))
    tags = _context_of(run) | tags | {RUN_TAG: run.id}
    started = round(run.started * 1000) or None
    name = settings.run_name or run.name
    return _identified(client.create_run(experiment_id, start_time=started, tags=tags, run_name=name))


def tags_of(settings: Settings, run: RunInfo | None) -> dict[str, str]:
    """Return the tags that the user asked for, and the description, which is one."""
    tags = {} if run is None else dict.fromkeys(run.tags, "true")
    tags |= {key: str(value) for key, value in settings.tags.items()}
    note = settings.description or (run.notes if run is not None else None)
    named = {metric_name(key): value for key, value in tags.items()}
    return named | ({_NOTE_TAG: note} if note else {})


def _context() -> dict[str, str]:
    """Return what MLflow finds out about the script: user, file, git commit."""
    from mlflow.tracking.context.registry import resolve_tags

    return dict(resolve_tags())


def _context_of(run: RunInfo) -> dict[str, str]:
    """Return the same of the training script, which is another program than this one, a courier."""
    from mlflow.utils.git_utils import get_git_commit
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

    context = {MLFLOW_USER: _context().get(MLFLOW_USER, "")}
    if run.program:
        context |= {MLFLOW_SOURCE_NAME: run.program, MLFLOW_SOURCE_TYPE: "LOCAL"}
        context[MLFLOW_GIT_COMMIT] = get_git_commit(run.program) or ""
    return {key: value for key, value in context.items() if value}


def _parent(client: CheckedClient, experiment_id: str, run_id: str) -> str:
    """Return MLflow's id of the parent, which may be given by its rankzero id, too."""
    found = _find(client, experiment_id, run_id)
    if found is None:
        try:
            found = client.get_run(run_id)
        except TrackerUnavailableError as error:  # tried again: perhaps its courier has not made it yet
            raise TrackerUnavailableError(f"parent_run_id={run_id!r} is no run of MLflow (yet): {error}") from error
    return str(found.info.run_id)
