"""`RunInfo` and `LogContext`: the id, name and directory of a run, and the time and line of an event."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rankzero.values import Number

Status = str
"""How a run ended: ``success``, ``failed``, ``aborted`` (interrupted, preempted) or ``crashed`` (its process died)."""


class RunInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which run this is: what a logger needs to create it in its tracker, or to find it there again."""

    id: str
    """Unique; 32 letters and digits unless the user chose it. The run's identity in every tracker."""
    name: str
    project: str
    dir: str
    """The run's directory, absolute."""
    tags: tuple[str, ...] = ()
    notes: str | None = None
    started: float = 0.0
    """Unix time in seconds."""
    program: str = ""
    """The path of the script that was run; empty in a notebook."""

    @property
    def runs_dir(self) -> str:
        """The directory of all runs, this one being in ``runs_dir/project/id``: for what they share.

        A run that was copied out of there shares nothing: ``dir``.
        """
        directory, place = Path(self.dir), Path(self.project, self.id).parts
        is_in_place = directory.parts[-len(place) :] == place
        return str(directory.parents[len(place) - 1]) if is_in_place else self.dir


class LogContext(msgspec.Struct, frozen=True):
    """When the event that is being logged took place, in which epoch and stage."""

    time: float
    """Unix time in seconds."""
    line: int | None = None
    """The number of the event's line in the journal, from 0; None for a logger that is used directly."""
    epoch: int | None = None
    stage: str | None = None
    """``train``, ``validate`` or ``test``, when known."""


class MetricsRow(msgspec.Struct, frozen=True):
    """The metrics of one log call."""

    values: dict[str, Number]
    step: int | None
    context: LogContext
