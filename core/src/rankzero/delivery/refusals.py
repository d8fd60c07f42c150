"""Refusals: find the event that a tracker rejects permanently, and write it to the reject list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from rankzero.delivery.retry import TRIES
from rankzero.errors import NotAFileError, RejectedError, may_be_rejection
from rankzero.files.writing import open_own, read_own
from rankzero.rundir.positions import reject_list

_MOST_SUSPECTED = 2  # events, before the pauses between tries grow


class Suspects:
    """Finds the event that makes the tracker reject a batch, among the first pending events.

    If a batch fails, its first half is tried, and so on until one event fails alone. An event that fails alone
    repeatedly may still fail because of the tracker: it is suspected, and retried together with the next events.
    """

    def __init__(self) -> None:
        self.suspected: set[int] = set()
        """The lines of events that failed so often that they may be the cause."""
        self._together = 0  # the number of events that failed together
        self._failures = 0  # of the first event that is not suspected, alone

    @property
    def half(self) -> int | None:
        """The number of events to try now; None for all."""
        return max(1, self._together // 2) if self._together else None

    def clear(self) -> None:
        """Forget all failures, because delivery continues elsewhere in the journal."""
        self.acknowledge(self._together)

    def acknowledge(self, number: int) -> None:
        """Record that the first events were acknowledged or rejected."""
        self._together = max(0, self._together - number)
        self._failures = 0
        self.suspected.clear()

    def blame(self, error: Exception, lines: Sequence[int]) -> bool:
        """Record that the events of these lines failed together; return whether the first is certainly the cause.

        Raises:
            Exception: ``error``, if it should be retried after a pause.
        """
        if not may_be_rejection(error):
            self._failures = 0
            self.suspected.clear()
            raise error
        if len(lines) > 1:
            self._together = len(lines)
        elif isinstance(error, RejectedError) and not self.suspected:
            return True
        else:
            self._suspect(error, lines[0])
        return False

    def _suspect(self, error: Exception, line: int) -> None:
        self._failures += 1
        if self._failures < TRIES and not isinstance(error, RejectedError):
            raise error
        self._failures = 0
        self.suspected.add(line)
        if len(self.suspected) > _MOST_SUSPECTED:
            raise error


def add_to_reject_list(run_dir: Path, key: str, line: int, event: bytes, reason: str) -> None:
    """Add an event to the reject list, with the tracker's reason."""
    entry = {"time": time.time(), "line": line, "reason": reason, "event": msgspec.Raw(event)}
    with open_own(reject_list(run_dir, key), "ab") as file:
        file.write(msgspec.json.encode(entry) + b"\n")


def rejected_lines(run_dir: Path, key: str) -> set[int]:
    """Return the lines of the journal whose events are in the reject list."""
    lines = set()
    with suppress(FileNotFoundError, NotAFileError):
        for entry in read_own(reject_list(run_dir, key)).splitlines():
            with suppress(msgspec.MsgspecError):  # a crash cut it off
                lines.add(msgspec.json.decode(entry, type=_Entry).line)
    return lines


class _Entry(msgspec.Struct):
    line: int
