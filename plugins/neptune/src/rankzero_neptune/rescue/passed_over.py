"""What was found and gives no run: it is named when its turn comes, and keeps no other from being imported."""

from __future__ import annotations

from collections.abc import Iterator

from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.media.store import MediaStore


class PassedOver(FoundRun):
    """Stands for a file or directory."""

    project = ""

    def __init__(self, source: object, reason: Exception) -> None:
        """Begin.

        Args:
            source: the path.
            reason: what `header` raises: `rankzero.importers.base.SkipRun` if that is no fault.
        """
        self.identity = self.source = str(source)
        self._reason = reason

    def header(self) -> Header:
        raise self._reason

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        yield from ()
