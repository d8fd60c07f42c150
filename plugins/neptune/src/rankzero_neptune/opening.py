"""How a courier opens the Neptune run of a rankzero run, and what it keeps in a new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rankzero.capture.environment import read_environment
from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero_neptune import operations
from rankzero_neptune.backend import Backend
from rankzero_neptune.settings import Settings
from rankzero_neptune.training_process import told

MARK = "rankzero/run_id"
"""Where the id of the rankzero run stands."""
NAME, FAILED = "sys/name", "sys/failed"

_DESCRIPTION, _TAGS = "sys/description", "sys/tags"
_ENVIRONMENT_TIMEOUT = 10.0  # seconds to wait for the environment


def connect(settings: Settings, run: RunInfo) -> Backend:
    """Find the run in Neptune, or make it.

    Raises:
        ConfigError: nobody said where it is to be.
        DeliveryError: see `Backend`.
    """
    if not (settings.api_key or os.environ.get("NEPTUNE_API_TOKEN")):
        raise ConfigError("not logged in to Neptune: set NEPTUNE_API_TOKEN to a token of your server")
    project = settings.qualified_project
    if project is None:
        raise ConfigError("the Neptune project is not set: set NEPTUNE_PROJECT")
    return Backend(
        settings.api_key,
        project,
        settings.init.get("proxies"),
        with_id=settings.init.get("with_id"),
        custom_id=settings.custom_id(run),
    )


def first_operations(settings: Settings, run: RunInfo) -> list[Any]:
    """Return what to keep in a run that has nothing from this rankzero run yet."""
    is_ours = not settings.init.get("with_id")
    said = {
        MARK: run.id,
        NAME: settings.name or (run.name if is_ours else None),
        _DESCRIPTION: settings.init.get("description") or run.notes,
        FAILED: False if is_ours else None,
    }
    found = told(read_environment(run.dir, _ENVIRONMENT_TIMEOUT), run.dir, settings.init)
    made = [operations.assign(path, value) for path, value in {**said, **found.texts}.items() if value is not None]
    made += [operations.upload(path, file, extension(file)) for path, file in found.files.items()]
    tags = {*settings.tags, *run.tags}
    return [*made, operations.add_strings(_TAGS, tags)] if tags else made


def extension(file: str) -> str:
    """Return what a file's name ends with, as Neptune wants it."""
    return Path(file).suffix.removeprefix(".")
