"""What a plugin implements so that ``rankzero import`` can read what another tool left on disk.

An `Importer` finds runs; each `FoundRun` says which run it is and yields its events, oldest first, from a source
that it never changes. Here is all that an author needs; how a run becomes a journal is in
`rankzero.importers.writing`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from rankzero.events.structs import Event
from rankzero.media.store import MediaStore

_MOST_NAMED = 1000
_NOT_NAMED = ("more", "it is too much to name it all")


class SkipRun(Exception):
    """Raised by `FoundRun.header`: there is nothing to import, which is no fault; the message says why."""


class Header(msgspec.Struct, frozen=True):
    """What is said of a run as a whole."""

    name: str = ""
    """For people; one is made up from the run's identity if empty."""
    notes: str | None = None
    tags: tuple[str, ...] = ()
    started: float = 0.0
    """Unix time in seconds; 0 if the source does not say it, and the run then began with its first event."""
    status: str = "success"
    """``success``, ``failed`` or ``aborted``."""


class Report:
    """What an importer says while it reads: how far it is, and what it cannot take."""

    def __init__(self, on_progress: Callable[[int], None] | None = None) -> None:
        self.not_taken: dict[tuple[str, str], int] = {}
        """(what, why) → how often, in the order in which it was first said; the thousandth and later are not named."""
        self._on_progress = on_progress

    def leave_out(self, what: str, why: str, count: int = 1) -> None:
        """Say that something of the run is not imported.

        Args:
            what: its name, such as the metric's or the file's.
            why: the reason, as a clause without a full stop.
            count: how many values or files that is.
        """
        key = (what, why)
        if key not in self.not_taken and len(self.not_taken) >= _MOST_NAMED:
            key = _NOT_NAMED
        self.not_taken[key] = self.not_taken.get(key, 0) + count

    def progress(self, size: int) -> None:
        """Say that ``size`` more bytes of the source have been read."""
        if self._on_progress is not None:
            self._on_progress(size)


class FoundRun(ABC):
    """One run in a source."""

    identity: str
    """Names the run, the same whenever it is found: its id in rankzero and in every tracker is made from it."""
    project: str | None = None
    """What the run belongs to; may hold ``/``. None if the source does not say."""
    source: str
    """Where it was found, for people."""
    size: int = 0
    """About how many bytes there are to read, for a progress bar."""

    @abstractmethod
    def header(self) -> Header:
        """Return what is said of the run as a whole. Asked once, before `events`.

        Raises:
            SkipRun: there is nothing to import.
        """

    @abstractmethod
    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        """Yield what was logged, in the same order and with the same times whenever the same source is read.

        One event at a time, so that a run of any size can be imported. Neither a `Start` nor a `Finish` is among them.

        Args:
            files: keeps a file, or bytes, in the run's directory; what it returns goes into an event.
            report: to be told of what cannot be taken, instead of raising.
        """


class Importer(ABC):
    """Finds runs that another tool left on disk. The parameters of its constructor are its options."""

    summary: ClassVar[str] = ""
    """What it reads, in a line."""

    @abstractmethod
    def find(self, paths: Sequence[Path]) -> Iterable[FoundRun]:
        """Return the runs in ``paths``, files or directories; each once, in an order that does not change.

        Raises:
            RunNotFoundError: there is none; the message says what was looked for.
        """
