"""A CSV file with the metrics of a journal, each exactly once; when in doubt, it is written again from line 0."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

import msgspec

from rankzero.files.directories import Place, replace_file, set_aside
from rankzero.files.writing import open_own, read_own_json
from rankzero.loggers.csv.file import CsvFile

log = logging.getLogger("rankzero.csv")

_FIRST_COLUMNS = ("step", "time")


class _Marker(msgspec.Struct, frozen=True):
    """The file beside the CSV file: its first ``size`` bytes have ``lines`` lines of the journal of ``run``."""

    run: str
    size: int
    lines: int | None = None


class Projection(CsvFile):
    """The delivered part of a journal, as a CSV file.

    Bytes after the size in the marker were written by a courier that died before it could save a new marker, and are
    removed. A file that does not match its marker is renamed, and the journal is delivered again.

    Args:
        place: the directory of the file.
        name: the name of the file.
        run_id: the run whose journal is delivered.
        is_alone: whether only this run writes to the file, so that it can be written again from the journal.
    """

    may_change = False  # its rows must be the delivered ones

    def __init__(self, place: Place, name: str, run_id: str, *, is_alone: bool) -> None:
        super().__init__(place, name, _FIRST_COLUMNS)
        self._marker_name = f".{name}.delivered"
        self._run_id = run_id
        self.is_alone = is_alone
        self._marker = self._read_marker()
        self.lines = self._lines_held()
        """The number of delivered lines of the journal; None if it is unknown."""
        self.save()

    def holds(self, line: int | None) -> bool:
        """Return whether this line of the journal was delivered before."""
        return line is not None and self.lines is not None and line < self.lines

    def note(self, line: int | None) -> None:
        """Record that this line of the journal was delivered."""
        if line is not None and not self.holds(line):
            self.lines = line + 1

    def save(self) -> None:
        """Save the file, and a marker with the recorded lines."""
        super().save()
        self._save_marker(_Marker(self._run_id, self.size, self.lines))

    def _replace(self, columns: Sequence[str], change: Callable[[Iterator[bytes]], Iterable[bytes]]) -> None:
        # If the courier dies before the next marker, the file is written again, or its rows count as another run's.
        self._save_marker(_Marker(self._run_id if self.is_alone else "", 0, 0))
        super()._replace(columns, change)

    def _lines_held(self) -> int | None:
        marker = self._marker
        if marker is not None and marker.run == self._run_id and self._cut(marker.size):
            return marker.lines
        if not self.is_alone:
            return None if self.size else 0  # the rows of this run will follow those of others
        if self.size:
            kept = set_aside(self.path)
            log.warning("%s does not match the journal; renamed to %s, and written again", self.path, kept.name)
            self._place.push(kept.name)
            self.reload()
        return 0

    def _cut(self, size: int) -> bool:
        """Truncate the file to ``size`` bytes; return False if these do not match what was written."""
        if self.size < size or (size and not self._is_plain):
            return False
        with suppress(FileNotFoundError), open_own(self.path, "r+b") as file:
            if size and not _ends_line(file, size):
                return False
            file.truncate(size)
        self.reload()
        return True

    def _save_marker(self, marker: _Marker) -> None:
        if marker != self._marker:
            replace_file(self._place, self._marker_name, msgspec.json.encode(marker))
            self._marker = marker

    def _read_marker(self) -> _Marker | None:
        self._place.pull(self._marker_name)
        return read_own_json(self._place.path / self._marker_name, _Marker)


def _ends_line(file: BinaryIO, size: int) -> bool:
    file.seek(size - 1)
    return file.read(1) == b"\n"
