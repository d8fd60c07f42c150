"""`Importer`: the base class of plugins that read runs of another tool for ``rankzero import``.

An `Importer` finds runs. Each `FoundRun` identifies a run and yields its events, oldest first, from a source that is
never changed. `rankzero.importers.writing` writes them to a journal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from rankzero.capture.environment import Environment
from rankzero.errors import RunError
from rankzero.events.structs import Event
from rankzero.importers.event_lines import MetricsLines
from rankzero.media.store import MediaStore

_MAX_NAMED = 1000
_UNNAMED = ("more", "there are too many to list")


class SkipRun(Exception):
    """Raised by `FoundRun.header` to skip a run without an error; the message says why."""


class Header(msgspec.Struct, frozen=True):
    """The name, notes, tags, start, status, group and parent of a run."""

    name: str = ""
    """The name shown to people; if empty, it is made from the run's identity."""
    notes: str | None = None
    tags: tuple[str, ...] = ()
    started: float = 0.0
    """Unix time in seconds; 0 if unknown: then the run starts with its first event."""
    status: str = "success"
    """``success``, ``failed`` or ``aborted``."""
    group: str | None = None
    """The study that the run is a part of."""
    parent: str | None = None
    """The identity of the run that this one is nested under, as `FoundRun.identity`."""


class Report:
    """Collects the progress of an import and what it leaves out."""

    def __init__(self, on_progress: Callable[[int], None] | None = None) -> None:
        self.left_out: dict[tuple[str, str], int] = {}
        """(what, why) → count, in the order of first occurrence; the first thousand are named."""
        self._on_progress = on_progress

    def leave_out(self, what: str, why: str, count: int = 1) -> None:
        """Report that something is not imported.

        Args:
            what: its name, such as the metric's or the file's.
            why: the reason, as a clause without a full stop.
            count: the number of values or files.
        """
        key = (what, why)
        if key not in self.left_out and len(self.left_out) >= _MAX_NAMED:
            key = _UNNAMED
        self.left_out[key] = self.left_out.get(key, 0) + count

    def progress(self, size: int) -> None:
        """Report that ``size`` more bytes of the source have been read."""
        if self._on_progress is not None:
            self._on_progress(size)


class FoundRun(ABC):
    """A run that an importer found."""

    identity: str
    """Identifies the run each time it is found: its id in rankzero and in every tracker is made from it."""
    project: str | None = None
    """The project of the run; may contain ``/``. None if unknown."""
    source: str
    """Where the run was found, for messages."""
    size: int = 0
    """The approximate number of bytes to read, for a progress bar."""
    position: Any = None
    """Where `events` ended, as JSON, so that the next import can continue there; None if it reads everything again.

    For example the offset in each file. Read when `events` has ended.
    """

    def resume(self, position: Any) -> bool:
        """Continue where an earlier import ended: `events` then yields only what is new.

        Called before `header`. By default everything is read again and compared with the run.

        Args:
            position: `position` of the earlier import, as read from JSON.

        Returns:
            Whether `events` continues; False if the source is no longer the same, and all of it must be read.
        """
        return False

    @abstractmethod
    def header(self) -> Header:
        """Return the run's name, start and status. Called once, before `events`.

        Raises:
            SkipRun: there is nothing to import.
        """

    def environment(self, files: MediaStore) -> Environment | None:
        """Return the machine, program and git state of the run; None if unknown. Called after `header`.

        Args:
            files: stores files that belong to it, such as a diff.
        """
        return None

    @abstractmethod
    def events(self, files: MediaStore, report: Report) -> Iterator[Event | MetricsLines]:
        """Yield the events of the run, always in the same order and with the same times for the same source.

        Yield one event at a time, so that a run of any size can be imported. If the source is read in blocks, the lines
        of some thousand metrics from `rankzero.importers.event_lines.metrics_lines` take less time. Yield no `Start`
        and no `Finish`.

        Args:
            files: stores files and bytes in the run's directory, and returns what an event refers to.
            report: call `Report.leave_out` for data that cannot be imported, instead of raising.
        """


class SkippedSource(FoundRun):
    """A file or directory that is not imported; `header` raises the reason.

    Args:
        source: the file or directory.
        reason: `SkipRun`, or an error.
    """

    project = ""

    def __init__(self, source: object, reason: Exception) -> None:
        self.identity = self.source = str(source)
        self._reason = reason

    @classmethod
    def unreadable(cls, source: object, error: OSError) -> SkippedSource:
        """Return a skipped source for a file or directory that cannot be read."""
        return cls(source, RunError(f"it cannot be read: {error.strerror or error}"))

    def header(self) -> Header:
        raise self._reason

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        yield from ()


class Importer(ABC):
    """Finds the runs of another tool.

    The parameters of the constructor are the importer's options. An option whose default is True or False never gets
    another value.
    """

    summary: ClassVar[str] = ""
    """One line about what the importer reads."""

    @abstractmethod
    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        """Return the runs in ``sources``; each run once, always in the same order.

        Args:
            sources: files, directories or other names of the tool's data, as the user wrote them. See
                `rankzero.importers.searching.find_files`.

        Raises:
            RunNotFoundError: no run was found; the message says what the importer looks for.
        """
