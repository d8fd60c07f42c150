"""The options of `NeptuneLogger`, and the login check."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.login import Login
from rankzero.loggers.options import Option, Options, check_option

END_OF_SERVICE = (
    "Neptune's hosted service (neptune.ai) ended on 5 March 2026, and its data was deleted. Set NEPTUNE_API_TOKEN "
    "to a token of a server with the same API (self-hosted Neptune, Minfx), or use another tracker; runs that "
    "were never synced can be rescued with `rankzero import neptune`"
)
"""What happened, and what to do."""

HARDWARE = "hardware_metrics"

_MODE = Option("mode", choices=("async", "sync", "offline", "debug"), variable="NEPTUNE_MODE", kept=True)
_LONGEST_ID = 36  # characters; Neptune's client ignores a longer id
_LOGIN = Login(
    tracker="Neptune",
    key="API token",
    how="set NEPTUNE_API_TOKEN to a token of your server",
    offline='mode="offline"',
    path="/api/backend/v1/authorization/oauth-token",
    headers=lambda token: {"X-Neptune-Api-Token": token},
    note=END_OF_SERVICE,
)


class NeptuneOptions(Options):
    """The arguments of ``neptune.init_run``, and the environment variables of Neptune's client."""

    table = (
        Option("api_key", str, variable="NEPTUNE_API_TOKEN", secret=True),
        Option("project", str, variable="NEPTUNE_PROJECT", kept=True),
        _MODE,
        Option("with_id", str),
        Option("custom_run_id", str, variable="NEPTUNE_CUSTOM_RUN_ID", kept=True),
        Option("monitoring_namespace", str, variable="NEPTUNE_MONITORING_NAMESPACE"),
        Option("proxies", secret=True),
        *map(Option, ("tags", "dependencies", "source_files", "git_ref", "fail_on_exception", "flush_period")),
        *(Option(name, str) for name in ("name", "description")),
        *map(Option, ("capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback")),
        *(Option(f"async_{what}_{part}") for what in ("lag", "no_progress") for part in ("callback", "threshold")),
    )

    def check(self, logger: str, others: Iterable[str] = ()) -> None:
        if self["mode"] == "read-only":
            raise ConfigError(
                'mode="read-only" does not work, because a logger writes; to read a run, use neptune.init_run'
            )
        super().check(logger, ("log_model_checkpoints", "prefix", "run"))
        check_option(_MODE, self.mode)
        if self.given.get("with_id") and self.given.get("custom_run_id"):
            raise ConfigError("with_id and custom_run_id both name the run to continue; use only one of them")
        if not all(isinstance(tag, str) for tag in self["tags"] or ()):
            raise ConfigError(f"tags must be texts, not {self['tags']!r}")

    @property
    def token(self) -> str:
        """The API token; raises `ConfigError` if there is none."""
        return _LOGIN.require((self["api_key"] or "").strip())

    @property
    def project(self) -> str:
        """Neptune's project; raises `ConfigError` if it is not set."""
        if self["project"]:
            return str(self["project"])
        raise ConfigError(
            "the Neptune project is not set (the project of the Run is another): set NEPTUNE_PROJECT, "
            'or start({"neptune": {"project": "WORKSPACE/NAME"}}); it must exist on the server'
        )

    @property
    def mode(self) -> str:
        """``async``, ``sync``, ``offline`` or ``debug``."""
        return self["mode"] or "async"

    @property
    def monitoring_namespace(self) -> str:
        """The namespace of console output and system metrics."""
        return self["monitoring_namespace"] or "monitoring/training"

    def captures(self, what: str) -> bool:
        """Return whether ``stdout``, ``stderr`` or `HARDWARE` of the training process are sent."""
        return self[f"capture_{what}"] is not False

    def custom_id(self, run: RunInfo) -> str:
        """Return the id in Neptune by which a rankzero run's run is found."""
        wanted: str = self["custom_run_id"] or run.id
        return wanted if len(wanted) <= _LONGEST_ID else hashlib.sha256(wanted.encode()).hexdigest()[:_LONGEST_ID]

    def init_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``neptune.init_run`` that were given."""
        return {"api_token" if name == "api_key" else name: value for name, value in self.given.items()}


# Login


def check_login(token: str) -> None:
    """Check that a server accepts its API token.

    Raises:
        ConfigError: it does not, or the token is for the hosted service.
    """
    url = server_of(token)
    if is_hosted(url):
        raise ConfigError(f"the API token is for {urlsplit(url).netloc}. {END_OF_SERVICE}")
    _LOGIN.check(url, token)


def server_of(token: str) -> str:
    """Return the URL of the server that a token is for.

    Raises:
        ConfigError: it is not a token.
    """
    if token == "ANONYMOUS":
        return "https://app.neptune.ai"
    try:
        content = json.loads(base64.b64decode(token.encode()))
        url = content.get("api_url") or content["api_address"]
        if urlsplit(url).netloc:
            return str(url)
        raise ValueError(url)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError(
            "the Neptune API token is invalid, because it contains no server; copy the long text from the server's "
            "user menu (Get your API token) to NEPTUNE_API_TOKEN or api_key"
        ) from None


def is_hosted(url: str) -> bool:
    """Return whether a server's URL is that of the service that has ended."""
    host = urlsplit(url).hostname or ""
    return host == "neptune.ai" or host.endswith(".neptune.ai")
