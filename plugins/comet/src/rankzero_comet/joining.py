"""Comet's own ``Experiment``: opened for a logger that is used directly, and for who wants the one of a Run."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rankzero_comet.failures import opening
from rankzero_comet.sdk import load_sdk
from rankzero_comet.session import CREATED_FROM
from rankzero_comet.settings import Settings, use_url

_OF_THE_COURIER = (
    "log_code", "log_graph", "log_git_metadata", "log_git_patch", "log_env_details", "auto_output_logging",
    "parse_args", "name", "tags",
)  # fmt: skip
_CLEANING = "COMET_TIMEOUT_CLEANING"
"""Seconds for which Comet's client holds a process that ends, when Comet does not answer: an hour if nobody sets it."""
_ours: weakref.WeakSet[Any] = weakref.WeakSet()
"""The experiments that loggers of this process have opened."""


def start(settings: Settings) -> Any:
    """Start an experiment, or go on with one, as ``comet_ml.start`` does with these arguments.

    Those that other loggers have opened go on: left to itself Comet's client would end them. If Comet does not let
    the experiment begin, it is one that takes everything and keeps nothing, whose ``alive`` is False.
    """
    load_sdk()
    import requests
    from comet_ml.exceptions import CometRestApiException, InvalidAPIKey

    config = dict(settings.config)
    try:
        return _start(settings, settings.experiment_key, settings.project, settings.mode, config)
    except (requests.RequestException, CometRestApiException, InvalidAPIKey):  # Comet's client has said it
        return _start(settings, None, settings.project, None, {**config, "disabled": True})


def join(settings: Settings, key: str, project: str | None) -> Any:
    """Open an experiment that a courier writes to; what Comet's client would find out of this process is left to it."""
    os.environ.setdefault(_CLEANING, "60")
    left = {name: False for name in _OF_THE_COURIER if name not in ("name", "tags")}
    config = {name: value for name, value in settings.config.items() if name not in _OF_THE_COURIER}
    with opening():
        return _start(settings, key, project, "get_or_create", {**config, **left})


def is_ours(experiment: Any) -> bool:
    """Return whether a logger has opened an experiment; otherwise the user has, and ends it."""
    return experiment in _ours


def _start(settings: Settings, key: str | None, project: str | None, mode: str | None, config: dict[str, Any]) -> Any:
    use_url(settings)
    comet_ml = load_sdk()
    open_already = next((each for each in _ours if key and each.get_key() == key and not each.ended), None)
    if open_already is not None and mode != "create":
        return open_already
    with _others_go_on(key):
        running = comet_ml.get_running_experiment()
        experiment = comet_ml.start(
            api_key=settings.api_key,
            workspace=settings.workspace,
            project_name=project,
            experiment_key=key,
            mode=mode,
            online=settings.online,
            experiment_config=comet_ml.ExperimentConfig(**config),
        )
    if experiment is not running:
        _ours.add(experiment)
        if not isinstance(experiment, comet_ml.ExistingExperiment):
            experiment.log_other("Created from", CREATED_FROM)
    return experiment


@contextmanager
def _others_go_on(key: str | None) -> Iterator[None]:
    """Hide an experiment that is not the one that is wanted from Comet's client, which has only one open at a time."""
    from comet_ml.config import get_global_experiment, set_global_experiment

    running = get_global_experiment()
    if running is not None and (running in _ours or (key and running.get_key() != key)):
        set_global_experiment(None)
    yield
