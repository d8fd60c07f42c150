"""Where a run is in W&B, and how its client is told to go on with it."""

from __future__ import annotations

import glob
import json
import os
import platform
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rankzero import rank_zero_warn
from rankzero.identity import name_of
from rankzero.liveness import Writer, writer_state
from rankzero.logger import RunInfo
from rankzero.surroundings import Surroundings, read_surroundings
from rankzero_wandb.login import setting_from_files
from rankzero_wandb.readback import MARK
from rankzero_wandb.sweeps import sweep_parameters

STEP = "trainer/global_step"
"""The metric that is the x-axis of all others."""

OFFLINE = ("offline", "dryrun")
_OFF = "disabled"
_PROJECT = "lightning_logs"
_NO_PROJECT = "default"  # what a Run belongs to that was given none
_SURROUNDINGS_TIMEOUT = 3.0
_ARGUMENTS = {"entity": "WANDB_ENTITY", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE"}
_SETTINGS = {
    "base_url": "WANDB_BASE_URL",
    "save_code": "WANDB_SAVE_CODE",
    "sweep_id": "WANDB_SWEEP_ID",
}
_KEPT = (
    "WANDB_CONSOLE", "WANDB_DISABLE_CODE", "WANDB_DISABLE_GIT", "WANDB_MODE", "WANDB_NAME", "WANDB_NOTES",
    "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_TAGS", *_ARGUMENTS.values(), *_SETTINGS.values(),
)  # fmt: skip
_NOT_FOR_CLIENT = ("console", "disable_git", "x_save_requirements")
"""Settings of the user's that are about the training process, and that we see to."""

# A courier waits and tries again itself, and tells people; W&B's client is to give up, or to go on, soon.
_PATIENCE = {
    "init_timeout": 30.0,
    "finish_timeout": 60.0,
    "x_file_stream_transmit_interval": 1.0,
    "x_file_stream_retry_wait_max_seconds": 10.0,
    "x_file_transfer_retry_wait_max_seconds": 10.0,
    "x_graphql_retry_wait_max_seconds": 10.0,
}
_DIRECT_FINISH_TIMEOUT = 300.0


class Settings(NamedTuple):
    """What the user said of a run."""

    project: str | None
    name: str | None
    id: str | None
    save_dir: str | None
    mode: str | None
    init: dict[str, Any]
    """Further arguments of ``wandb.init``."""
    environment: Mapping[str, str] = {}
    """Variables of the training process, which count more than those of this one."""

    def variable(self, name: str) -> str | None:
        """Return an environment variable, None if it is not set or empty."""
        return self.environment.get(name) or os.environ.get(name) or None

    @property
    def for_client(self) -> dict[str, Any]:
        """What the user set of ``wandb.Settings``."""
        given = self.init.get("settings")
        if given is None or isinstance(given, Mapping):
            return dict(given or {})
        return {name: getattr(given, name) for name in given.model_fields_set}

    @property
    def entity(self) -> str | None:
        """The account or team; None for the user's own."""
        return self.init.get("entity") or self.variable("WANDB_ENTITY")

    @property
    def has_console(self) -> bool:
        """Whether W&B is to have what the training process prints."""
        return (self.for_client.get("console") or self.variable("WANDB_CONSOLE")) != "off"

    @property
    def has_git(self) -> bool:
        """Whether W&B may know the state of the code in git."""
        return not self._is_on("disable_git", "WANDB_DISABLE_GIT")

    @property
    def has_code(self) -> bool:
        """Whether W&B may have code."""
        return not self._is_on("disable_code", "WANDB_DISABLE_CODE")

    def _is_on(self, setting: str, variable: str) -> bool:
        value = self.for_client.get(setting, self.variable(variable) or False)
        return str(value).lower() not in ("false", "0", "no", "off")

    @property
    def real_mode(self) -> str:
        """``online``, ``offline``, ``disabled`` or ``shared``."""
        mode = self.mode or self.variable("WANDB_MODE") or "online"
        return "offline" if mode in OFFLINE else mode

    @property
    def is_offline(self) -> bool:
        """Whether W&B's client writes only to files."""
        return self.real_mode == "offline"

    @property
    def is_online(self) -> bool:
        """Whether W&B gets what is logged."""
        return self.real_mode not in ("offline", _OFF)

    def project_of(self, run: RunInfo | None) -> str:
        """Return the project."""
        from_environment = self.variable("WANDB_PROJECT")
        if run is None:
            return self.project or from_environment or _PROJECT
        if run.project == _NO_PROJECT:
            return self.project or from_environment or run.project
        return self.project or run.project

    def id_of(self, run: RunInfo | None) -> str | None:
        """Return W&B's id of the run; None for one that W&B makes up."""
        return self.id or self.variable("WANDB_RUN_ID") or (run.id if run is not None else None)

    def target_of(self, run: RunInfo) -> str:
        """Return what tells this W&B run from others that get the same rankzero run."""
        parts = [self.entity, self.project_of(run), self.id_of(run), "offline" if self.is_offline else None]
        return "-".join(str(part) for part in parts if part)

    def directory_of(self, run: RunInfo | None) -> str:
        """Return the directory in which W&B's client makes its ``wandb``."""
        own = run.dir if run is not None else "."
        return os.path.expanduser(os.path.expandvars(self.save_dir or os.environ.get("WANDB_DIR") or own))


def fixed_options(settings: Settings) -> dict[str, Any]:
    """Return the constructor's arguments for what the environment decides: variables, and a sweep's parameters."""
    kept = {name: value for name in _KEPT if (value := settings.variable(name))}
    for name, variable in (("base_url", "WANDB_BASE_URL"), ("entity", "WANDB_ENTITY")):
        if variable not in kept and (found := setting_from_files(name)):
            kept[variable] = found
    config: dict[str, Any] = {}
    with suppress(Exception):  # W&B's client will say what is wrong with the file
        config = sweep_parameters()
    return {name: value for name, value in (("environment", kept), ("config", config)) if value}


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

    surroundings = read_surroundings(Path(run.dir), timeout=_SURROUNDINGS_TIMEOUT)
    init = dict(settings.init)
    given = init.pop("config", None) or {}
    arguments = {
        "project": settings.project_of(run),
        "id": settings.id_of(run),
        "dir": settings.directory_of(run),
        "resume": "allow",
        "reinit": "create_new",
        "mode": settings.real_mode,
        "config": {**given, **params, MARK: mark(line, surroundings)},
        **{name: settings.variable(variable) for name, variable in _ARGUMENTS.items()},
        **init,
        **_called(settings, run, is_new),
        **({} if settings.has_code else {"save_code": False}),
        "settings": wandb.Settings(**_courier_settings(settings, run, surroundings)),
    }
    Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
    opened = wandb.init(**arguments)
    if surroundings is not None:
        _save_surroundings(opened, settings, Path(run.dir), surroundings)
    return opened


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


def mark(line: int, surroundings: Surroundings | None) -> dict[str, Any]:
    """Return what a run's config says of rankzero."""
    said: dict[str, Any] = {"line": line}
    if surroundings is not None:  # W&B's client would show the courier's
        said["argv"] = list(surroundings.argv)
        said["started"] = surroundings.started
    return said


def _courier_settings(settings: Settings, run: RunInfo, surroundings: Surroundings | None) -> dict[str, Any]:
    given = {name: value for name, value in settings.for_client.items() if name not in _NOT_FOR_CLIENT}
    variables = {name: value for name, variable in _SETTINGS.items() if (value := settings.variable(variable))}
    told = {**_PATIENCE, **_as_it_was(settings, run, surroundings), **variables, **given}
    return told if settings.has_code else {**told, "disable_code": True, "save_code": False}


def _as_it_was(settings: Settings, run: RunInfo, surroundings: Surroundings | None) -> dict[str, Any]:
    """Return what makes W&B's client tell of the training process, not of this one."""
    told: dict[str, Any] = {
        "console": "off",  # the courier's own
        "silent": True,
        "disable_git": True,  # as it is now, not as it was
        "x_save_requirements": False,
        "x_skip_transaction_log": not settings.is_offline,  # the journal has everything
        "stop_fn": lambda: _stop(run, surroundings),
    }
    if surroundings is None:
        return {**told, "x_disable_stats": True, "x_disable_machine_info": True}
    told |= {
        "program": surroundings.program or None,
        "program_abspath": surroundings.program or None,
        "program_relpath": _relative_program(surroundings),
        "host": surroundings.host,
        "username": surroundings.user,
        "x_executable": surroundings.executable,
    }
    if surroundings.git is not None and settings.has_git:
        told |= {"git_commit": surroundings.git.commit, "git_remote_url": surroundings.git.remote}
    if _is_running_here(run, surroundings):
        return {**told, "x_stats_pid": surroundings.pid, "x_stats_track_process_tree": True}
    return {**told, "x_disable_stats": True, "x_disable_meta": True}


def _is_running_here(run: RunInfo, surroundings: Surroundings) -> bool:
    return surroundings.host == platform.node() and writer_state(Path(run.dir)) is Writer.ALIVE


def _relative_program(surroundings: Surroundings) -> str | None:
    if not surroundings.program:
        return None
    root = surroundings.git.root if surroundings.git is not None else surroundings.cwd
    relative = os.path.relpath(surroundings.program, root)
    return os.path.basename(relative) if relative.startswith("..") else relative


def _save_surroundings(opened: Any, settings: Settings, run_dir: Path, surroundings: Surroundings) -> None:
    """Have W&B keep the files that its client makes of a process that it runs in."""
    found = {}
    if settings.for_client.get("x_save_requirements", True):
        found["requirements.txt"] = surroundings.packages
    if surroundings.git is not None and settings.has_git and settings.has_code:
        found["diff.patch"] = surroundings.git.diff
    if surroundings.code and opened.settings.save_code:
        found[f"code/{_relative_program(surroundings)}"] = surroundings.code
    if opened.settings.x_disable_meta and not settings.for_client.get("x_disable_meta"):
        _save(opened, "wandb-metadata.json", json.dumps(_metadata(settings, surroundings)).encode())
    for name, path in found.items():
        if path is not None and (run_dir / path).exists():
            _save(opened, name, (run_dir / path).read_bytes())


def _metadata(settings: Settings, surroundings: Surroundings) -> dict[str, Any]:
    """Return what W&B's client writes of the process that it runs in, without the machine, which may be another."""
    known: dict[str, Any] = {
        "python": surroundings.python,
        "startedAt": datetime.fromtimestamp(surroundings.started, UTC).isoformat().replace("+00:00", "Z"),
        "args": list(surroundings.argv[1:]),
        "program": surroundings.program,
        "codePath": _relative_program(surroundings),
        "root": surroundings.cwd,
        "host": surroundings.host,
        "username": surroundings.user,
        "executable": surroundings.executable,
    }
    if surroundings.git is not None and settings.has_git:
        known["git"] = {"commit": surroundings.git.commit, "remote": surroundings.git.remote}
    return {name: value for name, value in known.items() if value}


def _save(opened: Any, name: str, content: bytes) -> None:
    kept = Path(opened.dir, name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    opened.save(str(kept), base_path=opened.dir, policy="now", glob=False)


def _stop(run: RunInfo, surroundings: Surroundings | None) -> None:
    """Pass on that somebody pressed "Stop run" in W&B, as W&B's client does in the process that it runs in."""
    if surroundings is not None and _is_running_here(run, surroundings):
        os.kill(surroundings.pid, signal.SIGINT)
    else:
        rank_zero_warn(f"W&B was told to stop the run {run.name}, whose process is not on this machine")
