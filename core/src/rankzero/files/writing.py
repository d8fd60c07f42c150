"""Write files atomically, and never through a link.

Another user may have written a run's directory, and put a link where rankzero is going to write. So a new file is
written under an unpredictable name in the same directory and then renamed, and a file to append to must be a regular
file. Copies are made in the same way: a file under its final name is complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

import msgspec

from rankzero.errors import NotAFileError, UnsafePathError

T = TypeVar("T")

_CHUNK = 1 << 20
_SMALL = 1 << 16
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe must not wait for its other end


@contextmanager
def temporary_in(directory: Path) -> Iterator[Path]:
    """Yield an unpredictable path for a new file in ``directory``; the file is removed unless it was renamed."""
    path = directory / f".rankzero-{uuid.uuid4().hex}.part"  # the suffix keeps tools from reading it
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces ``path`` at the end unless an exception is raised.

    Raises:
        OSError: the directory cannot be written, or the disk is full; ``path`` is unchanged.
    """
    with temporary_in(path.parent) as beside:
        with os.fdopen(os.open(beside, _NEW, 0o666), "wb") as file:
            yield file
        os.replace(beside, path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: neither a reader nor a crash finds a half-written file.

    Raises:
        OSError: as in `replacing`.
    """
    with replacing(path) as file:
        file.write(content)


def copy_file(source: str | os.PathLike[str], target: Path) -> None:
    """Copy the content of ``source`` to ``target``, which is replaced atomically.

    Raises:
        NotAFileError: ``source`` is not a regular file.
        OSError: ``source`` cannot be read, or ``target`` cannot be written; ``target`` is unchanged.
    """
    with open_regular(source) as original, replacing(target) as copy:
        while chunk := original.read(_CHUNK):
            copy.write(chunk)


def link_or_copy(source: str | os.PathLike[str], target: Path) -> None:
    """Make ``target`` a hard link to the file ``source``, or a copy if no hard link is possible.

    An existing file at ``target`` is replaced.

    Raises:
        NotAFileError: ``source`` is not a regular file.
        OSError: as in `copy_file`.
    """
    real = os.path.realpath(source)
    with temporary_in(target.parent) as beside:
        try:
            os.link(real, beside, follow_symlinks=False)
        except OSError:  # another file system, one without hard links, or another user's file
            copy_file(real, target)
            return
        if not stat.S_ISREG(os.lstat(beside).st_mode):
            raise _not_a_file(source)
        os.replace(beside, target)  # does nothing if both are hard links to one file already


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, following links; never waits for a pipe.

    Raises:
        NotAFileError: the path is a directory, a pipe or a device.
        OSError: the file cannot be read.
    """
    return _opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, "rb")


def open_own(path: str | os.PathLike[str], mode: str = "rb", permissions: int = 0o666) -> BinaryIO:
    """Open a file that rankzero has written or is going to write; links are refused.

    Args:
        path: the file.
        mode: ``rb``, ``r+b``, or ``ab``, which creates the file if necessary.
        permissions: the permissions of a new file, before the umask.

    Raises:
        NotAFileError: the path is a link, a directory, a pipe or a device.
        OSError: the file cannot be opened.
    """
    flags = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT}[mode]
    return _opened(path, flags | _OLD, mode, permissions)


def open_descriptor(path: str | os.PathLike[str], flags: int, permissions: int = 0o666) -> int:
    """Open a file like `open_own`, with flags of ``os.open``; return its descriptor.

    Raises:
        NotAFileError: the path is a link, a directory, a pipe or a device.
        OSError: the file cannot be opened.
    """
    return _open(path, flags | _OLD, permissions)


def lock_permissions() -> int:
    """Return the permissions of a lock file: the group may lock it only if the umask lets it write, others never."""
    try:
        status = Path("/proc/self/status").read_text()
        umask = int(status.partition("\nUmask:")[2].split()[0], 8)
    except (OSError, ValueError, IndexError):  # not Linux
        return 0o600
    return 0o600 if umask & 0o020 else 0o660


def read_own(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file that rankzero has written.

    Raises:
        NotAFileError: the path is a link, a directory, a pipe or a device.
        OSError: the file cannot be read.
    """
    descriptor = open_descriptor(path, os.O_RDONLY)
    try:  # a file object takes twice as long, and `rankzero ls` reads two small files of each run
        return b"".join(iter(partial(os.read, descriptor, _SMALL), b""))
    finally:
        os.close(descriptor)


def read_own_json(path: str | os.PathLike[str], kind: type[T]) -> T | None:
    """Return the content of a JSON file that rankzero has written; None if there is none, or it is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return msgspec.json.decode(read_own(path), type=kind)
    except (FileNotFoundError, NotAFileError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def check_own(path: Path) -> Path:
    """Return the path of a file that other code is going to open or create.

    Raises:
        NotAFileError: the path is a link, a directory, a pipe or a device.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _not_a_file(path)
    return path


def inside(directory: Path, path: str | os.PathLike[str]) -> Path:
    """Return ``directory / path`` if the resolved path is inside ``directory``.

    Args:
        directory: the directory, which may itself be a link.
        path: a relative path, which need not exist.

    Raises:
        UnsafePathError: the path is absolute, leads out of the directory, or is the directory itself.
    """
    text = os.fspath(path)
    if text and "\0" not in text and not os.path.isabs(text):
        root = os.path.realpath(directory)
        if os.path.realpath(os.path.join(root, text)).startswith(os.path.join(root, "")):
            return directory / text
    raise UnsafePathError(f"{text!r} is not a path inside {directory}")


def make_directory(directory: Path, path: str | os.PathLike[str]) -> Path:
    """Make the directory ``directory / path`` and those above it, and return it.

    Raises:
        UnsafePathError: a link leads out of ``directory``.
        OSError: the directory cannot be made.
    """
    made = inside(directory, path)
    made.mkdir(parents=True, exist_ok=True)
    return made


def state_directory() -> Path:
    """Return rankzero's state directory of this user; it need not exist.

    Raises:
        FileNotFoundError: the user has no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not os.path.isabs(state):
        raise FileNotFoundError("the user has no home directory")
    return Path(state, "rankzero")


def _opened(path: str | os.PathLike[str], flags: int, mode: str, permissions: int = 0o666) -> BinaryIO:
    file: IO[bytes] = os.fdopen(_open(path, flags, permissions), mode)
    return file  # type: ignore[return-value]


def _open(path: str | os.PathLike[str], flags: int, permissions: int) -> int:
    try:
        descriptor = os.open(path, flags, permissions)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a pipe, a directory
            raise _not_a_file(path) from None
        raise
    if descriptor <= 2:  # the process has no stdio; output of C libraries must not get into our file
        low, descriptor = descriptor, fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(low)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_file(path)
    return descriptor


def _not_a_file(path: str | os.PathLike[str]) -> NotAFileError:
    what = "a link" if os.path.islink(path) else "not a regular file"
    return NotAFileError(f"{os.fspath(path)} is {what}, and rankzero uses only regular files there; remove it")
