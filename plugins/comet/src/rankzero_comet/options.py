"""The options of `CometLogger`: its arguments, environment variables and files ``.comet.config``.

They are read without Comet's client, whose import takes two seconds.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.login import Login
from rankzero.loggers.options import Option, Options, check_option
from rankzero.rank import rank_zero_warn

EXPERIMENT_CONFIG = (
    Option("name", variable="COMET_START_EXPERIMENT_NAME", kept=True),
    Option("offline_directory", variable="COMET_OFFLINE_DIRECTORY", local=True),
    Option("disabled", bool, variable="COMET_AUTO_LOG_DISABLE", kept=True),
    Option("auto_output_logging", variable="COMET_AUTO_LOG_OUTPUT_LOGGER", kept=True),
    *(
        Option(f"log_{what}", bool, variable=f"COMET_AUTO_LOG_{what.upper()}", kept=True)
        for what in ("code", "env_details", "env_host", "git_metadata", "git_patch")
    ),
    *(Option(f"log_env_{what}", bool) for what in ("cpu", "disk", "gpu", "network")),
    *(Option(name, bool) for name in ("auto_log_co2", "log_graph", "parse_args")),
    *(Option(f"auto_histogram_{what}_logging") for what in ("activation", "gradient", "tensorboard", "weight")),
    *map(Option, ("auto_histogram_epoch_rate", "auto_metric_logging", "auto_metric_step_rate", "auto_param_logging")),
    *map(Option, ("display_summary_level", "distributed_node_identifier", "tags")),
)
"""The arguments of ``comet_ml.ExperimentConfig``."""

DEPRECATED = {
    "experiment_name": "name",
    "offline": "online",
    "project_name": "project",
    "save_dir": "offline_directory",
}
"""Old name → new name of an argument."""

_NO = ("false", "0", "no", "off", "f", "n")
_KEY = re.compile("[0-9A-Za-z]{32,50}")
_CONFIG_FILE = ".comet.config"
_HOSTED = "https://www.comet.com/clientlib/"
_LOGIN = Login(
    tracker="Comet",
    key="API key",
    how="run `comet login`, or set COMET_API_KEY",
    offline="online=False",
    path="/api/rest/v2/account-details",
    headers=lambda key: {"Authorization": key},
)


class CometOptions(Options):
    """The options of `CometLogger`."""

    table = (
        Option("api_key", str, variable="COMET_API_KEY", local=True, secret=True),
        Option("workspace", str, variable="COMET_WORKSPACE", kept=True),
        Option("project", str),
        Option("experiment_key", variable="COMET_EXPERIMENT_KEY", kept=True),
        Option("mode", choices=("get_or_create", "get", "create"), variable="COMET_START_MODE", kept=True),
        Option("online", bool, variable="COMET_START_ONLINE", kept=True),
        Option("url", str, variable="COMET_URL_OVERRIDE", kept=True, local=True),
        Option("environment"),
        *EXPERIMENT_CONFIG,
    )
    kept_variables = ("COMET_PROJECT_NAME",)

    def lookup(self, variable: str) -> str | None:
        """Return a variable's value from the environment or a file ``.comet.config``, in the order of Comet's client.

        In a file ``COMET_START_ONLINE`` is ``online`` in ``[comet.start]``, or ``start_online`` in ``[comet]``.
        """
        if value := os.environ.get(variable):
            return value
        for path in _config_files():
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            with suppress(configparser.Error, OSError, ValueError):
                parser.read(path, encoding="utf-8")
            for section in parser.sections():
                for option, value in parser.items(section):
                    if value and f"{section}_{option}".replace(".", "_") == variable.lower():
                        return value
        return None

    def check(self, logger: str, others: Iterable[str] = ()) -> None:
        super().check(logger, others)
        for name in ("api_key", "workspace", "project", "url"):
            if self.given.get(name) == "":
                raise ConfigError(f"{name} is empty")
        url, key, tags = self["url"], self["experiment_key"], self["tags"]
        if url is not None and not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"url must be the URL of a Comet server, as https://comet.example.com/clientlib/, not {url!r}"
            )
        if key is not None and not _KEY.fullmatch(str(key)):
            source = "experiment_key" if "experiment_key" in self.given else "COMET_EXPERIMENT_KEY"
            raise ConfigError(f"Comet does not accept the {source} {key!r}: use 32 to 50 letters and digits")
        if self["mode"] == "get" and not key:
            raise ConfigError('mode="get" continues an experiment: set its key with experiment_key=...')
        if tags is not None and (isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags)):
            raise ConfigError(f'tags must be a list of texts, as in ["baseline"], not {tags!r}')

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of ``comet_ml.ExperimentConfig`` that were given."""
        names = {option.name for option in EXPERIMENT_CONFIG}
        return {name: value for name, value in self.given.items() if name in names}

    def allows(self, name: str) -> bool:
        """Return whether an option such as ``online`` or ``log_code`` is on, which is the default."""
        return str(self[name]).lower() not in _NO

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is sent, now or later."""
        return self["disabled"] is not None and self.allows("disabled")

    @property
    def sends(self) -> bool:
        """Whether data is sent to Comet's server now."""
        return self.allows("online") and not self.is_disabled

    def project_of(self, run: RunInfo) -> str:
        """Return the project of a run."""
        return self["project"] or run.chosen_project or self.variable("COMET_PROJECT_NAME") or run.project

    def key_of(self, run: RunInfo) -> str:
        """Return the experiment's key, the same in every process: the run's id, if Comet accepts it."""
        if self["experiment_key"] or _KEY.fullmatch(run.id):
            return self["experiment_key"] or run.id
        identity = "/".join([self["workspace"] or "", self.project_of(run), run.id])
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def check_login(self) -> None:
        """Raise `ConfigError` if there is no API key, or Comet refuses it."""
        key = _LOGIN.require(self["api_key"] or _key_known_to_client())
        server = urlsplit(self["url"] or _url_in(key) or _HOSTED)
        _LOGIN.check(f"{server.scheme}://{server.netloc}", key)


def renamed(options: dict[str, Any]) -> dict[str, Any]:
    """Replace deprecated names of arguments, with a warning.

    Raises:
        ConfigError: ``offline`` is not True or False.
    """
    new = dict(options)
    for old, name in DEPRECATED.items():
        if old not in new:
            continue
        value = new.pop(old)
        if old == "offline":
            check_option(Option("offline", bool), value)
            value = not value
        if new.get(name) is not None:
            rank_zero_warn(f"CometLogger got {name!r} and its old name {old!r}; {name!r} is used", stacklevel=4)
        else:
            instead = f"online={value}" if old == "offline" else f"{name}=..."
            rank_zero_warn(
                f"CometLogger's argument {old!r} is now called {name!r}: write {instead}", FutureWarning, stacklevel=4
            )
            new[name] = value
    return new


def _config_files() -> Iterator[Path]:
    if named := os.environ.get("COMET_INI") or os.environ.get("COMET_CONFIG"):
        path = Path(named).expanduser()
        yield path / _CONFIG_FILE if path.is_dir() else path
    yield Path(_CONFIG_FILE)
    yield Path.home() / _CONFIG_FILE


def load_sdk() -> Any:
    """Import ``comet_ml`` and return it; it takes two seconds the first time."""
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")  # or the client would patch torch, Keras and others
    import comet_ml

    return comet_ml


def _url_in(key: str) -> str | None:
    """Return the server's URL in an API key, where Comet may append it as JSON in base64; None if there is none."""
    with suppress(ValueError, AttributeError):
        encoded = key.split("*")[1] if "*" in key else ""
        url = json.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4))).get("baseUrl")
        return str(url) if url else None
    return None


def _key_known_to_client() -> str | None:
    """Return the API key that Comet's client finds elsewhere: a file ``.env``, Google Colab, secret managers."""
    load_sdk()
    from comet_ml.config import get_api_key, get_config

    return get_api_key(None, get_config()) or None
