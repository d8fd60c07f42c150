"""Journals for `LoggerContract`, and couriers that deliver them, one of which dies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rankzero.delivery.courier import Courier
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Event, Metrics, Start, encode
from rankzero.journal.append import Journal
from rankzero.loggers.base import Logger
from rankzero.rundir.layout import JOURNAL
from rankzero.values import Number, to_json_number

TIME = 1_700_000_000.25


class KilledError(BaseException):
    """Simulates the death of the courier's process."""


class DyingCourier(Courier):
    """Dies after the tracker has everything and before the position is saved; leaves the logger open."""

    def _acknowledged(self, items: Any) -> None:
        raise KilledError

    def _drop_logger(self) -> None:
        self.logger = None


class JournalOf:
    """A journal, and couriers that deliver it."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run
        self.last: Logger | None = None
        """The logger that the last courier made."""
        self.lines = 0
        self._dir = Path(run.dir)
        self._journal = Journal(self._dir / JOURNAL)
        self.add(Start(TIME, run))

    def add(self, *events: Event) -> None:
        """Append events."""
        for event in events:
            self._journal.append(encode(event))
            self.lines += 1

    def log_all(self, rows: Iterable[tuple[int, Mapping[str, Number]]], first: int = 0) -> None:
        """Append rows of metrics, one second apart."""
        for index, (step, metrics) in enumerate(rows, first):
            values = {name: to_json_number(value) for name, value in metrics.items()}
            self.add(Metrics(TIME + index, step, values))

    def deliver(self, make_logger: Callable[[], Logger], courier: type[Courier] = Courier) -> None:
        """Deliver the existing events."""

        def make() -> Logger:
            self.last = make_logger()
            return self.last

        courier(self._dir, "contract", make, follow=False, grace_period=0.0).run()


def die() -> None:
    """Replaces a `Logger.flush` during which the process is killed."""
    raise KilledError
