"""`RunSummary`: a run in a few hundred bytes."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import DefineMetric
from rankzero.events.trust import check_depth, check_key, check_run
from rankzero.journal.opening import JournalStat, open_journal
from rankzero.values import restore_non_finite

_CHECKED = 4096  # bytes at the beginning and at the end of what was read

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]

_params_decoder = msgspec.json.Decoder(dict[str, Any])


class JournalState(msgspec.Struct, frozen=True):
    """How much of a journal was read."""

    read: _Count = 0
    """The number of bytes."""
    size: int = 0
    """The size of the file then; an incomplete last line is not read."""
    mtime: int = 0
    check: int = 0
    """The CRC-32 of the beginning and the end of what was read."""

    @classmethod
    def of(cls, journal: Path, found: JournalStat, read: int) -> JournalState:
        """Return the state of a journal of which ``read`` bytes were read after ``found``."""
        return cls(read, found.st_size, found.st_mtime_ns, _check(journal, read))

    def has_grown(self, journal: str | os.PathLike[str], found: JournalStat) -> bool | None:
        """Return whether the journal has grown since; None if it is another one, or was changed."""
        if (found.st_size, found.st_mtime_ns) == (self.size, self.mtime):
            return False
        return True if found.st_size >= self.read and self.check == _check(journal, self.read) else None


def _check(journal: str | os.PathLike[str], read: int) -> int:
    with open_journal(journal) as file:
        first = file.read(min(_CHECKED, read))
        file.seek(max(0, read - _CHECKED))
        last = file.read(min(_CHECKED, read))
    return zlib.crc32(last, zlib.crc32(first))


class MetricSummary(msgspec.Struct):
    """A metric in numbers."""

    count: _Count = 0
    """The number of points."""
    first_step: int | None = None
    """None if the point has no step, or one that does not fit into 64 bits; as for the other steps."""
    last_step: int | None = None
    last: float | int = math.nan
    last_time: float = 0.0
    """Unix time in seconds."""
    min: float | int | None = None
    """The smallest finite value; None if there is none."""
    min_step: int | None = None
    max: float | int | None = None
    max_step: int | None = None


class RunSummary(msgspec.Struct, frozen=True):
    """A run without its points and files."""

    journal: JournalState
    """How much of the journal was read."""
    info: RunInfo
    """Id, name, project, directory, …"""
    status: str
    """The same as `RunData.status`."""
    finished: float | None
    """Unix time in seconds; None if the run did not finish."""
    error: str
    """The same as `RunData.error`."""
    updated: float
    """The time of the last event, Unix time in seconds."""
    paused: float
    """The same as `RunData.paused`."""
    step: int | float | None
    """The largest step of a metric; a float if it does not fit into 64 bits."""
    params_json: str
    """The hyperparameters as JSON; NaN and infinities are texts."""
    tags: list[str]
    loggers: list[str]
    """The keys of the run's loggers."""
    definitions: dict[str, DefineMetric]
    """The ``define_metric`` events, by metric."""
    metrics: dict[str, MetricSummary]
    lines: _Count
    """The number of lines of the journal that were read."""
    damaged: _Count
    """How many of them are damaged."""

    def __repr__(self) -> str:
        return f"RunSummary({self.info.name!r}, {self.status!r}, {len(self.metrics)} metrics, dir={self.info.dir!r})"

    @property
    def dir(self) -> Path:
        """The run's directory."""
        return Path(self.info.dir)

    @property
    def started(self) -> float:
        """When the run started, Unix time in seconds."""
        return self.info.started

    @property
    def took(self) -> float:
        """The seconds that the run has taken so far, without `paused`."""
        return (self.finished or self.updated) - self.started - self.paused

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters."""
        params: dict[str, Any] = restore_non_finite(_params_decoder.decode(self.params_json))
        return params

    def check(self) -> None:
        """Raise ValueError if the data is not safe to use: another user may have written it."""
        if self.info.id:
            check_run(self.info.id, self.info.project)
        for key in self.loggers:
            check_key(key)
        check_depth(_params_decoder.decode(self.params_json))


def goal_of(metric: str, definitions: Iterable[Mapping[str, DefineMetric]]) -> str | None:
    """Return ``minimize`` or ``maximize`` if a run has said so of a metric, or of a pattern like ``val/*``."""
    for each in definitions:
        for pattern, definition in each.items():
            if definition.goal and (pattern == metric or fnmatchcase(metric, pattern)):
                return definition.goal
    return None


def as_step(step: float) -> int | None:
    """Return a number of a column of steps as a step; None if it is NaN, or does not fit into 64 bits."""
    return int(step) if -(2.0**63) <= step < 2.0**63 else None
