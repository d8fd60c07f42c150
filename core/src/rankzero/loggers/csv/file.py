"""A CSV file that grows by rows and, now and then, by columns; rows are only ever appended."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from rankzero.files.writing import open_descriptor, open_own, replacing


class FileChangedError(Exception):
    """Somebody else wrote to the file, or removed it."""


class CsvFile:
    """Appends rows to a CSV file, new or old; one that exists is continued.

    Args:
        path: the file; its directory must exist.
        columns: the first columns of a new file; those of the first rows, sorted, if not given.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self.path = path
        self._first_columns = list(columns)
        self.columns: list[str]
        self.size: int
        """Bytes."""
        self.reload()

    def reload(self) -> None:
        """Look at the file again, after somebody else changed it."""
        self.columns = []
        self.size = 0
        self._rows: int | None = 0
        self._ends_torn = False
        with suppress(FileNotFoundError), open_own(self.path) as file:
            self._rows = None
            header = next(_records(file), b"")
            self.columns = next(csv.reader(io.StringIO(header.decode("utf-8-sig", "surrogateescape"))), [])
            self.size = file.seek(0, os.SEEK_END)
            if self.size:
                file.seek(-1, os.SEEK_END)
                self._ends_torn = file.read() != b"\n"

    @property
    def rows(self) -> int:
        """How many rows there are, without the header."""
        if self._rows is None:
            with open_own(self.path) as file:
                self._rows = max(0, sum(1 for _ in _records(file)) - 1)
        return self._rows

    @rows.setter
    def rows(self, known: int) -> None:
        # Spares counting them.
        self._rows = known

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows; a name that has no column yet gets one, after those that there are.

        Raises:
            FileChangedError: the file is not as it was left; nothing is written.
            OSError: the rows cannot be written; none of them is.
        """
        missing = sorted(set().union(*rows).difference(self.columns or self._first_columns))
        if missing and self.columns:
            self._add_columns(missing)
        columns = self.columns or self._first_columns + missing
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.columns:
            writer.writerow(columns)
        elif self._ends_torn:
            text.write("\n")
        writer.writerows([row.get(column) for column in columns] for row in rows)
        count = None if self._rows is None else self._rows + len(rows)
        self._write(text.getvalue().encode("utf-8", "surrogateescape"))
        self.columns, self._rows, self._ends_torn = columns, count, False

    def cut(self, rows: int) -> bool:
        """Remove what follows the first ``rows`` rows; return False, and change nothing, if there are fewer."""
        if not self.columns:
            return rows == 0
        with open_own(self.path, "r+b") as file:
            records = 0
            end = 0
            for record in _records(file):
                if records > rows or not record.endswith(b"\n"):
                    break
                records += 1
                end += len(record)
            if records <= rows:
                return False
            file.truncate(end)
        self.size, self._rows, self._ends_torn = end, rows, False
        return True

    def _write(self, data: bytes) -> None:
        descriptor = open_descriptor(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            self._check(descriptor)
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, self.size)
                raise
        finally:
            os.close(descriptor)
        self.size += len(data)

    def _add_columns(self, names: Sequence[str]) -> None:
        """Write the file anew, row by row, with empty cells at the end of each, and put it in the old one's place."""
        columns = [*self.columns, *names]
        empty = b"," * len(names) + b"\n"
        try:
            with open_own(self.path) as old, replacing(self.path) as new:
                self._check(old.fileno())
                os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(old.fileno()).st_mode))
                header = io.StringIO()
                csv.writer(header, lineterminator="\n").writerow(columns)
                new.write(header.getvalue().encode("utf-8", "surrogateescape"))
                records = _records(old)
                next(records)
                new.writelines(record.rstrip(b"\r\n") + empty for record in records)
                size = new.tell()
        except FileNotFoundError as error:
            raise FileChangedError(f"{self.path} is gone") from error
        self.columns, self.size, self._ends_torn = columns, size, False

    def _check(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size != self.size:
            raise FileChangedError(f"{self.path} was changed by somebody else")


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the header and each row as it stands there; a quoted cell may hold line ends. The last may be torn."""
    record = b""
    for line in file:
        record = record + line if record else line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record
