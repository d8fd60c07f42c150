"""The SQLite file in which neptune-scale keeps a run, opened so that nothing beside it changes.

SQLite writes to the directory of a database that has a write-ahead log even to read it. So such a one is read from a
copy; all others are opened as what nobody can change.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

_ROWS = 500
_MOST_DAMAGED = 1_000_000  # operations in a row; the number of the last one may be damaged, too
_GREATEST = (1 << 63) - 1
_MOST_COPIES = 5  # the last one is read whatever it is


class Row(NamedTuple):
    """An operation."""

    number: int
    time: float
    """When it was written, Unix time in seconds."""
    kind: int
    """0 for an update of the run, 1 for its creation."""
    data: bytes
    """A protobuf message."""


class ScaleDatabase:
    """One file of neptune-scale; `release` when it is no longer read, for a copy may be as large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path.with_name(path.name + "-wal")
        self._copy: Path | None = None
        self._delete_copy: Callable[[], object] | None = None
        self.size = path.stat().st_size + (self._log.stat().st_size if self._log.exists() else 0)

    def is_one(self) -> bool:
        """Return whether this is a file of neptune-scale."""
        try:
            with self._open() as database:
                names = set(database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')"))
        except sqlite3.DatabaseError:
            return True  # damaged; `rows` says how
        return ("table", "run_operations") in names and not any(kind == "view" for kind, _ in names)  # one may not end

    def metadata(self) -> tuple[str, str] | None:
        """Return the project and the id of the run; None if they cannot be read."""
        try:
            with self._open() as database:
                row = database.execute("SELECT project, run_id FROM metadata").fetchone()
        except sqlite3.DatabaseError:
            return None
        return (str(row[0]), str(row[1])) if row else None

    def last_number(self) -> int:
        """Return the number of the last operation, 0 if it cannot be read."""
        try:
            with self._open() as database:
                return _bounds(database)[1]
        except sqlite3.DatabaseError:
            return 0

    def release(self) -> None:
        """Delete the copy that was read, if there is one; the next that reads makes another."""
        if self._delete_copy is not None:
            self._delete_copy()
        self._copy = self._delete_copy = None

    def upload_requests(self) -> dict[str, Path]:
        """Return destination → file, of the files that were to be uploaded."""
        try:
            with self._open() as database:
                rows = database.execute("SELECT destination, source_path FROM file_upload_requests").fetchall()
        except sqlite3.DatabaseError:
            return {}
        return {str(destination): Path(source) for destination, source in rows}

    def rows(self, say: Callable[[str, str, int], None]) -> Iterator[Row]:
        """Yield the operations in the order in which they were written; ``say`` is told of those that are damaged."""
        with self._open() as database:
            try:
                first, last = _bounds(database)
            except sqlite3.DatabaseError as error:
                say(self.path.name, f"it cannot be read: {error}", 1)
                return
            damaged = 0
            while first <= last and damaged < _MOST_DAMAGED:
                try:
                    found = _from(database, first)
                    yield from found
                    if not found:
                        return
                    first, damaged = found[-1].number + 1, 0
                except sqlite3.DatabaseError as error:
                    for number in range(first, min(first + _ROWS, last + 1)):
                        try:
                            yield from _from(database, number, number)
                        except sqlite3.DatabaseError:
                            say(f"operations in {self.path.name}", f"the file is damaged: {error}", 1)
                    first += _ROWS
                    damaged += _ROWS

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if self._copy is None and self._log.exists() and self._log.stat().st_size:
            self._copy = Path(tempfile.mkdtemp(prefix="rankzero-import-"))
            self._delete_copy = weakref.finalize(self, shutil.rmtree, self._copy, ignore_errors=True)
            _copy_together([self.path, self._log], self._copy)
        copy = self._copy
        database = _connect(self.path) if copy is None else sqlite3.connect(copy / self.path.name)
        database.text_factory = lambda text: text.decode(errors="replace")  # of a damaged file it is anything
        with closing(database):
            yield database


def _copy_together(files: Sequence[Path], directory: Path) -> None:
    """Copy files that a process may be writing; again if one has changed meanwhile, as they must fit together."""
    for _ in range(_MOST_COPIES):
        before = _stamps(files)
        for file in files:
            if file.exists():
                shutil.copyfile(file, directory / file.name)
            else:  # the process ended, and its log went into the database
                (directory / file.name).unlink(missing_ok=True)
        if _stamps(files) == before:
            return


def _stamps(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    states = [file.stat() if file.exists() else None for file in files]
    return [None if state is None else (state.st_size, state.st_mtime_ns) for state in states]


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    database.execute("PRAGMA writable_schema = ON")  # or a file that was cut short is not read at all
    return database


def _bounds(database: sqlite3.Connection) -> tuple[int, int]:
    """Return the numbers of the first operation and the last; of a damaged file, between which they must be."""
    try:
        first, last = database.execute("SELECT min(sequence_id), max(sequence_id) FROM run_operations").fetchone()
        return (first, last) if first is not None else (1, 0)
    except sqlite3.DatabaseError:
        row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'run_operations'").fetchone()
        return (1, row[0]) if row else (1, 0)


def _from(database: sqlite3.Connection, first: int, last: int = _GREATEST) -> list[Row]:
    """Return the next operations, in order: their numbers may have gaps of any size."""
    found = database.execute(
        "SELECT sequence_id, timestamp, operation_type, operation FROM run_operations "
        "WHERE sequence_id BETWEEN ? AND ? ORDER BY sequence_id LIMIT ?",
        (first, last, _ROWS),
    )
    rows = found.fetchall()
    if not all(isinstance(time, int) and isinstance(data, bytes) for _, time, _, data in rows):
        raise sqlite3.DatabaseError("an operation is cut short")
    return [Row(number, time / 1000, kind, data) for number, time, kind, data in rows]
