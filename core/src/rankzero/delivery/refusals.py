"""Refusals: find the event that a tracker rejects permanently, and write it to the reject list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rankzero.delivery.pending import Item
from rankzero.delivery.retry import TRIES
from rankzero.errors import RejectedError, may_be_rejection
from rankzero.files.writing import open_own
from rankzero.rundir.positions import reject_list

_MOST_DOUBTED = 2  # events, before the pauses between tries grow


class Suspects:
    """The first pending events, as far as one of them may be what the tracker refuses.

    Of events that were refused together one half is tried, and so on until the one to blame stands alone. One that
    fails alone, again and again, may fail because of the tracker: it is doubted, and tried together with what follows.
    """

    def __init__(self) -> None:
        self.doubted: set[int] = set()
        """Lines of events that failed so often that they may be to blame."""
        self._together = 0  # so many were refused together
        self._failures = 0  # of one event alone: the first that is not doubted

    @property
    def half(self) -> int | None:
        """How many events to try now; None for all."""
        return max(1, self._together // 2) if self._together else None

    def clear(self) -> None:
        """Forget them: delivery goes on elsewhere in the journal."""
        self.acknowledge(self._together)

    def acknowledge(self, number: int) -> None:
        """Note that the tracker has so many of the events, or that they were rejected."""
        self._together = max(0, self._together - number)
        self._failures = 0
        self.doubted.clear()

    def blame(self, error: Exception, items: Sequence[Item]) -> Item | None:
        """Note that events failed together; return the one that is to be rejected, if that is certain.

        Raises:
            Exception: ``error``, so that a retry follows after a pause.
        """
        if not may_be_rejection(error):
            self._failures = 0
            self.doubted.clear()
            raise error
        if len(items) > 1:
            self._together = len(items)
        elif isinstance(error, RejectedError) and not self.doubted:
            return items[0]
        else:
            self._doubt(error, items[0])
        return None

    def _doubt(self, error: Exception, item: Item) -> None:
        self._failures += 1
        if self._failures < TRIES and not isinstance(error, RejectedError):
            raise error
        self._failures = 0
        self.doubted.add(item.line.number)
        if len(self.doubted) > _MOST_DOUBTED:
            raise error


def add_to_reject_list(run_dir: Path, key: str, line: int, event: bytes, reason: str) -> None:
    """Keep an event that could not be delivered, with the tracker's reason."""
    entry = {"time": time.time(), "line": line, "reason": reason, "event": msgspec.Raw(event)}
    with open_own(reject_list(run_dir, key), "ab") as file:
        file.write(msgspec.json.encode(entry) + b"\n")
