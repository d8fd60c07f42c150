"""Check the arguments of a Run's methods: what is wrong causes a warning, and is replaced."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from numbers import Real
from typing import Any

from rankzero.events.structs import DefineMetric, Params
from rankzero.loggers.summaries import GOALS, SUMMARIES
from rankzero.messages import OnceWarner, did_you_mean, warn_user
from rankzero.secrets import mask_params
from rankzero.values import flatten, to_int, to_json_number, to_jsonable, to_number

_ALERT_LEVELS = ("INFO", "WARN", "ERROR")
_LONGEST_TIMEOUT = 1e9  # seconds
_STATUSES = ("success", "finished", "failed", "aborted", "killed", "crashed")


def whole_step(step: Any, next_step: int, warner: OnceWarner) -> int:
    """Return the step of `Run.log_metrics` as a whole number; ``next_step`` if it is no number."""
    whole = to_int(step)
    used = next_step if whole is None else whole
    if whole is None or whole != to_number(step):
        given = type(step).__name__
        message = f"a step of run.log_metrics() is not a whole number, or too large ({given}): {used} is logged"
        warner.warn("step", message)
    return used


def hyperparams(params: Any, metrics: Mapping[str, Any] | float | None) -> Params:
    """Return the event of `Run.log_hyperparams`, with secrets masked.

    Raises:
        TypeError: the hyperparameters are not a mapping.
    """
    values = to_jsonable(params if params is not None else {})
    if not isinstance(values, dict):
        raise TypeError(f"hyperparameters are a mapping, not {type(params).__name__}")
    initial = metrics if isinstance(metrics, Mapping) else {} if metrics is None else {"hp_metric": metrics}
    numbers = {key: to_number(value) for key, value in flatten(initial)}
    initial = {key: to_json_number(number) for key, number in numbers.items() if number is not None}
    return Params(time.time(), mask_params(values), initial)


def alert_level(given: str, warner: OnceWarner) -> str:
    """Return the level of an alert; the first one if ``given`` is unknown."""
    level = given.upper()  # given may be an enum of an SDK
    if level in _ALERT_LEVELS:
        return level
    warner.warn(f"level {given}", f"an alert's level must be one of {', '.join(_ALERT_LEVELS)}, not {given!r}")
    return _ALERT_LEVELS[0]


def check_definition(definition: DefineMetric, warner: OnceWarner) -> None:
    """Warn of a goal or a summary that is unknown."""
    goals = [] if definition.goal is None else [definition.goal]
    summaries = [] if definition.summary is None else definition.summary.split(",")
    for what, given, known in (("goal", goals, tuple(GOALS)), ("summary", summaries, SUMMARIES)):
        for each in map(str.strip, given):
            if each not in known:
                message = f"define_metric({definition.name!r}): {what} must be one of {', '.join(known)}, not {each!r}."
                warner.warn(message + did_you_mean(each, known))


def end(status: Any, timeout: Any, default_status: str) -> tuple[str, Any]:
    """Return the status and the timeout for the arguments of `Run.finish`."""
    if isinstance(status, Real) and not isinstance(status, bool):
        warn_user(f"run.finish({status!r}): the first argument is the status; write run.finish(timeout={status!r})")
        status, timeout = None, status if timeout is None else timeout
    elif status is not None and not isinstance(status, str):
        kind = type(status).__name__
        warn_user(f"run.finish() takes a status as text, not {kind}; the run ends with the status {default_status!r}")
        status = None
    elif status and status not in _STATUSES:
        known = ", ".join(map(repr, _STATUSES))
        warn_user(
            f"run.finish({status!r}): trackers do not know this status, and may show the run as failed."
            f"{did_you_mean(status, _STATUSES)} They know {known}."
        )
    return str(status or default_status), timeout


def seconds(verb: str, timeout: Any, default: float) -> float:
    """Return the timeout of `Run.finish` or `Run.flush` in seconds."""
    if timeout is None:
        return default
    try:
        given = float(timeout)
    except Exception:
        given = math.nan
    if math.isnan(given):
        kind = type(timeout).__name__
        warn_user(f"run.{verb}() takes a timeout in seconds, not {kind}; it waits {default:g} seconds")
        return default
    return min(given, _LONGEST_TIMEOUT)
