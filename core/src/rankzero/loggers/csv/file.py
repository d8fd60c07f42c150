"""A CSV file that grows by rows and sometimes by columns; rows are only appended."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from rankzero.files.directories import Place
from rankzero.files.writing import open_descriptor, open_own, replacing


class FileChangedError(Exception):
    """Another program changed or removed the file."""


class CsvFile:
    """Appends rows to a new or existing CSV file.

    Args:
        place: the directory of the file.
        name: the name of the file.
        columns: the first columns of a new file; by default those of the first rows, sorted.
    """

    may_change = True
    """Whether to continue appending after another program changed the file."""

    def __init__(self, place: Place, name: str, columns: Sequence[str] = ()) -> None:
        self.path = place.path / name
        self._place = place
        self._first_columns = list(columns)
        self._is_pushed = True
        self.columns: list[str]
        self.size: int
        """Bytes."""
        place.pull(name)
        self.reload()

    def reload(self) -> None:
        """Read the file again, after another program changed it."""
        self.columns = []
        self.size = 0
        self._rows: int | None = 0
        self._ends_torn = False
        self._is_plain = True
        with suppress(FileNotFoundError), open_own(self.path) as file:
            self._rows = None
            header = next(_records(file), b"")
            self.columns = next(csv.reader(io.StringIO(header.decode("utf-8-sig", "surrogateescape"))), [])
            self._is_plain = header == _encoded([self.columns])
            self.size = file.seek(0, os.SEEK_END)
            if self.size:
                file.seek(-1, os.SEEK_END)
                self._ends_torn = file.read() != b"\n"

    @property
    def rows(self) -> int:
        """The number of rows, without the header."""
        if self._rows is None:
            with open_own(self.path) as file:
                self._rows = max(0, sum(1 for _ in _records(file)) - 1)
        return self._rows

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows; a name without a column gets a new one, after the existing columns.

        Raises:
            FileChangedError: another program changed the file, and `may_change` is False; no row is written.
            OSError: the rows cannot be written; none of them is.
        """
        try:
            self._append(rows)
        except FileChangedError:
            if not self.may_change:
                raise
            self.reload()
            self._append(rows)

    def remove_rows(self, is_removed: Callable[[Mapping[str, str]], bool]) -> None:
        """Remove rows, given as column → text; the file is replaced if there are any."""
        if not self.columns:
            return

        def row(record: bytes) -> dict[str, str]:
            cells = next(csv.reader(io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")), [])
            return dict(zip(self.columns, cells, strict=False))

        with open_own(self.path) as file:
            records = _records(file)
            next(records)
            has_any = any(is_removed(row(record)) for record in records)
        if has_any:
            self._replace(self.columns, lambda records: (each for each in records if not is_removed(row(each))))
            self.reload()

    def save(self) -> None:
        """Upload the file if it is in an object store and has changed."""
        if not self._is_pushed:
            self._place.push(self.path.name)
            self._is_pushed = True

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        missing = sorted(set().union(*rows).difference(self.columns or self._first_columns))
        if missing and self.columns:
            self._add_columns(missing)
        columns = self.columns or self._first_columns + missing
        cells = [[row.get(column) for column in columns] for row in rows]
        data = _encoded(cells if self.columns else [columns, *cells])
        count = None if self._rows is None else self._rows + len(rows)
        self._write(b"\n" + data if self._ends_torn else data)
        self.columns, self._rows, self._ends_torn = columns, count, False

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
        self._is_pushed = False

    def _add_columns(self, names: Sequence[str]) -> None:
        empty = b"," * len(names) + b"\n"
        self._replace([*self.columns, *names], lambda records: (record.rstrip(b"\r\n") + empty for record in records))

    def _replace(self, columns: Sequence[str], change: Callable[[Iterator[bytes]], Iterable[bytes]]) -> None:
        """Replace the file by one with other columns and changed rows."""
        try:
            with open_own(self.path) as old, replacing(self.path) as new:
                self._check(old.fileno())
                os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(old.fileno()).st_mode))
                new.write(_encoded([columns]))
                records = _records(old)
                next(records)
                new.writelines(change(records))
                size = new.tell()
        except FileNotFoundError as error:
            raise FileChangedError(f"{self.path} is gone") from error
        self.columns, self.size, self._ends_torn = list(columns), size, False
        self._is_pushed = False

    def _check(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size != self.size:
            raise FileChangedError(f"{self.path} was changed by another program")


def _encoded(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the header and each row with its line end; quoted cells may contain line ends, the last row may be torn."""
    record = b""
    for line in file:
        record = record + line if record else line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record
