"""Read the directory in which one process of a Neptune 1.x client kept its operations.

``data-N.log`` starts with operation N; a new file is started at 64 MiB. The client deletes files of which Neptune has
everything. Incomplete and damaged lines are reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.writing import open_regular
from rankzero_neptune.importing.operations import (
    KNOWN,
    Record,
    UnknownRecord,
    decode_record,
    decode_records,
    to_record,
)
from rankzero_neptune.importing.sources import Source, is_file_beginning

LeaveOut = Callable[[str, str], None]
"""Called with the name of data that cannot be read, and the reason."""

_CHUNK = 1 << 18
_RECORD_START = re.compile(rb'\{"obj":')
_WITH_TIME = re.compile(rb'"(?:at|ts)": ?[0-9]')
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class LogDirectory(Source):
    """The directory of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = sorted(path.glob("data-*.log"), key=_first_version)
        self.size = sum(file.stat().st_size for file in self.files)
        self._metadata = _read_metadata(path / "metadata.json")
        self.has_metadata = bool(self._metadata)

    def runs(self) -> list[tuple[str, ...]]:
        """Return the run's id at Neptune, or the id that the client created offline."""
        known = self._metadata.get("containerId")
        if isinstance(known, str) and known:
            return [(known,)]
        name = self.path.parent.name if self.path.name.startswith("exec-") else self.path.name
        parts = name.split("__")
        return [(parts[1] if len(parts) > 1 else name,)]

    def is_beginning_of(self, other: LogDirectory, run: tuple[str, ...]) -> bool:
        files = {file.name: file for file in other.files}
        return all(file.name in files and is_file_beginning(file, files[file.name]) for file in self.files)

    @cached_property
    def started(self) -> float:
        """When the process started, Unix time in seconds; 0 if unknown."""
        try:
            return datetime.fromisoformat(self._metadata["createdAt"]).timestamp()
        except (KeyError, TypeError, ValueError):
            times = (_time_of(record) for record in self.matching(_WITH_TIME))
            return next((time for time in times if time is not None), 0.0)

    @property
    def last_version(self) -> int:
        """The number of the last operation of the process."""
        records = (record for file in self.files[-1:] for record in _read(file, _ignore, lambda size: None))
        return max(self._last_logged, max((record.version for record in records), default=0))

    @property
    def _last_logged(self) -> int:
        return _read_number(self.path / "last_put_version")

    @property
    def acknowledged(self) -> int:
        """The number of the last operation that Neptune has."""
        return _read_number(self.path / "last_ack_version")

    @property
    def uploads(self) -> Path:
        """The directory of files that were uploaded from memory."""
        return self.path / "upload_path"

    def records(self, leave_out: LeaveOut, on_progress: Callable[[int], None], after: int = 0) -> Iterator[Record]:
        """Yield the records in the order of logging; ``at`` is never None.

        Args:
            leave_out: called for incomplete, damaged and missing operations.
            on_progress: called with the number of bytes that were read.
            after: skip operations up to this number, also in ``leave_out``.
        """
        damaged = 0

        def on_damage(what: str, why: str) -> None:
            nonlocal damaged
            damaged += 1
            leave_out(what, why)

        def on_gap(first: int, last: int, why: str) -> None:
            if first <= last:
                leave_out(f"the operation {first}" if first == last else f"the operations {first} to {last}", why)

        at, version = self.started, _first_version(self.files[0]) - 1
        on_gap(max(1, after + 1), version, "the client deleted them when Neptune had them")
        for file in self.files:
            for record in _read(file, on_damage, on_progress):
                missing = record.version - version - 1
                if missing > 0:
                    if missing > damaged:  # damaged lines are reported already
                        on_gap(max(version, after) + 1, record.version - 1, "they are missing")
                    damaged = 0
                version = max(version, record.version)
                record.at = at = at if record.at is None else record.at
                if record.version > after:
                    yield record
        lost = "they had not reached the disk when the process died"
        on_gap(max(version, after) + 1, self._last_logged, lost)

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[Record]:
        """Yield the records in whose line ``pattern`` is found; damaged lines are skipped."""
        for file in self.files:
            for _, chunk in _chunks(file, _ignore):
                for line in chunk.split(b"\n") if pattern.search(chunk) else ():
                    if pattern.search(line) and (record := _decode(line)[0]) is not None:
                        yield record


def _ignore(what: str, why: str) -> None:
    pass


def _time_of(record: Record) -> float | None:
    """Return when a record, or its first point, was logged; None if it has no time."""
    points = record.obj.values if record.type in ("LogFloats", "LogStrings", "LogImages") else ()
    return next((point.ts for point in points), None) if record.at is None else record.at


def _first_version(file: Path) -> int:
    number = file.stem.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            metadata = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _read_number(path: Path) -> int:
    try:
        with open_regular(path) as file:
            return int(file.read() or 0)
    except (OSError, ValueError):
        return 0


def _read(file: Path, leave_out: LeaveOut, on_progress: Callable[[int], None]) -> Iterator[Record]:
    number = 0
    for is_torn, chunk in _chunks(file, leave_out):
        try:
            records = decode_records(chunk)
        except _DECODE_ERRORS:
            for line in chunk.removesuffix(b"\n").split(b"\n"):
                number += 1
                record, is_complete = _decode(line)
                if not is_complete:
                    _report_damage(line, f"{file.name}, line {number}", is_torn, leave_out)
                if record is not None:
                    yield record
        else:
            number += chunk.count(b"\n")
            yield from records
        on_progress(len(chunk))


def _chunks(file: Path, leave_out: LeaveOut) -> Iterator[tuple[bool, bytes]]:
    """Yield (whether it is an incomplete last line, bytes of complete lines otherwise)."""
    rest = b""
    offset = 0
    while data := _read_part(file, offset, max(_CHUNK, len(rest)), leave_out):
        offset += len(data)
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield False, data[:end]
    if rest:
        yield True, rest


def _read_part(file: Path, offset: int, size: int, leave_out: LeaveOut) -> bytes:
    """Read a part of a file without keeping it open: many logs are read in turn."""
    try:
        with open_regular(file) as opened:
            opened.seek(offset)
            return opened.read(size)
    except OSError as error:
        leave_out(file.name, f"it cannot be read: {error.strerror or error}")
        return b""


def _report_damage(line: bytes, where: str, is_torn: bool, leave_out: LeaveOut) -> None:
    try:
        unknown = msgspec.json.decode(line, type=UnknownRecord)
    except (msgspec.MsgspecError, ValueError):
        leave_out(where, "the process died while it wrote this line" if is_torn else "the line is damaged")
    else:
        problem = "invalid" if unknown.obj.type in KNOWN else "unknown"
        leave_out("/".join(unknown.obj.path), f"{where}: the operation {unknown.obj.type} is {problem}")


def _decode(line: bytes) -> tuple[Record | None, bool]:
    """Return the record in a line, and whether the line has nothing else."""
    if not line:
        return None, True
    try:
        return decode_record(line), True
    except _DECODE_ERRORS:
        pass
    # After a killed process, the next one writes its first line directly behind the incomplete last line.
    starts = [match.start() for match in _RECORD_START.finditer(line, 1)]
    for start in (0, *starts[-1:]):
        try:
            return to_record(json.loads(line[start:])), start == 0  # accepts NaN, as older clients wrote it
        except _DECODE_ERRORS:
            continue
    return None, False
