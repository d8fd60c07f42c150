"""Group files by run, and skip copies and unreadable files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rankzero.errors import RankzeroError, RunError
from rankzero.events.trust import LATEST
from rankzero.importers.base import FoundRun, SkippedSource, SkipRun

_CHUNK = 1 << 20
_END = object()


class Source(ABC):
    """A file or directory with data of one or more runs."""

    path: Path
    size: int
    """In bytes."""

    @abstractmethod
    def runs(self) -> Iterable[tuple[str, ...]]:
        """Return the keys of the runs in the source."""

    @abstractmethod
    def is_beginning_of(self, other: Any, run: tuple[str, ...]) -> bool:
        """Return whether ``other`` begins with all data that this source has of a run."""

    @property
    def name(self) -> Hashable:
        """A name that the tool uses only once for a run: two sources with the same name are copies."""
        return self.path.name

    @property
    def amount(self) -> int:
        """How much data there is; of several copies the one with the most is imported."""
        return self.size

    def release(self) -> None:
        """Free what was needed to read the source."""


S = TypeVar("S", bound=Source)


def find_runs(
    paths: Iterable[Path],
    open_source: Callable[[Path], S],
    make_run: Callable[[tuple[str, ...], list[S]], FoundRun],
) -> list[FoundRun]:
    """Return the runs in files or directories; one run may have several, and copies of them."""
    runs: dict[tuple[str, ...], list[S]] = {}
    found: list[FoundRun] = []
    for path in paths:
        try:
            source = open_source(path)
            for run in source.runs():
                runs.setdefault(run, []).append(source)
        except RankzeroError as error:
            found.append(SkippedSource(path, error))
        except (OSError, ValueError) as error:  # also those of Arrow
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            found.append(SkippedSource(path, RunError(f"it cannot be read: {reason}")))
    for run, sources in runs.items():
        originals, copies = _without_copies(run, sources)
        found += [make_run(run, originals), *copies]
        for source in sources:
            source.release()
    return found


def _without_copies(run: tuple[str, ...], sources: list[S]) -> tuple[list[S], list[SkippedSource]]:
    largest: dict[Hashable, S] = {}
    for each in sources:
        known = largest.setdefault(each.name, each)
        if known is not each and each.amount > known.amount:
            largest[each.name] = each
    copies = []
    for each in sources:
        original = largest[each.name]
        if original is not each:
            reason: Exception = RunError(
                f"{original.path} has the same name and is larger, but has other data; import this file alone, into "
                "another directory with --dir"
            )
            if each.is_beginning_of(original, run):
                reason = SkipRun(f"it is a copy of {original.path}")
            copies.append(SkippedSource(each.path, reason))
    return [each for each in sources if largest[each.name] is each], copies


def is_file_beginning(part: Path, whole: Path) -> bool:
    """Return whether a file begins with all bytes of another one."""
    try:
        with open(part, "rb") as short, open(whole, "rb") as long:
            while data := short.read(_CHUNK):
                if long.read(len(data)) != data:
                    return False
    except OSError:
        return False
    return True


def is_time(seconds: float) -> bool:
    """Return whether a Unix time in seconds can be the time of an event."""
    return 0 <= seconds < LATEST


def is_sequence_beginning(part: Iterator[object], whole: Iterator[object]) -> bool:
    """Return whether ``whole`` begins with all items of ``part``."""
    return all(item == next(whole, _END) for item in part)
