"""`RunInfo` and `LogContext`: the id, name and directory of a run, and the time and line of an event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from rankzero.values import Number

Status = str
"""How a run ended: ``success``, ``failed``, ``aborted`` (interrupted, preempted) or ``crashed`` (its process died)."""


DEFAULT_PROJECT = "default"
"""The project of a run whose user has chosen none."""


class RunInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Identifies a run: all that a logger needs to create the run in its tracker, or to find it again."""

    id: str
    """The run's identity in every tracker; unique. It has 32 letters and digits unless the user chose it."""
    name: str
    project: str
    dir: str
    """The run's directory, absolute."""
    tags: tuple[str, ...] = ()
    notes: str | None = None
    started: float = 0.0
    """Unix time in seconds."""
    group: str | None = None
    """The study that the run is a part of: a sweep, a cross-validation."""
    parent: str | None = None
    """The id of the run that this one is nested under: a sweep's, say, of a trial."""
    program: str = ""
    """The path of the training script; empty in a notebook."""

    @property
    def chosen_project(self) -> str | None:
        """The project; None if the user has chosen none, for trackers with a variable for it."""
        return None if self.project == DEFAULT_PROJECT else self.project

    @property
    def runs_dir(self) -> str:
        """The directory of all runs, for files that they share; this run is in ``runs_dir/project/id``.

        For a run that was copied to another directory, it is ``dir``.
        """
        directory, place = Path(self.dir), Path(self.project, self.id).parts
        is_in_place = directory.parts[-len(place) :] == place
        return str(directory.parents[len(place) - 1]) if is_in_place else self.dir


SYSTEM = "system/"
"""The beginning of the names of system metrics: see `rankzero.capture.system_metrics`."""
NODE = r"node(\d+)"
"""The pattern of what comes next, before a ``/``, if they are of another node than rank zero's: its number."""


def are_system_metrics(step: int | None, names: Iterable[str]) -> bool:
    """Return whether the metrics of one row are system metrics: they have a time and no step."""
    return step is None and all(name.startswith(SYSTEM) for name in names)


class LogContext(msgspec.Struct, frozen=True):
    """The time, epoch and stage of an event that is being logged."""

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

    @property
    def is_system(self) -> bool:
        """Whether these are system metrics from a journal."""
        return self.context.line is not None and are_system_metrics(self.step, self.values)

    def step_or_seconds(self, started: float) -> int | None:
        """Return the step; for system metrics the whole seconds since ``started``, for trackers that need a step."""
        return max(0, round(self.context.time - started)) if self.is_system else self.step


TrackedPoint = tuple[int | None, Number]
"""The step and value of a metric in a tracker; the step is None if the tracker has none."""

TrackedMetrics = Mapping[str, Sequence[TrackedPoint] | None]
"""Name → the points of a metric in a tracker; None if the tracker has it in a form that cannot be compared."""
