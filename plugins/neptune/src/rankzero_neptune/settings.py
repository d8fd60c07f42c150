"""What the user said of a run: arguments of the logger, and Neptune's environment variables."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.messages import did_you_mean

_MODES = ("async", "sync", "offline", "debug", "read-only")
_LONGEST_ID = 36  # characters; Neptune's client leaves out one that is longer
_MONITORING = "monitoring/training"
_IDS = ("with_id", "custom_run_id")
INIT_OPTIONS = frozenset([
    "async_lag_callback", "async_lag_threshold", "async_no_progress_callback", "async_no_progress_threshold",
    "capture_hardware_metrics", "capture_stderr", "capture_stdout", "capture_traceback", "custom_run_id",
    "dependencies", "description", "fail_on_exception", "flush_period", "git_ref", "mode", "monitoring_namespace",
    "proxies", "source_files", "tags", "with_id",
])  # fmt: skip
"""Further arguments of ``neptune.init_run``."""


class Settings(NamedTuple):
    """What the user said of a run."""

    api_key: str | None
    project: str | None
    name: str | None
    init: Mapping[str, Any]
    """Further arguments of ``neptune.init_run``."""

    @property
    def mode(self) -> str:
        """One of ``async``, ``sync``, ``offline``, ``debug`` and ``read-only``."""
        return self.init.get("mode") or os.environ.get("NEPTUNE_MODE") or "async"

    @property
    def is_offline(self) -> bool:
        """Whether nothing is sent to Neptune for now."""
        return self.mode == "offline"

    @property
    def qualified_project(self) -> str | None:
        """Neptune's name of the project, ``workspace/name``; None if nobody said it."""
        return self.project or os.environ.get("NEPTUNE_PROJECT") or None

    @property
    def tags(self) -> list[str]:
        """Tags of the run."""
        return list(self.init.get("tags") or [])

    @property
    def monitoring_namespace(self) -> str:
        """Where the output of the training process is kept."""
        given = self.init.get("monitoring_namespace") or os.environ.get("NEPTUNE_MONITORING_NAMESPACE")
        return str(given or _MONITORING)

    def captures(self, stream: str) -> bool:
        """Return whether Neptune is to have what the training process writes to ``stdout`` or ``stderr``."""
        return self.init.get(f"capture_{stream}") is not False

    def custom_id(self, run: RunInfo) -> str:
        """Return the id under which the run of a rankzero run is found in Neptune."""
        wished = self.init.get("custom_run_id") or os.environ.get("NEPTUNE_CUSTOM_RUN_ID") or run.id
        if len(wished) <= _LONGEST_ID:
            return str(wished)
        return hashlib.sha256(wished.encode()).hexdigest()[:_LONGEST_ID]

    def online(self) -> Settings:
        """Return the same for a run that is delivered now."""
        return self._replace(init={**self.init, "mode": "async"})

    def without_ids(self) -> Settings:
        """Return the same without what says which run is to be continued."""
        return self._replace(init={name: value for name, value in self.init.items() if name not in _IDS})


def check(settings: Settings, known: frozenset[str]) -> None:
    """Raise if Neptune's client would never take what the user said.

    Args:
        settings: what was said.
        known: the names of all arguments.

    Raises:
        ConfigError: the message says what is wrong.
    """
    init = settings.init
    if unknown := sorted(set(init) - INIT_OPTIONS):
        raise ConfigError(
            f"NeptuneLogger takes no argument {unknown[0]!r}.{did_you_mean(unknown[0], known)} "
            f"It takes: {', '.join(sorted(known))}"
        )
    if settings.mode not in _MODES:
        listed = ", ".join(map(repr, _MODES))
        raise ConfigError(f"mode is one of {listed}, not {settings.mode!r}.{did_you_mean(str(settings.mode), _MODES)}")
    if settings.mode == "read-only":
        raise ConfigError('mode="read-only" is for reading, and a logger writes: use neptune.init_run for that')
    texts = {"api_key": settings.api_key, "project": settings.project, "name": settings.name}
    texts |= {name: init.get(name) for name in (*_IDS, "description", "monitoring_namespace")}
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise ConfigError(f"{name} is a text, not {value!r}")
    if init.get("with_id") and init.get("custom_run_id"):
        raise ConfigError("with_id and custom_run_id both say which run is to be continued; give one of them")
    if not all(isinstance(tag, str) for tag in settings.tags):
        raise ConfigError(f"tags are texts, not {init['tags']!r}")


def check_run(run: Any, others: Mapping[str, Any]) -> None:
    """Raise if what the user gave is no run of Neptune's client, or another argument says the same.

    Args:
        run: a ``neptune.Run``, or a namespace of one.
        others: the other arguments that say which run is meant.

    Raises:
        ConfigError: the message says what is wrong.
    """
    given = sorted(name for name, value in others.items() if value is not None)
    if given:
        raise ConfigError(
            f"with run=... no other argument says which run to log to; leave out {', '.join(given)}, or let the logger "
            "open a run with them"
        )
    if not hasattr(run, "get_root_object"):
        raise ConfigError(f"run is what neptune.init_run returns, or a namespace of it, not {run!r}")


def resolved_options(settings: Settings) -> dict[str, Any]:
    """Return the constructor's arguments for what the environment decides."""
    variables = {"project": "NEPTUNE_PROJECT", "mode": "NEPTUNE_MODE", "custom_run_id": "NEPTUNE_CUSTOM_RUN_ID"}
    given = {"project": settings.project, **settings.init}
    return {name: os.environ[key] for name, key in variables.items() if os.environ.get(key) and not given.get(name)}
