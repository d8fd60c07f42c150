"""`Exporter`: the base class of what writes runs in another format; `ExportedRun`: a row of the table of runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rankzero.events.structs import Finish, Metrics, Params, Rewind, Start, Tags
from rankzero.journal.rewinds import rewind_limits, surviving
from rankzero.journal.tail import read_start
from rankzero.reader.index.summary import RunSummary
from rankzero.reader.run_data import JournalReader, RunData
from rankzero.rundir.finding import complete_size
from rankzero.rundir.layout import JOURNAL
from rankzero.values import to_jsonable

SCHEMA = 2
"""The version of the tables' schema."""

RunKey = tuple[str, str]
"""(project, id) of a run."""

_BEYOND_INT64 = 2**63


def fitting(number: int | None) -> int | None:
    """Return a number if it fits into 64 bits, else None."""
    return number if number is not None and -_BEYOND_INT64 <= number < _BEYOND_INT64 else None


class Point(msgspec.Struct):
    """A row of the table of metrics."""

    metric: str
    step: int | None
    time: float
    """Unix time in seconds."""
    epoch: int | None
    stage: str | None
    value: float | str
    """NaN and ±Infinity are strings, as in the journal."""


class ExportedRun(msgspec.Struct):
    """A row of the table of runs."""

    project: str
    run: str
    """The id."""
    name: str
    group: str | None
    parent: str | None
    """The id of the run that this one is nested under."""
    tags: list[str]
    params: str
    """JSON."""
    status: str
    started: float
    """Unix time in seconds, as the other times."""
    finished: float | None
    updated: float
    notes: str | None
    program: str
    directory: str
    points: int
    """The number of rows of the table of metrics."""
    journal_bytes: int
    """The size of the journal when it was exported; if it is the same, the run is not exported again."""

    @classmethod
    def of(cls, run: RunData | RunSummary, key: RunKey, params: str, points: int, journal_bytes: int) -> ExportedRun:
        """Return the row of a run."""
        return cls(
            project=key[0],
            run=key[1],
            name=run.info.name,
            group=run.info.group,
            parent=run.info.parent,
            tags=run.tags,
            params=params,
            status=run.status,
            started=run.started,
            finished=run.finished,
            updated=run.updated,
            notes=run.info.notes,
            program=run.info.program,
            directory=str(run.dir),
            points=points,
            journal_bytes=journal_bytes,
        )

    @property
    def key(self) -> RunKey:
        """The project and the id."""
        return self.project, self.run


class RunReader:
    """Reads a run for an exporter, in little memory."""

    def __init__(self, directory: Path, on_progress: Callable[[int], None] = lambda size: None) -> None:
        """Read the first line of the journal.

        Args:
            directory: the run's directory.
            on_progress: called with the number of bytes read since the last call.

        Raises:
            OSError: the journal cannot be read.
        """
        self.directory = directory
        self.size = complete_size(directory)
        """The size of the journal, without an incomplete last line; later lines are not read."""
        start = read_start(directory / JOURNAL)
        self.key: RunKey = (start.run.project, start.run.id) if start else (directory.parent.name, directory.name)
        self.params: dict[str, object] = {}
        """The hyperparameters; complete after `summary`."""
        self.damaged = 0
        """The number of damaged lines, which are skipped; complete after `summary`."""
        self._on_progress = on_progress
        self._journal = JournalReader(directory / JOURNAL, (Start, Finish, Params, Tags), self.size)
        self._points = 0

    def rows(self) -> Iterator[list[Metrics]]:
        """Yield the metrics in the order of logging, without those that a rewind has superseded."""
        limits = rewind_limits(self.directory / JOURNAL, self.size)
        read = 0
        for part in self._journal.read():
            if isinstance(part, Rewind):
                limits = limits[1:]
                continue
            part = surviving(part, limits)
            self._points += sum([len(row.values) for row in part])
            yield part
            self._on_progress(self._journal.size - read)
            read = self._journal.size

    def summary(self) -> ExportedRun:
        """Return the row of the table of runs; call this after `rows`.

        Raises:
            RunNotFoundError: the journal contains no event.
        """
        run = self._journal.finish()
        self.params, self.damaged = run.params, run.damaged
        params = msgspec.json.encode(to_jsonable(run.params)).decode()
        return ExportedRun.of(run, self.key, params, self._points, self.size)


class Exporter(ABC):
    """Writes runs below ``output``. Subclasses are offered to ``rankzero export`` by the hook `rankzero_exporters`."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.runs: dict[RunKey, ExportedRun] = {}
        """What the output contains."""

    @abstractmethod
    def open(self) -> None:
        """Find out what the output contains; make it unless it exists.

        Raises:
            OSError, RankzeroError: it cannot be written.
        """

    @abstractmethod
    def write(self, run: RunReader) -> None:
        """Replace a run atomically, and add it to `runs`.

        Raises:
            OSError, RankzeroError: the run cannot be read or written.
        """

    @abstractmethod
    def close(self) -> None:
        """Write the table of runs, if the format has one. Also called after an error."""
