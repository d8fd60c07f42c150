"""Read the lines of a text file that a program may still be writing, from the end of the last import on."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from rankzero.files.writing import open_regular
from rankzero.importers.base import Report

_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = "\ufeff"
_LONGEST = 1 << 24  # bytes; no line of a log is longer
_COMPARED = 1024  # bytes
_LINES_PER_PROGRESS = 1000
_QUIET_SECONDS = 60


class LineFile:
    """A text file, perhaps compressed with gzip, in UTF-8 or UTF-16; other lines are read as Windows-1252."""

    def __init__(self, path: Path) -> None:
        self.path = path
        state = path.stat()
        self.size = state.st_size
        self.modified = state.st_mtime
        self.offset = 0
        """The end of the last line that was read, in bytes of the text; set it back to read a line again later."""

    @property
    def may_grow(self) -> bool:
        """Whether the last line may be incomplete: the file was modified less than a minute ago."""
        return time.time() - self.modified < _QUIET_SECONDS

    @property
    def position(self) -> dict[str, Any]:
        """Where reading ended, for `has`."""
        return {"offset": self.offset, "before": _digest(self._around(self.offset)[0])}

    def has(self, position: Mapping[str, Any]) -> bool:
        """Return whether the text before a position is unchanged, and ends with a line."""
        offset = position["offset"]
        before, after = self._around(offset)
        is_unchanged = len(before) == min(offset, _COMPARED) and _digest(before) == position["before"]
        return is_unchanged and (before.endswith(b"\n") or after in (b"", b"\r", b"\n"))

    def lines(self, report: Report) -> Iterator[str]:
        """Yield the lines with their ends, beginning at `offset`; the last one may have no end."""
        with open_regular(self.path) as raw:
            done = 0
            try:
                for number, line in enumerate(_lines(raw, self.offset)):
                    if number % _LINES_PER_PROGRESS == 0:
                        report.progress(raw.tell() - done)
                        done = raw.tell()
                    text = _decoded(line)
                    if self.offset == 0:
                        text = text.removeprefix(_BOM)
                    self.offset += len(line)
                    yield text
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                report.leave_out(f"the end of {self.path.name}", f"the compressed file is damaged: {error}")
            report.progress(self.size - done)

    def _around(self, offset: int) -> tuple[bytes, bytes]:
        """Return at most `_COMPARED` bytes before ``offset``, and the next byte."""
        start = max(0, offset - _COMPARED)
        with open_regular(self.path) as raw:
            try:
                with _text_at(raw, start) as file:
                    found = file.read(offset - start + 1)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                found = b""
        return found[: offset - start], found[offset - start :]


def _lines(raw: BinaryIO, offset: int) -> Iterator[bytes]:
    with _text_at(raw, offset) as file:
        while line := file.readline(_LONGEST):
            yield line


def _text_at(raw: Any, offset: int) -> BinaryIO:
    """Return the text of a file, in an encoding that extends ASCII, as a binary file from ``offset`` on."""
    start = raw.peek(2)[:2]
    file: Any = raw
    if start == _GZIP:
        file = gzip.GzipFile(fileobj=raw)
    elif start in _UTF_16:
        file = io.BufferedReader(_Utf16AsUtf8(raw))
        while offset and (skipped := file.read(min(offset, _LONGEST))):
            offset -= len(skipped)
        return cast(BinaryIO, file)
    file.seek(offset)
    return cast(BinaryIO, file)


class _Utf16AsUtf8(io.RawIOBase):
    """Reads a UTF-16 file as UTF-8."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b"start"
        while data and not self._ready:
            data = self._file.read(io.DEFAULT_BUFFER_SIZE)
            self._ready = self._decoder.decode(data, final=not data).encode(errors="replace")
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
