"""One directory in which a process with a Neptune 1.x client kept its operations; torn and damaged lines are reported.

``data-N.log`` begins with the operation numbered N and goes on in another file at 64 MiB; files that Neptune had
acknowledged as a whole were deleted by the client.
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
from rankzero_neptune.rescue import operations as op
from rankzero_neptune.rescue.operations import Record, Unknown, decode_record, decode_records, record_from

Say = Callable[[str, str], None]
"""Takes the name of what cannot be read, and the reason."""

_CHUNK = 1 << 18
_BEGINNING = re.compile(rb'\{"obj":')
_TIMED = re.compile(rb'"(?:at|ts)": ?[0-9]')


class LogDirectory:
    """The directory of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = sorted(path.glob("data-*.log"), key=_first_version)
        self.size = sum(file.stat().st_size for file in self.files)
        self._metadata = _read_metadata(path / "metadata.json")
        self.has_metadata = bool(self._metadata)

    @property
    def identity(self) -> str:
        """The id of the run at Neptune, or the one that the client gave it while offline."""
        known = self._metadata.get("containerId")
        if isinstance(known, str) and known:
            return known
        name = self.path.parent.name if self.path.name.startswith("exec-") else self.path.name
        parts = name.split("__")
        return parts[1] if len(parts) > 1 else name

    @cached_property
    def began(self) -> float:
        """When the process began, Unix time in seconds; 0 if nothing in the directory tells."""
        try:
            return datetime.fromisoformat(self._metadata["createdAt"]).timestamp()
        except (KeyError, TypeError, ValueError):
            pass
        times = (_time_in(record) for record in self.matching(_TIMED))
        return next((time for time in times if time is not None), 0.0)

    @property
    def last_version(self) -> int:
        """The number of the last operation that was logged, as far as the directory tells."""
        versions = (record.version for record in self._quietly())
        return max(_read_number(self.path / "last_put_version"), max(versions, default=0))

    @property
    def acknowledged(self) -> int:
        """The number of the last operation that Neptune has."""
        return _read_number(self.path / "last_ack_version")

    @property
    def uploads(self) -> Path:
        """Where the client put what it had to upload from memory."""
        return self.path / "upload_path"

    def records(self, say: Say, on_progress: Callable[[int], None], after: int = 0) -> Iterator[Record]:
        """Yield what the process logged, in its order; ``at`` is never None.

        Args:
            say: told of what is torn, damaged or missing.
            on_progress: told how many bytes were read.
            after: leave out the operations up to this number, and what there is to say of them.
        """
        told = _Told(say)
        first = _first_version(self.files[0])
        told.missing(max(1, after + 1), first - 1, "the client deleted them when Neptune had them")
        at, version = self.began, first - 1
        for file in self.files:
            for record in _read(file, told.damage, on_progress):
                if record.version > version + 1 and record.version > version + 1 + told.take_damaged():
                    told.missing(max(version, after) + 1, record.version - 1, "they are missing")
                version = max(version, record.version)
                if record.at is None:
                    record.at = at
                at = record.at
                if record.version > after:
                    yield record
        last = _read_number(self.path / "last_put_version")
        told.missing(max(version, after) + 1, last, "they had not reached the disk when the process died")

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[Record]:
        """Yield the records in whose line ``pattern`` is found; says nothing of damage."""
        for file in self.files:
            for _, chunk in _chunks(file, _say_nothing):
                if pattern.search(chunk) is None:
                    continue
                for line in chunk.split(b"\n"):
                    if pattern.search(line):
                        record, _ = _decode_line(line)
                        if record is not None:
                            yield record

    def _quietly(self) -> Iterator[Record]:
        return (record for file in self.files[-1:] for record in _read(file, _say_nothing, lambda size: None))


def _say_nothing(what: str, why: str) -> None:
    pass


class _Told:
    """What is said of a log, each loss once."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._damaged = 0

    def damage(self, what: str, why: str) -> None:
        """Say that a line is damaged."""
        self._damaged += 1
        self._say(what, why)

    def take_damaged(self) -> int:
        """Return how many lines were damaged since this was last asked: their operations are missing, and are said."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def missing(self, first: int, last: int, why: str) -> None:
        """Say that operations are missing, if there are any between these two."""
        if first <= last:
            self._say(f"the operation {first}" if first == last else f"the operations {first} to {last}", why)


def _time_in(record: Record) -> float | None:
    """Return when a record was logged, or its first value; None if it does not say."""
    if record.at is None and isinstance(record.obj, op.LogFloats | op.LogStrings | op.LogImages):
        return next((point.ts for point in record.obj.values), None)
    return record.at


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


def _read(file: Path, say: Say, on_progress: Callable[[int], None]) -> Iterator[Record]:
    number = 0
    for is_torn, chunk in _chunks(file, say):
        try:
            records = decode_records(chunk)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            for line in chunk.split(b"\n"):
                number += 1
                yield from _decode_or_say(line, f"{file.name}, line {number}", is_torn, say)
            number -= not is_torn  # what follows the last newline of a chunk is no line
        else:
            number += chunk.count(b"\n")
            yield from records
        on_progress(len(chunk))


def _chunks(file: Path, say: Say) -> Iterator[tuple[bool, bytes]]:
    """Yield (whether it is a last line without its newline, bytes that end with a line otherwise)."""
    rest = b""
    offset = 0
    while data := _part(file, offset, max(_CHUNK, len(rest)), say):
        offset += len(data)
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield False, data[:end]
    if rest:
        yield True, rest


def _part(file: Path, offset: int, size: int, say: Say) -> bytes:
    """Return a part of a file, which is not kept open: the logs of many processes are read side by side."""
    try:
        with open_regular(file) as opened:
            opened.seek(offset)
            return opened.read(size)
    except OSError as error:
        say(file.name, f"it cannot be read: {error.strerror or error}")
        return b""


def _decode_or_say(line: bytes, place: str, is_torn: bool, say: Say) -> Iterator[Record]:
    record, is_whole = _decode_line(line)
    if not is_whole:
        _say_what_is_wrong(line, place, is_torn, say)
    if record is not None:
        yield record


def _say_what_is_wrong(line: bytes, place: str, is_torn: bool, say: Say) -> None:
    try:
        unknown = msgspec.json.decode(line, type=Unknown)
    except (msgspec.MsgspecError, ValueError):
        say(place, "the process died while it wrote this line" if is_torn else "the line is damaged")
    else:
        say("/".join(unknown.obj.path), f"{place}: the operation {unknown.obj.type} is not one that is known")


def _decode_line(line: bytes) -> tuple[Record | None, bool]:
    """Return the record in a line, and whether that is all of the line."""
    if not line:
        return None, True
    try:
        return decode_record(line), True
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # A process that goes on behind the fragment that another one left writes its line right behind it.
    fragments = [match.start() for match in _BEGINNING.finditer(line, 1)]
    for start in (0, *fragments[-1:]):
        try:
            return record_from(json.loads(line[start:])), start == 0  # takes NaN, as older clients wrote it
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return None, False
