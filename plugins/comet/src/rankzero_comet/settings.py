"""What the user said of an experiment: arguments of the logger, and Comet's own settings."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from rankzero.errors import ConfigError
from rankzero.logger import RunInfo
from rankzero.rank import rank_zero_warn
from rankzero.suggest import did_you_mean
from rankzero_comet.config_files import setting

OPTIONS = frozenset(
    [
        "auto_histogram_activation_logging", "auto_histogram_epoch_rate", "auto_histogram_gradient_logging",
        "auto_histogram_tensorboard_logging", "auto_histogram_weight_logging", "auto_log_co2", "auto_metric_logging",
        "auto_metric_step_rate", "auto_output_logging", "auto_param_logging", "disabled", "display_summary_level",
        "distributed_node_identifier", "log_code", "log_env_cpu", "log_env_details", "log_env_disk", "log_env_gpu",
        "log_env_host", "log_env_network", "log_git_metadata", "log_git_patch", "log_graph", "name",
        "offline_directory", "parse_args", "tags",
    ]
)  # fmt: skip
"""The arguments of ``comet_ml.ExperimentConfig``."""

DEPRECATED = {
    "experiment_name": "name",
    "offline": "online",
    "project_name": "project",
    "save_dir": "offline_directory",
}
"""Old name → new name of an argument."""

MODES = ("get_or_create", "get", "create")
_KEY = re.compile("[0-9A-Za-z]{32,50}")
_NO_PROJECT = "default"  # what a Run belongs to that was given none


class Settings(NamedTuple):
    """What the user said of an experiment."""

    api_key: str | None = None
    workspace: str | None = None
    project: str | None = None
    experiment_key: str | None = None
    mode: str | None = None
    online: bool | None = None
    url: str | None = None
    config: Mapping[str, Any] = {}
    """Arguments of ``comet_ml.ExperimentConfig``."""

    @property
    def is_online(self) -> bool:
        """Whether the server is to get what is logged."""
        online = setting("start.online") if self.online is None else self.online
        return str(online).lower() not in ("false", "0", "no", "off", "f", "n")

    @property
    def is_disabled(self) -> bool:
        """Whether nobody is to get what is logged."""
        disabled = self.config.get("disabled")
        return bool(setting("auto_log.disable") in ("1", "true", "True") if disabled is None else disabled)

    def wants(self, *options: str) -> bool:
        """Return whether none of these options was switched off."""
        return all(self.config.get(option) not in (False, "False", "false") for option in options)

    def workspace_of_run(self) -> str | None:
        """Return the workspace; None for the user's own."""
        return self.workspace or setting("workspace")

    def project_of(self, run: RunInfo | None) -> str | None:
        """Return the project; None for the one that Comet takes."""
        if self.project or run is None:
            return self.project
        return (setting("project_name") or run.project) if run.project == _NO_PROJECT else run.project

    def key_of(self, run: RunInfo) -> str:
        """Return the experiment's key, by which every process finds the run: its id, if Comet can take that."""
        given = self.experiment_key or setting("experiment_key")
        if given:
            return given
        if _KEY.fullmatch(run.id):
            return run.id
        whose = "/".join([self.workspace_of_run() or "", self.project_of(run) or "", run.id])
        return hashlib.sha256(whose.encode()).hexdigest()[:32]


def renamed(options: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by their names of today, and say which names are old.

    Raises:
        ConfigError: ``offline`` is no truth value.
    """
    new = dict(options)
    for old, name in DEPRECATED.items():
        if old not in new:
            continue
        value = new.pop(old)
        if old == "offline":
            value = not _truth(old, value)
        if new.get(name) is not None:
            rank_zero_warn(f"CometLogger got {name!r} and its old name {old!r}; {name!r} counts", stacklevel=4)
        else:
            instead = f"online={value}" if old == "offline" else f"{name}=..."
            rank_zero_warn(f"CometLogger calls {old!r} now {name!r}: write {instead}", FutureWarning, stacklevel=4)
            new[name] = value
    return new


def check(settings: Settings) -> None:
    """Raise if Comet would never take what the user said, as far as that can be known without its client.

    Raises:
        ConfigError: the message says what is wrong.
    """
    unknown = sorted(set(settings.config) - OPTIONS)
    if unknown:
        known = OPTIONS.union(Settings._fields, ("prefix", "log_model")) - {"config"}
        raise ConfigError(
            f"CometLogger takes no argument {unknown[0]!r}.{did_you_mean(unknown[0], known)} "
            f"It takes: {', '.join(sorted(known))}"
        )
    _check_choice("mode", settings.mode, MODES)
    if settings.online is not None:
        _truth("online", settings.online)
    for name in ("api_key", "workspace", "project", "url"):
        value = getattr(settings, name)
        if not isinstance(value, str | None) or value == "":
            shown = "" if name == "api_key" else f", not {value!r}"
            raise ConfigError(f"{name} is a text{shown}")
    if settings.experiment_key is not None and not _KEY.fullmatch(str(settings.experiment_key)):
        raise ConfigError(
            f"Comet takes no experiment_key {settings.experiment_key!r}: it is 32 to 50 letters and digits"
        )
    if settings.mode == "get" and not (settings.experiment_key or setting("experiment_key")):
        raise ConfigError('mode="get" goes on with an experiment: say which with experiment_key=...')
    tags = settings.config.get("tags")
    if tags is not None and (isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags)):
        raise ConfigError(f'tags are a list of texts, ["baseline"], not {tags!r}')


def fixed_options(settings: Settings) -> dict[str, Any]:
    """Return what the environment and Comet's files decide, so that every process finds the same experiment."""
    found = {
        "workspace": setting("workspace"),
        "experiment_key": setting("experiment_key"),
        "url": setting("url_override"),
        "online": None if settings.is_online else False,
        "name": setting("start.experiment_name"),
    }
    return {name: value for name, value in found.items() if value is not None and not _is_given(settings, name)}


def _is_given(settings: Settings, name: str) -> bool:
    return (settings.config.get(name) if name in OPTIONS else getattr(settings, name)) is not None


def use_url(settings: Settings) -> None:
    """Have Comet's client talk to the server that the user named: it knows one for the whole process."""
    if settings.url is not None:
        os.environ["COMET_URL_OVERRIDE"] = settings.url


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is True or False, not {value!r}")
    return value


def _check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    if value is not None and value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ConfigError(f"{name} is one of {listed}, not {value!r}.{did_you_mean(str(value), choices)}")
