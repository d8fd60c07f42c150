"""What the user said of an experiment: arguments of the logger, and Comet's own settings."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.messages import did_you_mean
from rankzero.rank import rank_zero_warn
from rankzero_comet.config_files import is_no, setting, variable

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
KEPT = (
    "auto_log.code", "auto_log.disable", "auto_log.env_details", "auto_log.env_host", "auto_log.git_metadata",
    "auto_log.git_patch", "auto_log.output_logger", "experiment_key", "project_name", "start.experiment_name",
    "start.mode", "start.online", "url_override", "workspace",
)  # fmt: skip
"""Comet's settings that are kept with a run."""

_ALSO_OF_WHO_SYNCS = "url_override"  # where nothing is known of the server, as on a node without login
_SETTING_OF = {
    "auto_output_logging": "auto_log.output_logger",
    **{f"log_{name}": f"auto_log.{name}" for name in ("code", "env_details", "env_host", "git_metadata", "git_patch")},
}
_TRUTHS = tuple(
    sorted(name for name in OPTIONS if name.startswith("log_") or name in ("disabled", "auto_log_co2", "parse_args"))
)
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
    environment: Mapping[str, str] | None = None
    """Variables of the training process; None for those of this one, and Comet's files."""
    config: Mapping[str, Any] = MappingProxyType({})
    """Arguments of ``comet_ml.ExperimentConfig``."""

    def setting(self, name: str) -> str | None:
        """Return one of Comet's settings (see `KEPT`); None if it is not set."""
        if self.environment is None:
            return setting(name)
        return self.environment.get(variable(name)) or (setting(name) if name == _ALSO_OF_WHO_SYNCS else None)

    @property
    def is_online(self) -> bool:
        """Whether the server is to get what is logged."""
        return not is_no(self.setting("start.online") if self.online is None else self.online)

    @property
    def is_disabled(self) -> bool:
        """Whether nobody is to get what is logged."""
        disabled = self.config.get("disabled")
        return not is_no(self.setting("auto_log.disable") or False) if disabled is None else bool(disabled)

    def wants(self, option: str) -> bool:
        """Return whether what Comet finds out by itself is wanted, such as ``log_code``."""
        given = self.config.get(option)
        return not is_no(self.setting(_SETTING_OF[option]) if given is None else given)

    @property
    def server_url(self) -> str | None:
        """The server; None for the hosted service, or the one that the key names."""
        return self.url or self.setting("url_override")

    @property
    def known_key(self) -> str | None:
        """The key of the experiment, if the user said one."""
        return self.experiment_key or self.setting("experiment_key")

    @property
    def real_mode(self) -> str | None:
        """How the experiment is to be begun; None for Comet's default."""
        return self.mode or self.setting("start.mode")

    @property
    def name(self) -> str | None:
        """What the experiment is called, if the user said it here."""
        return self.config.get("name") or self.setting("start.experiment_name")

    @property
    def offline_directory(self) -> str | None:
        """Where Comet's client writes the archive of an experiment that stays offline; None for its default."""
        given = self.config.get("offline_directory")
        return setting("offline_directory") if given is None else os.fspath(given)

    def workspace_of_run(self) -> str | None:
        """Return the workspace; None for the user's own."""
        return self.workspace or self.setting("workspace")

    def project_of(self, run: RunInfo | None) -> str | None:
        """Return the project; None for the one that Comet takes."""
        if self.project or run is None:
            return self.project
        return (self.setting("project_name") or run.project) if run.project == _NO_PROJECT else run.project

    def key_of(self, run: RunInfo) -> str:
        """Return the experiment's key, by which every process finds the run: its id, if Comet can take that."""
        if self.known_key:
            return self.known_key
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
    for name, value in {"online": settings.online, **settings.config}.items():
        if value is not None and name in ("online", *_TRUTHS):
            _truth(name, value)
    for name in ("api_key", "workspace", "project", "url"):
        value = getattr(settings, name)
        if not isinstance(value, str | None) or value == "":
            shown = "" if name == "api_key" else f", not {value!r}"
            raise ConfigError(f"{name} is a text{shown}")
    url = settings.server_url
    if url is not None and not url.startswith(("http://", "https://")):
        raise ConfigError(f"Comet's server is a URL, https://comet.example.com/clientlib/, not {url!r}")
    key = settings.known_key
    if key is not None and not _KEY.fullmatch(str(key)):
        where = "experiment_key" if settings.experiment_key else "COMET_EXPERIMENT_KEY"
        raise ConfigError(f"Comet takes no {where} {key!r}: it is 32 to 50 letters and digits")
    if settings.real_mode == "get" and not key:
        raise ConfigError('mode="get" goes on with an experiment: say which with experiment_key=...')
    tags = settings.config.get("tags")
    if tags is not None and (isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags)):
        raise ConfigError(f'tags are a list of texts, ["baseline"], not {tags!r}')


def resolved_options(settings: Settings) -> dict[str, Any]:
    """Return what the environment and Comet's files decide, so that every process finds the same experiment."""
    return {"environment": {variable(name): value for name in KEPT if (value := settings.setting(name))}}


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
