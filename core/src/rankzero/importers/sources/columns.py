"""Find the columns of steps, times, epochs, stages and names of metrics, by their names and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from rankzero.errors import RunError
from rankzero.events.trust import LATEST

STEPS = (
    "step", "global_step", "_step", "steps", "current_steps", "iteration", "iter", "iterations", "num_updates",
    "timesteps", "total_timesteps", "time/total_timesteps", "batch", "round", "epoch", "epochs",
)  # fmt: skip
INDEX = ("index", "unnamed: 0")
TIMES = ("timestamp", "_timestamp", "time", "wall_time", "walltime", "created_at", "datetime", "date")
_NAMES = ("name", "metric", "key", "tag", "variable")
_VALUES = ("value", "metric_value")
_EARLIEST = 1e8  # seconds, in 1973; a smaller number is a duration
_UNITS = (1, 1e3, 1e6, 1e9)  # seconds, milliseconds, microseconds, nanoseconds


class Columns(msgspec.Struct):
    """The names of the columns with a special meaning; None if there is no such column."""

    step: str | None = None
    time: str | None = None
    epoch: str | None = None
    stage: str | None = None
    name: str | None = None
    """In a long table, which has a row for each value: the names of the metrics; ``value`` has the values."""
    value: str | None = None


def find_columns(sample: Mapping[str, Any], step: str | None = None, time: str | None = None) -> Columns:
    """Find the columns by their names and first values; the user may have named those of ``step`` and ``time``.

    Raises:
        RunError: a named column does not exist.
    """
    for given in (step, time):
        if given is not None and given not in sample:
            raise RunError(f"there is no column {given!r}; the columns are {', '.join(map(repr, sample))}")
    known = {name.strip().casefold(): name for name in reversed(list(sample))}

    def first(names: Sequence[str], convert: Callable[[Any], Any]) -> str | None:
        return next((known[name] for name in names if name in known and convert(sample[known[name]]) is not None), None)

    name, value = first(_NAMES, _text), first(_VALUES, lambda each: each)
    is_long = name is not None and value is not None
    return Columns(
        step=step or first(STEPS + INDEX, to_step),
        time=time or first(TIMES, to_time),
        epoch=first(["epoch"], to_step),
        stage=first(["stage"], _text),
        name=name if is_long else None,
        value=value if is_long else None,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def to_step(value: Any) -> int | None:
    """Return a step; None if the value is not a whole number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if value.__class__ is int and abs(value) < 1 << 63 else None


def to_time(value: Any) -> float | None:
    """Return the Unix time in seconds of a date in ISO 8601, or of a number in s, ms, µs or ns; None otherwise.

    A date without an offset is taken as UTC.
    """
    try:
        if isinstance(value, str):
            date = datetime.fromisoformat(value.strip())
            seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
            return seconds if 0 <= seconds < LATEST else None
        return next(float(value / unit) for unit in _UNITS if _EARLIEST <= value / unit < _EARLIEST * 1000)
    except (ValueError, TypeError, OverflowError, StopIteration):
        return None
