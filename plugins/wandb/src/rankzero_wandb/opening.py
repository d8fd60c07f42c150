"""How W&B's client is told to begin a run, or to go on with it."""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankzero import rank_zero_warn
from rankzero.capture.environment import Environment, read_environment
from rankzero.events.run_info import RunInfo
from rankzero.run.identity import name_of
from rankzero_wandb.readback import MARK
from rankzero_wandb.settings import ARGUMENTS, CLIENT_SETTINGS, Settings, only_known_variables
from rankzero_wandb.training_process import environment_settings, mark, save_environment

STEP = "trainer/global_step"
"""The metric that is the x-axis of all others."""

FIRST_TIME_ONLY = ("config", "fork_from", "notes", "resume", "resume_from", "tags")
"""Arguments of ``wandb.init`` that are not for going on with a run: what they set may have changed since."""

_ENVIRONMENT_TIMEOUT = 10.0
_NOT_FOR_CLIENT = ("console", "disable_git", "x_save_requirements")
"""Settings of the user's that are about the training process, and that we see to."""

# A courier waits and tries again itself, and tells people; W&B's client is to give up, or to go on, soon.
_PATIENCE = {
    "init_timeout": 20.0,
    "finish_timeout": 60.0,
    "x_file_stream_transmit_interval": 1.0,
    "x_file_stream_retry_wait_max_seconds": 10.0,
    "x_file_transfer_retry_wait_max_seconds": 10.0,
    "x_graphql_retry_wait_max_seconds": 10.0,
}
_DIRECT_FINISH_TIMEOUT = 300.0


def open_direct(settings: Settings, *, in_parallel: bool) -> Any:
    """Begin a run that is used directly, or go on with it.

    Args:
        settings: what the user said.
        in_parallel: whether another run is open that must go on.
    """
    import wandb

    arguments = {
        "project": settings.project_of(None),
        "name": settings.name,
        "id": settings.id,
        "dir": settings.directory_of(None),
        "resume": "allow",
        "mode": settings.mode,
        **({"reinit": "create_new"} if in_parallel else {}),
        **settings.init,
    }
    arguments["settings"] = wandb.Settings(**{"finish_timeout": _DIRECT_FINISH_TIMEOUT, **settings.for_client})
    Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
    run = wandb.init(**arguments)
    if arguments.get("sync_tensorboard"):
        run.define_metric("*", step_metric="global_step")
    else:
        define_step(run)
    return run


def open_for_courier(settings: Settings, run: RunInfo, params: Mapping[str, Any], line: int, *, is_new: bool) -> Any:
    """Begin the W&B run of a rankzero run, or go on with it.

    Args:
        settings: what the user said.
        run: the rankzero run.
        params: hyperparameters that are known already, which saves a request.
        line: the line of the journal that they are from.
        is_new: whether W&B is to be told what the run is called; later a person may have changed it there.
    """
    import wandb

    environment = read_environment(Path(run.dir), timeout=_ENVIRONMENT_TIMEOUT)
    init = settings.init if is_new else settings.without(FIRST_TIME_ONLY).init
    given = settings.init.get("config") or {}
    arguments = {
        "project": settings.project_of(run),
        "id": settings.id_of(run),
        "dir": settings.directory_of(run),
        "resume": "allow",
        "reinit": "create_new",
        "mode": settings.real_mode,
        **{name: settings.variable(variable) for name, variable in ARGUMENTS.items()},
        **init,
        "config": {**given, **params, MARK: mark(run, line, environment)},
        **_called(settings, run, is_new),
        **({} if settings.has_code else {"save_code": False}),
        "settings": wandb.Settings(**_courier_settings(settings, run, environment)),
    }
    Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
    if settings.is_offline:
        _wait_for_a_new_directory(Path(arguments["dir"], "wandb"))
    with only_known_variables(settings):
        opened = wandb.init(**arguments)
    if environment is not None:
        try:
            save_environment(opened, settings, Path(run.dir), environment)
        except OSError as error:  # no reason to do without the run
            rank_zero_warn(f"W&B will not show all of what surrounds the run {run.name}: {error}")
    return opened


def _wait_for_a_new_directory(directory: Path) -> None:
    """Wait a moment if W&B's client would write into files that another has begun: it names them by the second."""
    while any(directory.glob(time.strftime("offline-run-%Y%m%d_%H%M%S-*"))):
        time.sleep(0.05)


def mark_as_synced(settings: Settings, run: RunInfo) -> None:
    """Have ``wandb sync`` pass over what W&B's client has written offline of a run, all of which W&B has."""
    run_id = glob.escape(settings.id_of(run) or "")
    for path in Path(settings.directory_of(run), "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"):
        path.with_suffix(".wandb.synced").touch()


def _called(settings: Settings, run: RunInfo, is_new: bool) -> dict[str, Any]:
    if not is_new:
        return dict.fromkeys(["name", "notes", "tags"])
    given = run.name if run.name != name_of(run.id) else None
    tags = list(dict.fromkeys([*(settings.init.get("tags") or ()), *run.tags]))
    return {
        "name": settings.name or given or settings.variable("WANDB_NAME") or run.name,
        "notes": settings.init.get("notes") or run.notes or settings.variable("WANDB_NOTES"),
        "tags": tags or list(filter(None, (settings.variable("WANDB_TAGS") or "").split(","))) or None,
    }


def define_step(run: Any) -> None:
    """Make the step the x-axis of all metrics."""
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)


def _courier_settings(settings: Settings, run: RunInfo, environment: Environment | None) -> dict[str, Any]:
    given = {name: value for name, value in settings.for_client.items() if name not in _NOT_FOR_CLIENT}
    variables = {name: value for name, variable in CLIENT_SETTINGS.items() if (value := settings.variable(variable))}
    told = {**_PATIENCE, **environment_settings(settings, run, environment), **variables, **given}
    return told if settings.has_code else {**told, "disable_code": True, "save_code": False}
