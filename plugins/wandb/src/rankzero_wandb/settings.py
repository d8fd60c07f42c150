"""What the user said of a run: arguments of the logger, W&B's environment variables and W&B's files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.messages import did_you_mean
from rankzero_wandb.login import setting_from_files
from rankzero_wandb.sweeps import sweep_parameters

_MODES = ("online", "offline", "disabled", "shared", "dryrun")
_UNUSABLE = re.compile(r"[/\\#?%:]")
_LONGEST_TAG = 64
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
_ALSO_OF_WHO_SYNCS = frozenset(["WANDB_BASE_URL"])  # where nothing is known of the server, as on a node without login
KEPT = frozenset([
    "WANDB_CONSOLE", "WANDB_DISABLE_CODE", "WANDB_DISABLE_GIT", "WANDB_MODE", "WANDB_NAME", "WANDB_NOTES",
    "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_TAGS", *ARGUMENTS.values(), *CLIENT_SETTINGS.values(),
])  # fmt: skip


class Settings(NamedTuple):
    """What the user said of a run."""

    project: str | None
    name: str | None
    id: str | None
    save_dir: str | None
    mode: str | None
    init: dict[str, Any]
    """Further arguments of ``wandb.init``."""
    environment: Mapping[str, str] | None = None
    """Variables of the training process; None for those of this one."""
    project_variable: str | None = None
    """``$WANDB_PROJECT`` when the logger was made, so that each of several can have a project of its own."""

    def variable(self, name: str) -> str | None:
        """Return an environment variable, None if it is not set or empty."""
        if self.environment is None and name == "WANDB_PROJECT":
            return self.project_variable or None
        known = os.environ if self.environment is None else self.environment
        return known.get(name) or (os.environ.get(name) if name in _ALSO_OF_WHO_SYNCS else None) or None

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
    def base_url(self) -> str | None:
        """The server; None for the client's default."""
        return self.for_client.get("base_url") or self.variable("WANDB_BASE_URL")

    @property
    def entity(self) -> str | None:
        """The account or team; None for the user's own."""
        return self.init.get("entity") or self.for_client.get("entity") or self.variable("WANDB_ENTITY")

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
        mode = self.mode or self.for_client.get("mode") or self.variable("WANDB_MODE") or "online"
        return "offline" if mode in OFFLINE else mode

    @property
    def is_offline(self) -> bool:
        """Whether W&B's client writes only to files."""
        return self.real_mode == "offline"

    @property
    def is_disabled(self) -> bool:
        """Whether W&B's client does nothing."""
        return self.real_mode == _OFF

    @property
    def is_online(self) -> bool:
        """Whether W&B gets what is logged."""
        return not (self.is_offline or self.is_disabled)

    def project_of(self, run: RunInfo | None) -> str:
        """Return the project."""
        given, from_environment = self.project or self.for_client.get("project"), self.variable("WANDB_PROJECT")
        if run is None:
            return given or from_environment or _PROJECT
        if run.project == _NO_PROJECT:
            return given or from_environment or run.project
        return given or run.project

    def id_of(self, run: RunInfo | None) -> str | None:
        """Return W&B's id of the run; None for one that W&B makes up."""
        given = self.id or self.for_client.get("run_id") or self.variable("WANDB_RUN_ID")
        return given or (run.id if run is not None else None)

    def target_of(self, run: RunInfo) -> str:
        """Return what tells this W&B run from others that get the same rankzero run."""
        parts = [self.entity, self.project_of(run), self.id_of(run), "offline" if self.is_offline else None]
        return "-".join(str(part) for part in parts if part)

    def directory_of(self, run: RunInfo | None) -> str:
        """Return the directory in which W&B's client makes its ``wandb``."""
        own = run.dir if run is not None else "."
        return os.path.expanduser(os.path.expandvars(self.save_dir or os.environ.get("WANDB_DIR") or own))


def check(settings: Settings) -> None:
    """Raise if W&B would never take what the user said, as far as that can be known without its client.

    Raises:
        ConfigError: the message says what is wrong.
    """
    init = settings.init
    _check_choice("mode", settings.mode, _MODES)
    _check_choice("resume", init.get("resume"), ("allow", "never", "must", "auto", True, False))
    for name in ("entity", "group", "job_type", "notes"):
        if not isinstance(init.get(name), str | None):
            raise ConfigError(f"{name} is a text, not {init[name]!r}")
    named: dict[str, Any] = {"project": settings.project, "id": settings.id}
    for name, value in named.items():
        if not isinstance(value, str | None) or _UNUSABLE.search(value or "") or value == "":
            raise ConfigError(f"W&B takes no {name} {value!r}: it is a text without any of / \\ # ? % :")
    for tag in init.get("tags") or []:
        if not isinstance(tag, str) or not 1 <= len(tag) <= _LONGEST_TAG:
            raise ConfigError(f"W&B takes no tag {tag!r}: tags are texts of 1 to {_LONGEST_TAG} characters")
    if not isinstance(init.get("settings"), Mapping | None) and not hasattr(init["settings"], "model_fields_set"):
        raise ConfigError(f"settings are a dictionary or a wandb.Settings, not {init['settings']!r}")


def _check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    if value is not None and value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ConfigError(f"{name} is one of {listed}, not {value!r}.{did_you_mean(str(value), map(str, choices))}")


def check_for_client(settings: Settings) -> None:
    """Raise if W&B's client does not take the user's settings for it; imports it if there are any.

    Raises:
        ConfigError: the message says what is wrong.
    """
    if not settings.for_client:
        return
    import wandb

    try:
        wandb.Settings(**settings.for_client)
    except ValueError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in getattr(error, "errors", list)()]
        raise ConfigError(f"wandb.Settings does not take the settings given: {'; '.join(problems)}") from None


@contextmanager
def only_known_variables(settings: Settings) -> Iterator[None]:
    """Hide from W&B's client, for a while, variables of this process that those of the training process stand for."""
    names = () if settings.environment is None else KEPT - _ALSO_OF_WHO_SYNCS
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def resolved_options(settings: Settings) -> dict[str, Any]:
    """Return the constructor's arguments for what the environment decides: variables, and a sweep's parameters."""
    kept = {name: value for name in sorted(KEPT) if (value := settings.variable(name))}
    for name, variable in (("base_url", "WANDB_BASE_URL"), ("entity", "WANDB_ENTITY")):
        if variable not in kept and (found := setting_from_files(name)):
            kept[variable] = found
    config: dict[str, Any] = {}
    with suppress(Exception):  # W&B's client will say what is wrong with the file
        config = sweep_parameters()
    return {"environment": kept, **({"config": config} if config else {})}
