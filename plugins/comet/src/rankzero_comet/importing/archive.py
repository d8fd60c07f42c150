"""Read the files of an offline experiment: a zip archive, or the directory that a killed process left.

A truncated zip archive has no list of its files at its end; then the header before each file is read.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rankzero.errors import UnsafePathError
from rankzero.files.writing import inside, open_regular
from rankzero.importers.base import Report

MESSAGES = "messages.json"
"""The logged messages, one in each line."""
EXPERIMENT = "experiment.json"
"""The key, project, tags and times of the experiment; the client writes it when the experiment ends."""

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""The exceptions that reading a damaged file in a zip archive raises."""

_HEADER = struct.Struct("<4s2xHH4xLLLHH")
"""The header before each file: signature, flags, method, checksum, and the sizes of the compressed data,
the data, the name and the extra field."""
_ENCRYPTED, _SIZES_FOLLOW = 1, 8
_EMPTY = 22  # the size of an archive without files, in bytes
_CHUNK = 1 << 18
_LONGEST_LINE = 1 << 26
_MAX_UNPACKED = 1 << 30
_MAX_RATIO = 100
_NAME = re.compile(r"([0-9A-Za-z]{32,50})(-\w+)?\.zip")


class Archive(ABC):
    """The files of an offline experiment."""

    problem: str | None = None
    """Why files of the archive may be missing; None if it is complete."""
    checksum: int | None = None
    """The CRC-32 of the messages in the archive; None if unknown."""
    offset = 0
    """The number of bytes of messages that have been read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def __contains__(self, name: str) -> bool:
        """Whether there is a file with this name."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file; reading it may raise `DAMAGE`.

        Raises:
            OSError: it is missing or cannot be read; the message says why.
        """

    @abstractmethod
    def size(self, name: str | None = None) -> int:
        """Return the size of a file in bytes, 0 if it does not exist; without a name, that of all files."""

    @property
    def key_in_name(self) -> str | None:
        """The key of the experiment in the name of the archive; None if the name has no key."""
        match = _NAME.fullmatch(self.path.name)
        return match[1] if match else None

    def lines(self, report: Report, offset: int = 0) -> Iterator[bytes]:
        """Yield the messages after ``offset``, one line each; report damage and an incomplete last line."""
        self.offset, rest, checksum = offset, b"", 0
        try:
            with self.open(MESSAGES) as file:
                _skip(file, offset)
                while chunk := _read1(file):
                    report.progress(len(chunk))
                    checksum = zlib.crc32(chunk, checksum)
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self.offset += len(line) + 1
                        yield line
                    if len(rest) > _LONGEST_LINE:
                        raise EOFError(f"a line is longer than {_LONGEST_LINE:,} bytes")
        except OSError as error:
            report.leave_out(MESSAGES, reason(error))
            return
        except DAMAGE as error:
            report.leave_out(MESSAGES, f"the rest is missing or damaged: {reason(error)}")
        if rest.endswith(b"}"):
            self.offset += len(rest)
            yield rest
        elif rest:
            report.leave_out(MESSAGES, "its last line is incomplete")
        elif not offset and self.checksum not in (checksum, None):
            report.leave_out(MESSAGES, "it was changed since it was written: some values may be wrong")


class ArchiveDirectory(Archive):
    """The directory in which a process collected the files of an archive, or an unpacked archive."""

    def __contains__(self, name: str) -> bool:
        return (self.path / name).is_file()

    def open(self, name: str) -> BinaryIO:
        try:
            return open_regular(inside(self.path, name))
        except UnsafePathError as error:
            raise OSError(str(error)) from None

    def size(self, name: str | None = None) -> int:
        names = os.listdir(self.path) if name is None else [name]
        return sum((self.path / each).stat().st_size for each in names if each in self)


class ZipArchive(Archive):
    """A zip archive, which may be truncated.

    Raises:
        OSError: the archive cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open_regular(path) as file:
            found = list(_listed(file))
            is_ours = self.key_in_name is not None and path.stat().st_size > _EMPTY
            if not found or (is_ours and MESSAGES not in (info.filename for info in found)):
                found = list(_found_by_headers(file))
                self.problem = "it is cut off or damaged: files may be missing" if found or is_ours else None
        self._files = {info.filename: info for info in found}
        if (messages := self._files.get(MESSAGES)) is not None:
            self.checksum = messages.CRC
            del messages.CRC  # otherwise a wrong checksum loses the last chunk

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def open(self, name: str) -> BinaryIO:
        info = self._files.get(name)
        if info is None:
            raise FileNotFoundError("it is missing from the archive")
        if info.flag_bits & _ENCRYPTED:
            raise OSError("it is encrypted")
        if info.file_size > max(_MAX_UNPACKED, info.compress_size * _MAX_RATIO):
            raise OSError(f"{info.compress_size:,} bytes of the archive unpack to {info.file_size:,}")
        file = open_regular(self.path)
        file.seek(info.header_offset)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(zipfile.stringFileHeader):  # type: ignore[attr-defined]
            file.close()
            raise OSError("its header in the archive is damaged")
        *_, name_size, extra_size = _HEADER.unpack(header)
        file.seek(name_size + extra_size, os.SEEK_CUR)
        try:
            return zipfile.ZipExtFile(file, "r", info, close_fileobj=True)  # type: ignore[return-value]
        except DAMAGE as error:  # an unknown compression method
            file.close()
            raise OSError(reason(error)) from None

    def size(self, name: str | None = None) -> int:
        names = self._files if name is None else [name]
        return sum(self._files[each].file_size for each in names if each in self)


def _listed(file: BinaryIO) -> list[zipfile.ZipInfo]:
    try:
        return zipfile.ZipFile(file).infolist()
    except (*DAMAGE, ValueError, struct.error, OverflowError):
        return []


def _found_by_headers(file: BinaryIO) -> Iterator[zipfile.ZipInfo]:
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
            return
        _, flags, method, checksum, packed, unpacked, name_size, extra_size = _HEADER.unpack(header)
        name, extra = file.read(name_size), file.read(extra_size)
        if packed == unpacked == 0xFFFFFFFF and len(extra) >= 20 and extra.startswith(b"\1\0"):
            unpacked, packed = struct.unpack_from("<QQ", extra, 4)
        if flags & _SIZES_FOLLOW and not packed:
            return
        info = zipfile.ZipInfo(name.decode(errors="replace"))
        info.header_offset, info.flag_bits, info.compress_type = offset, flags, method
        info.CRC, info.compress_size, info.file_size = checksum, packed, unpacked
        yield info
        offset += _HEADER.size + name_size + extra_size + packed


def _read1(file: BinaryIO) -> bytes:
    """Read the next bytes; unlike ``read``, this also returns those directly before damage."""
    return file.read1(_CHUNK) if isinstance(file, io.BufferedIOBase) else file.read(_CHUNK)


def _skip(file: BinaryIO, size: int) -> None:
    while size and (chunk := file.read(min(size, _CHUNK))):
        size -= len(chunk)


def reason(error: Exception) -> str:
    """Return why a file cannot be read, as a clause."""
    return getattr(error, "strerror", None) or str(error) or "it is cut off"
