"""Read an SQLite file without changing anything in its directory.

SQLite writes to the directory of a database with a write-ahead log even to read it, and completes or reverts what a
killed process has left. So a copy of such a database is read. Others are read where they are: SQLite's locks keep the
reader and a process that writes apart.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

_START = b"SQLite format 3\0"
_WRITE_AHEAD = 2
"""Byte 18 of a database that is written with a write-ahead log."""

_MAX_COPIES = 5  # the last copy is read in any case
_TIMEOUT = 60.0  # seconds to wait for a process that writes


class SqliteFile:
    """An SQLite file. `release` deletes the copy that was read, if one was necessary."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path.with_name(path.name + "-wal")
        self._rollback = path.with_name(path.name + "-journal")
        self._copy: Path | None = None
        self._delete_copy: Callable[[], object] | None = None

    @property
    def size(self) -> int:
        """The size of the file and its write-ahead log, in bytes."""
        return self.path.stat().st_size + (self._log.stat().st_size if self._log.exists() else 0)

    def release(self) -> None:
        """Delete the copy; the file can be opened again."""
        if self._delete_copy is not None:
            self._delete_copy()
        self._copy = self._delete_copy = None

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the database, also if it is damaged; undecodable text is replaced.

        Raises:
            sqlite3.DatabaseError: the file is not a database; reading may raise it, too.
        """
        if self._copy is None and self._log.exists() and self._log.stat().st_size:
            self._make_copy()
        with closing(self._connect()) as database:
            if not _must_be_repaired(database):
                yield database
                return
        self._make_copy()
        with closing(self._connect()) as database:
            yield database

    def _connect(self) -> sqlite3.Connection:
        if self._copy is not None:
            database = sqlite3.connect(self._copy / self.path.name)
        else:
            how = "mode=ro&immutable=1" if _has_write_ahead_log(self.path) else "mode=ro"
            database = sqlite3.connect(f"{self.path.resolve().as_uri()}?{how}", uri=True, timeout=_TIMEOUT)
        database.text_factory = lambda text: text.decode(errors="replace")
        database.execute("PRAGMA writable_schema = ON")  # otherwise a truncated file cannot be read at all
        return database

    def _make_copy(self) -> None:
        self._copy = Path(tempfile.mkdtemp(prefix="rankzero-import-"))
        self._delete_copy = weakref.finalize(self, shutil.rmtree, self._copy, ignore_errors=True)
        _copy_together([self.path, self._log, self._rollback], self._copy)


def is_sqlite(path: Path) -> bool:
    """Return whether a file begins as an SQLite database does.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(_START)) == _START


def _must_be_repaired(database: sqlite3.Connection) -> bool:
    """Return whether a process was killed while it wrote, so that SQLite would write to the file to read it."""
    try:
        database.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except sqlite3.DatabaseError as error:
        return getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK"
    return False


def _has_write_ahead_log(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(19)[18:] == bytes([_WRITE_AHEAD])


def _copy_together(files: Sequence[Path], directory: Path) -> None:
    """Copy files that a process may be writing; repeat it if one has changed meanwhile, so that they are consistent."""
    for _ in range(_MAX_COPIES):
        before = _stamps(files)
        for file in files:
            if file.exists():
                shutil.copyfile(file, directory / file.name)
            else:  # the process ended, and its log was merged into the database
                (directory / file.name).unlink(missing_ok=True)
        if _stamps(files) == before:
            return


def _stamps(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    states = [file.stat() if file.exists() else None for file in files]
    return [None if state is None else (state.st_size, state.st_mtime_ns) for state in states]
