"""The options of `WandbLogger`: arguments, environment variables, W&B's settings files; and the login check.

The check reads the API key from the environment or ``.netrc`` itself, because importing W&B's client takes as long as
`rankzero.start`. The client is imported only if the key is in neither.
"""

from __future__ import annotations

import base64
import configparser
import netrc
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.login import Login
from rankzero.loggers.options import Option, Options

_OFFLINE = ("offline", "dryrun")
_UNUSABLE = re.compile(r"[/\\#?%:]")
_LONGEST_TAG = 64
_DIRECT_PROJECT = "lightning_logs"  # in direct use, as with Lightning's logger
_SETTINGS_OF_FILES = {"WANDB_BASE_URL": "base_url", "WANDB_ENTITY": "entity"}
"""Environment variable → the setting in W&B's settings files with the same meaning."""

_ONLY_FOR_INIT = (
    "allow_val_change", "config", "force", "fork_from", "monitor_gym", "reinit", "resume_from", "settings",
    "sync_tensorboard", "tensorboard",
)  # fmt: skip
INIT_ARGUMENTS = frozenset((*_ONLY_FOR_INIT, "entity", "group", "job_type", "notes", "resume", "save_code", "tags"))
"""Arguments that are passed to ``wandb.init`` unchanged."""


class WandbOptions(Options):
    """The options of `WandbLogger`, from its arguments, environment variables and W&B's settings files."""

    table = (
        Option("project", str, variable="WANDB_PROJECT", early=True, kept=True),  # each logger may have its own
        Option("id", str, variable="WANDB_RUN_ID", kept=True),
        Option("name", variable="WANDB_NAME", kept=True),
        Option("entity", str, variable="WANDB_ENTITY", kept=True),
        Option("group", str, variable="WANDB_RUN_GROUP", kept=True),
        Option("job_type", str, variable="WANDB_JOB_TYPE", kept=True),
        Option("notes", str, variable="WANDB_NOTES", kept=True),
        Option("tags", variable="WANDB_TAGS", kept=True),
        Option("mode", choices=("online", *_OFFLINE, "disabled", "shared"), variable="WANDB_MODE", kept=True),
        Option("base_url", variable="WANDB_BASE_URL", kept=True, local=True),
        Option("save_code", variable="WANDB_SAVE_CODE", kept=True),
        Option("save_dir", variable="WANDB_DIR", local=True),
        Option("offline", bool),
        Option("rewind", bool),
        Option("resume", choices=("allow", "never", "must", "auto", True, False)),
        Option("add_file_policy", choices=("mutable", "immutable")),
        *map(Option, ("anonymous", "checkpoint_name", "dir", "environment", "experiment", "version")),
        *map(Option, _ONLY_FOR_INIT),
    )
    kept_variables = ("WANDB_CONSOLE", "WANDB_DISABLE_CODE", "WANDB_DISABLE_GIT", "WANDB_SWEEP_ID")

    @classmethod
    def names(cls) -> frozenset[str]:
        return super().names() - {"base_url"}  # as an argument it is in `settings`

    def check(self, logger: str, others: Iterable[str] = ()) -> None:
        super().check(logger, others)
        for name in ("project", "id"):
            value = self.given.get(name)
            if value is not None and (value == "" or _UNUSABLE.search(value)):
                raise ConfigError(f"W&B does not accept the {name} {value!r}: use a text without any of / \\ # ? % :")
        for tag in self.given.get("tags", ()):
            if not isinstance(tag, str) or not 1 <= len(tag) <= _LONGEST_TAG:
                raise ConfigError(f"W&B does not accept the tag {tag!r}: use a text of 1 to {_LONGEST_TAG} characters")
        settings = self.given.get("settings", {})
        if not isinstance(settings, Mapping) and not hasattr(settings, "model_fields_set"):
            raise ConfigError(f"settings must be a dictionary or a wandb.Settings, not {settings!r}")

    def check_settings(self) -> None:
        """Check the user's settings with W&B's client, which is imported only if there are any.

        Raises:
            ConfigError: the client does not accept them.
        """
        if not self.settings:
            return
        import wandb

        try:
            wandb.Settings(**self.settings)
        except ValueError as error:
            problems = [
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in getattr(error, "errors", list)()
            ]
            raise ConfigError(f"wandb.Settings does not accept the settings: {'; '.join(problems)}") from None

    def lookup(self, variable: str) -> str | None:
        setting = _SETTINGS_OF_FILES.get(variable)
        return super().lookup(variable) or (_setting_from_files(setting) if setting else None)

    def resolved(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        with suppress(Exception):  # W&B's client reports what is wrong with the file
            config = sweep_parameters()
        return {**super().resolved(), **({"config": config} if config else {})}

    @contextmanager
    def hiding_variables(self) -> Iterator[None]:
        """Hide variables of this process from W&B's client, if those of the training process are known."""
        kept = {option.variable for option in self.table if option.kept and not option.local} | {*self.kept_variables}
        names = kept if "environment" in self.given else set()
        hidden = {name: os.environ.pop(name) for name in names if name is not None and name in os.environ}
        try:
            yield
        finally:
            os.environ.update(hidden)

    @property
    def init(self) -> dict[str, Any]:
        """The user's arguments for ``wandb.init``."""
        return {name: value for name, value in self.given.items() if name in INIT_ARGUMENTS}

    @property
    def settings(self) -> dict[str, Any]:
        """The user's settings for W&B's client."""
        given = self.given.get("settings", {})
        if isinstance(given, Mapping):
            return dict(given)
        return {name: getattr(given, name) for name in given.model_fields_set}

    def value_of(self, name: str, setting: str | None = None) -> Any:
        """Return an argument; if not given, the setting of W&B's client, or else the environment variable."""
        return self.given.get(name) or self.settings.get(setting or name) or self[name]

    @property
    def sends_console(self) -> bool:
        """Whether the console output of training is sent to W&B."""
        return (self.settings.get("console") or self.variable("WANDB_CONSOLE")) != "off"

    def allows(self, what: str) -> bool:
        """Return whether ``code`` or the state of ``git`` may be sent to W&B."""
        value = self.settings.get(f"disable_{what}", self.variable(f"WANDB_DISABLE_{what.upper()}") or False)
        return str(value).lower() in ("false", "0", "no", "off")

    @property
    def mode(self) -> str:
        """``online``, ``offline``, ``disabled`` or ``shared``."""
        mode = str(self.value_of("mode") or "online")
        return "offline" if mode in _OFFLINE else mode

    def project_of(self, run: RunInfo | None) -> str:
        """Return the project."""
        given: str | None = self.given.get("project") or self.settings.get("project")
        chosen, default = (None, _DIRECT_PROJECT) if run is None else (run.chosen_project, run.project)
        return given or chosen or self.variable("WANDB_PROJECT") or default

    def id_of(self, run: RunInfo | None) -> str | None:
        """Return W&B's id of the run; None if W&B generates it."""
        return self.value_of("id", "run_id") or (run.id if run is not None else None)

    def directory_of(self, run: RunInfo | None) -> str:
        """Return the directory in which W&B's client creates ``wandb``."""
        own = run.dir if run is not None else "."
        return os.path.expanduser(os.path.expandvars(self["save_dir"] or own))


def sweep_parameters() -> dict[str, Any]:
    """Return the parameters that a W&B sweep agent has chosen for this process; an empty dictionary without an agent.

    With `rankzero.start` this replaces ``wandb.config``. A script that gets the parameters on its command line does not
    need it.
    """
    path = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if not path:
        return {}
    import yaml

    with open(path, encoding="utf-8") as file:
        parameters = yaml.safe_load(file)
    return {name: each["value"] for name, each in parameters.items() if isinstance(each, dict) and "value" in each}


# The login

_HOSTED = ("https://api.forge.coreweave.com", "https://api.wandb.ai")  # W&B's own; the first is the client's default
_SHORTEST_KEY = 40
_QUERY = "query Viewer { viewer { id } }"
_QUERY_WITH_ENTITY = "query Viewer($entity: String!) { viewer { id } entity(name: $entity) { id } }"


_LOGIN = Login(
    tracker="W&B",
    key="API key",
    how="run `wandb login`, or set WANDB_API_KEY",
    offline="offline=True",
    path="/graphql",
    headers=lambda key: {
        "Authorization": f"Basic {base64.b64encode(f'api:{key}'.encode()).decode()}",
        "Content-Type": "application/json",
    },
    is_refusal=lambda answer: bool(answer["data"]) and answer["data"].get("viewer") is None,
)


def address_of(options: WandbOptions) -> str:
    """Return the URL of the server."""
    return str(options.value_of("base_url") or next(filter(_key_from_netrc, _HOSTED), _HOSTED[0]))


def check_login(options: WandbOptions) -> None:
    """Raise `ConfigError` if there is no API key, W&B refuses it, or the entity does not exist."""
    url = address_of(options)
    key = options.settings.get("api_key") or os.environ.get("WANDB_API_KEY") or _key_from_netrc(url)
    if key is None:
        import wandb

        is_real = wandb.__name__ == "wandb"  # not the module of rankzero.compat
        if is_real and (wandb.run is not None or wandb.login(prompt=False, verify=False)):
            return
    key = _LOGIN.require(key)
    _check_length(key)
    entity = options.value_of("entity")
    query = {"query": _QUERY_WITH_ENTITY, "variables": {"entity": entity}} if entity else {"query": _QUERY}
    answer = _LOGIN.check(url, key, {"variables": {}, **query})
    if entity and answer and answer["data"] and answer["data"].get("entity", entity) is None:
        raise ConfigError(
            f"{urlsplit(url).netloc} has no entity (account or team) {entity!r} that the user of the key may see; "
            "change entity=... or WANDB_ENTITY"
        )


def _check_length(key: str) -> None:
    """Raise `ConfigError` if the key is too short. Keys of private servers have a prefix; tokens contain dots."""
    secret = key.partition("-")[2] or key
    if len(secret) < _SHORTEST_KEY and "." not in key:
        raise ConfigError(
            f"an API key of W&B has at least {_SHORTEST_KEY} characters, but this one has {len(secret)}: {_LOGIN.how}"
        )


def _setting_from_files(name: str) -> str | None:
    """Return a setting from the files that ``wandb login --host`` and ``wandb init`` write; None if it is not set."""
    parser = configparser.ConfigParser(interpolation=None)
    own = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    with suppress(configparser.Error, OSError, ValueError):
        parser.read([Path(own, "settings"), Path(os.environ.get("WANDB_DIR", "."), "wandb", "settings")])
    return parser.get("default", name, fallback=None)


def _key_from_netrc(url: str) -> str | None:
    files = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for file in files:
        with suppress(OSError, netrc.NetrcParseError):
            if found := netrc.netrc(os.path.expanduser(file)).authenticators(urlsplit(url).netloc):
                return found[2]
    return None
