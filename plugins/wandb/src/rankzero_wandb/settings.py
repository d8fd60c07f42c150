"""What the user said of a run: arguments of the logger, W&B's environment variables and W&B's files."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from rankzero.logger import RunInfo
from rankzero_wandb.login import setting_from_files
from rankzero_wandb.sweeps import sweep_parameters

OFFLINE = ("offline", "dryrun")
_OFF = "disabled"
_PROJECT = "lightning_logs"
_NO_PROJECT = "default"  # what a Run belongs to that was given none
ARGUMENTS = {"entity": "WANDB_ENTITY", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE"}
CLIENT_SETTINGS = {
    "base_url": "WANDB_BASE_URL",
    "save_code": "WANDB_SAVE_CODE",
    "sweep_id": "WANDB_SWEEP_ID",
}
_KEPT = (
    "WANDB_CONSOLE", "WANDB_DISABLE_CODE", "WANDB_DISABLE_GIT", "WANDB_MODE", "WANDB_NAME", "WANDB_NOTES",
    "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_TAGS", *ARGUMENTS.values(), *CLIENT_SETTINGS.values(),
)  # fmt: skip


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

    def without(self, names: Collection[str]) -> Settings:
        """Return the settings without some arguments of ``wandb.init``."""
        return self._replace(init={name: value for name, value in self.init.items() if name not in names})

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
