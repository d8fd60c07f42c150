"""Read an SQLite file of neptune-scale."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import NamedTuple

from rankzero.importers.sqlite_file import SqliteFile
from rankzero_neptune.importing.sources import Source, is_sequence_beginning, is_time

_BATCH = 500  # rows
_MAX_DAMAGED = 1_000_000  # rows in succession: the number of the last row may be damaged, too
_MAX_NUMBER = (1 << 63) - 1


class Row(NamedTuple):
    """An operation."""

    number: int
    time: float
    """When it was written, Unix time in seconds."""
    kind: int
    """0 for an update of the run, 1 for its creation."""
    data: bytes
    """A protobuf message."""


class ScaleDatabase(Source):
    """An SQLite file of one run. `release` deletes the copy that was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SqliteFile(path)
        self.size = self._file.size

    def runs(self) -> list[tuple[str, ...]]:
        """Return the project and id of the run; an empty list if neptune-scale did not write the file."""
        unknown: list[tuple[str, ...]] = [("", self.path.parent.name)]
        try:
            with self._file.open() as database:
                names = set(database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')"))
                if ("table", "run_operations") not in names or any(kind == "view" for kind, _ in names):
                    return []  # reading a view might never end
                row = database.execute("SELECT project, run_id FROM metadata").fetchone()
            return [(str(row[0]), str(row[1]))] if row else unknown
        except sqlite3.DatabaseError:
            return unknown  # `rows` reports the damage
        finally:
            self.release()

    @property
    def name(self) -> Hashable:
        """The name contains a time in nanoseconds."""
        return self.path.parent.name, self.path.name

    @property
    def amount(self) -> int:
        """The number of the last operation, 0 if it cannot be read."""
        try:
            with self._file.open() as database:
                return _bounds(database)[1]
        except sqlite3.DatabaseError:
            return 0

    def is_beginning_of(self, other: ScaleDatabase, run: tuple[str, ...]) -> bool:
        return is_sequence_beginning(self.rows(_ignore), other.rows(_ignore))

    def release(self) -> None:
        self._file.release()

    def upload_requests(self) -> dict[str, Path]:
        """Return destination → file for the requested uploads; damaged ones are left out."""
        try:
            with self._file.open() as database:
                rows = database.execute("SELECT destination, source_path FROM file_upload_requests").fetchall()
        except sqlite3.DatabaseError:
            return {}
        return {str(destination): Path(source) for destination, source in rows if isinstance(source, str)}

    def rows(self, leave_out: Callable[[str, str], None]) -> Iterator[Row]:
        """Yield the operations in order; ``leave_out`` is called for damaged ones."""
        with self._file.open() as database:
            try:
                first, last = _bounds(database)
            except sqlite3.DatabaseError as error:
                leave_out(self.path.name, f"it cannot be read: {error}")
                return
            damaged = 0
            while first <= last and damaged < _MAX_DAMAGED:
                try:
                    rows = _read(database, first)
                    yield from rows
                    if not rows:
                        return
                    first, damaged = rows[-1].number + 1, 0
                except sqlite3.DatabaseError as error:
                    for number in range(first, min(first + _BATCH, last + 1)):
                        try:
                            yield from _read(database, number, number)
                        except sqlite3.DatabaseError:
                            leave_out(f"operations in {self.path.name}", f"the file is damaged: {error}")
                    first += _BATCH
                    damaged += _BATCH


def _ignore(what: str, why: str) -> None:
    pass


def _bounds(database: sqlite3.Connection) -> tuple[int, int]:
    """Return the numbers of the first and last operation; for a damaged file, the largest possible range."""
    try:
        first, last = database.execute("SELECT min(sequence_id), max(sequence_id) FROM run_operations").fetchone()
        return (first, last) if first is not None else (1, 0)
    except sqlite3.DatabaseError:
        row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'run_operations'").fetchone()
        return (1, row[0]) if row else (1, 0)


def _read(database: sqlite3.Connection, first: int, last: int = _MAX_NUMBER) -> list[Row]:
    """Return the next operations in order; their numbers may have gaps of any size."""
    rows = database.execute(
        "SELECT sequence_id, timestamp, operation_type, operation FROM run_operations "
        "WHERE sequence_id BETWEEN ? AND ? ORDER BY sequence_id LIMIT ?",
        (first, last, _BATCH),
    ).fetchall()
    if not all(isinstance(time, int) and is_time(time / 1000) and isinstance(data, bytes) for _, time, _, data in rows):
        raise sqlite3.DatabaseError("an operation is incomplete")
    return [Row(number, time / 1000, kind, data) for number, time, kind, data in rows]
