"""Which part of a journal a CSV file holds: what makes delivery to it exactly once.

After each flush a small file beside the CSV says how many rows it had, and up to which line of the journal
they reach. Rows beyond that came from a courier that died before it could say so: they are cut off, and
delivered again.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from rankzero.errors import NotAFileError
from rankzero.files.directories import set_aside
from rankzero.files.writing import read_own, write_file
from rankzero.loggers.csv.file import CsvFile

log = logging.getLogger("rankzero.csv")

_FIRST_COLUMNS = ("step", "time")


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    run: str
    rows: int
    size: int
    lines: int | None = None


def ledger_name(csv_name: str) -> str:
    """Return the name of the file beside the CSV file of this name."""
    return f".{csv_name}.delivered"


class Ledger:
    """The CSV file at ``path``, brought into agreement with the file beside it.

    Args:
        path: the CSV file.
        run_id: the run whose journal is delivered.
        is_alone: nothing but this run writes the CSV file, so that all of it can come from the journal again.
    """

    def __init__(self, path: Path, run_id: str, *, is_alone: bool) -> None:
        self._path = path
        self._run_id = run_id
        self.kept: Path | None = None
        """Where a file was put that does not fit the journal."""
        entry = self._entry = self._load()
        self.file = CsvFile(path, _FIRST_COLUMNS)
        self.lines: int | None = 0
        """How many lines of the journal were handed over; None if that cannot be told."""
        if entry is None or entry.run != run_id:
            if is_alone:
                self._start_anew()
            elif self.file.size:
                self.lines = None  # somebody else's rows, which ours will follow
        elif self.file.size == entry.size:
            self.file.rows, self.lines = entry.rows, entry.lines
        elif self.file.cut(entry.rows):
            self.lines = entry.lines
        else:
            self._start_anew()
        self.save()

    def holds(self, line: int | None) -> bool:
        """Return whether this line of the journal was handed over before."""
        return line is not None and self.lines is not None and line < self.lines

    def note(self, line: int | None) -> None:
        """Say that this line of the journal was handed over."""
        if line is not None and not self.holds(line):
            self.lines = line + 1

    def save(self) -> bool:
        """Say that what was handed over is in the CSV file; return whether that was news."""
        entry = _Entry(self._run_id, self.file.rows, self.file.size, self.lines)
        if entry == self._entry:
            return False
        write_file(self._path.with_name(ledger_name(self._path.name)), msgspec.json.encode(entry))
        self._entry = entry
        return True

    def _load(self) -> _Entry | None:
        try:
            return msgspec.json.decode(read_own(self._path.with_name(ledger_name(self._path.name))), type=_Entry)
        except (FileNotFoundError, NotAFileError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _start_anew(self) -> None:
        if self.file.size:
            self.kept = set_aside(self._path)
            log.warning("%s does not fit the journal; kept as %s, and written anew", self._path, self.kept.name)
        self.file = CsvFile(self._path, _FIRST_COLUMNS)
