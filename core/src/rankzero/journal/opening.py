"""Open a journal for reading, as it was written or compressed by ``rankzero clean``; compress it, and restore it.

A compressed journal has the seekable format of Zstandard: frames that are decompressed separately, and a table of
where they are. So reading from an offset takes the same time anywhere. All offsets and sizes are those of the
uncompressed journal. If a run has both files, a crash came between writing one and removing the other: the
uncompressed one counts.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from rankzero.errors import PluginNotInstalledError
from rankzero.files.writing import open_regular, replacing
from rankzero.rundir.layout import COMPRESSED, JOURNAL

_FRAME = 4 << 20
_BUFFER = 1 << 20
_LEVEL = 6  # half of the time of level 9, for 5 % more bytes


def has_journal(run_dir: Path) -> bool:
    """Return whether a directory is that of a run."""
    return any((run_dir / name).is_file() for name in (JOURNAL, JOURNAL + COMPRESSED))


def file_of(journal: Path) -> Path:
    """Return the file that has a journal: ``journal`` itself, unless it is compressed."""
    compressed = _compressed(journal)
    return compressed if not journal.exists() and compressed.exists() else journal


def open_journal(journal: str | os.PathLike[str]) -> BinaryIO:
    """Open a journal for reading.

    Args:
        journal: the path of the uncompressed journal.

    Raises:
        FileNotFoundError: there is no journal.
        PluginNotInstalledError: the journal is compressed, and the package that reads it is missing.
        OSError: it cannot be read.
    """
    try:
        return open_regular(journal)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            return _open_compressed(_compressed(Path(journal)))
        return open_regular(journal)  # it may just have been restored


class JournalStat(NamedTuple):
    """The size and time of a journal, as in the result of ``os.stat``."""

    st_size: int
    """Of the uncompressed journal, in bytes."""
    st_mtime_ns: int
    """When it was changed; compressing it is no change."""


def stat_journal(journal: str | os.PathLike[str]) -> JournalStat:
    """Return the size and time of a journal.

    Raises:
        OSError: as in `open_journal`.
    """
    with suppress(FileNotFoundError):
        found = os.stat(journal)
        return JournalStat(found.st_size, found.st_mtime_ns)
    with open_journal(journal) as file:
        return JournalStat(file.seek(0, os.SEEK_END), file_of(Path(journal)).stat().st_mtime_ns)


def compress(journal: Path) -> None:
    """Replace a journal with a compressed one. Only for the process that holds the writer's lock.

    Raises:
        PluginNotInstalledError: the package for it is missing.
        OSError: it cannot be written; the journal is unchanged.
    """
    frames_in, options = _zstd().SeekableZstdFile, {"level_or_option": _LEVEL, "max_frame_content_size": _FRAME}
    with (
        open_regular(journal) as file,
        _replacing(_compressed(journal), file) as target,
        frames_in(target, "w", **options) as frames,
    ):
        shutil.copyfileobj(file, frames, _BUFFER)
    journal.unlink()


def restore(journal: Path) -> None:
    """Undo `compress`, so that the journal can be appended to. Only for the process that holds the writer's lock.

    Raises:
        OSError: it cannot be written.
    """
    compressed = _compressed(journal)
    if not compressed.exists():
        return
    if not journal.exists():
        with open_regular(compressed) as times, open_journal(journal) as file, _replacing(journal, times) as target:
            shutil.copyfileobj(file, target, _BUFFER)
    compressed.unlink()


def _compressed(journal: Path) -> Path:
    return journal.with_name(journal.name + COMPRESSED)


@contextmanager
def _replacing(path: Path, former: BinaryIO) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces ``path`` when it is on the disk, with the times of ``former``."""
    with replacing(path) as file:
        yield file
        file.flush()
        times = os.fstat(former.fileno())
        os.utime(file.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_compressed(path: Path) -> BinaryIO:
    file = open_regular(path)
    try:
        return cast(BinaryIO, io.BufferedReader(_CompressedFile(file, path), _BUFFER))
    except BaseException:
        file.close()
        raise


class _CompressedFile(io.RawIOBase):
    """A compressed file; what is damaged raises OSError."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        zstd = _zstd()
        self._errors = (zstd.ZstdError, zstd.SeekableFormatError, EOFError, RuntimeError, ValueError)
        self._frames = self._checked(zstd.SeekableZstdFile, file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._checked(self._frames.readinto, buffer))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._checked(self._frames.seek, offset, whence))

    def tell(self) -> int:
        return int(self._frames.tell())

    def close(self) -> None:
        self._file.close()
        super().close()

    def _checked(self, read: Any, *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except self._errors as error:
            raise OSError(f"{self._path} is damaged: {error}") from error


def _zstd() -> Any:
    try:
        import pyzstd
    except ImportError as error:
        raise PluginNotInstalledError("compressed journals need pyzstd: pip install 'rankzero[clean]'") from error
    return pyzstd
