"""``system_metrics.csv`` of `CSVLogger`: system metrics, which have no step, apart from those of training."""

from __future__ import annotations

import csv
from typing import Any

from rankzero.events.run_info import MetricsRow
from rankzero.files.directories import Place
from rankzero.loggers.csv.file import CsvFile

NAME = "system_metrics.csv"
_TIME = "time"


class SystemFile:
    """The file in one directory: a row for each measurement, and its time."""

    def __init__(self, place: Place) -> None:
        self._file = CsvFile(place, NAME, [_TIME])
        self._rows: list[dict[str, Any]] = []
        self._held: set[str] = set()
        if self._file.size:
            with self._file.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                width = len(self._file.columns)  # a torn row has fewer cells
                self._held.update(row[0] for row in csv.reader(file) if len(row) == width)

    def add(self, row: MetricsRow) -> None:
        """Buffer a row, unless the file has it."""
        if str(row.context.time) not in self._held:
            self._rows.append({_TIME: row.context.time, **row.values})

    def save(self) -> None:
        """Write the buffered rows."""
        if self._rows:
            self._file.append(self._rows)
            self._held.update(str(row[_TIME]) for row in self._rows)
            self._rows.clear()
        self._file.save()
