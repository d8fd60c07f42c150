"""Copy or hard-link a file, so that it stays when the script deletes or replaces it."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rankzero.errors import NotAFileError
from rankzero.files.writing import open_regular

log = logging.getLogger("rankzero")

_CHUNK = 1 << 20
_MOST_OPEN = 64  # files of one checkpoint; a process may often have at most 1024 open files
_MOST_NAMED = 10
_OWN_DIRECTORIES = 5  # RUNS/PROJECT/RUN/checkpoints/ID: the directories of the copy itself, which must not be copied
_DEEPEST_LINK = 16  # nested links to directories; more would multiply without end if they form cycles


class OpenFile(NamedTuple):
    """An open file to copy; it can be copied even after it was deleted."""

    file: BinaryIO
    kept: Path
    """The path of the copy."""
    state: tuple[int, int]
    """The `state` of the file when it was opened."""


def files_of(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return the files of ``source``, each with the path of its copy; make the directories for the copies.

    Links are followed. Broken links, links to a parent directory, pipes, unreadable files, and the directories that
    contain ``target`` are left out, with a warning.

    Args:
        source: a file or a directory.
        target: ``RUNS/PROJECT/RUN/checkpoints/ID/NAME``.

    Raises:
        NotAFileError: ``source`` is a pipe or a device.
        OSError: ``target`` cannot be written.
    """
    if not source.is_dir():
        if source.exists() and not source.is_file():
            raise NotAFileError(f"{source} is not a file or directory, but a pipe, a socket or a device")
        return [(source, target)]
    walk = _Walk(source, target)
    walk.enter(source, target, ())
    if walk.left_out:
        more = f" and {len(walk.left_out) - _MOST_NAMED:,} more" if len(walk.left_out) > _MOST_NAMED else ""
        log.warning("%s is kept without these files: %s%s", source, ", ".join(walk.left_out[:_MOST_NAMED]), more)
    return walk.found


class _Walk:
    """Collects the files to copy from a directory."""

    def __init__(self, source: Path, target: Path) -> None:
        self.found: list[tuple[Path, Path]] = []
        self.left_out: list[str] = []
        self._source = source
        around = {os.path.realpath(each) for each in target.parents[:_OWN_DIRECTORIES]}
        self._own = around - {os.path.realpath(source)}

    def enter(self, directory: Path, there: Path, parents: tuple[str, ...]) -> None:
        """Collect the files of ``directory``, to copy to ``there``; ``parents`` are the directories above it."""
        parents = (*parents, os.path.realpath(directory))
        there.mkdir(parents=True)
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            self._leave_out(directory, str(error.strerror))
            return
        for name in names:
            self._look_at(directory / name, there / name, parents)

    def _look_at(self, path: Path, kept: Path, parents: tuple[str, ...]) -> None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            self._leave_out(path, "a broken link" if path.is_symlink() else str(error.strerror))
            return
        if stat.S_ISDIR(mode):
            real = os.path.realpath(path)
            if real in self._own:
                self._leave_out(path, "runs are kept there")
            elif real in parents or (path.is_symlink() and len(parents) > _DEEPEST_LINK):
                self._leave_out(path, "a link to a directory around it")
            else:
                self.enter(path, kept, parents)
        elif not stat.S_ISREG(mode):
            self._leave_out(path, "a pipe, a socket or a device")
        elif os.access(path, os.R_OK):
            self.found.append((path, kept))
        else:
            self._leave_out(path, "cannot be read")

    def _leave_out(self, path: Path, why: str) -> None:
        self.left_out.append(f"{path.relative_to(self._source)} ({why})")


def link(files: list[tuple[Path, Path]]) -> bool:
    """Hard-link each file to the path of its copy; if that is impossible, remove the links and return False."""
    try:
        for each, kept in files:
            os.link(os.path.realpath(each), kept)  # a hard link to a relative symbolic link would be broken
    except OSError:  # another file system, or one without hard links
        for _, kept in files:
            kept.unlink(missing_ok=True)
        return False
    return True


def copy_now(files: list[tuple[Path, Path]]) -> None:
    """Copy each file; files that were deleted meanwhile are left out, with a warning.

    Raises:
        OSError: the only file does not exist, a file cannot be read, or a copy cannot be written.
    """
    for each, kept in files:
        try:
            with open_regular(each) as file:
                _write(file, kept)
        except FileNotFoundError:
            if len(files) == 1:
                raise
            log.warning("%s is not kept: it was deleted before it could be copied", each)


def open_all(files: list[tuple[Path, Path]]) -> list[OpenFile]:
    """Open the files for `copy`.

    Raises:
        OSError: a file cannot be read or copied.
    """
    with ExitStack() as stack:
        opened = [(stack.enter_context(open_regular(each)), kept) for each, kept in files[:_MOST_OPEN]]
        copy_now(files[_MOST_OPEN:])  # copied at once, because the number of open files is limited
        found = [OpenFile(file, kept, state(file)) for file, kept in opened]
        stack.pop_all()
    return found


def copy(files: list[OpenFile]) -> None:
    """Copy and close the files.

    Raises:
        OSError: a file was changed since it was opened, cannot be read, or its copy cannot be written.
    """
    with ExitStack() as stack:
        for file, _, _ in files:
            stack.enter_context(file)
        for file, kept, before in files:
            _write(file, kept)
            if state(file) != before:
                raise OSError(
                    f"{kept.name} was overwritten before it was copied, and its old content is lost; save each file "
                    "under its own name, or write a temporary file and rename it"
                )


def state(file: BinaryIO) -> tuple[int, int]:
    """Return what changes when a file is written: the time of its last change in ns, and its size in bytes."""
    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size


def size(files: list[tuple[Path, Path]]) -> int:
    """Return the total size of the files in bytes; missing files do not count."""
    total = 0
    for each, _ in files:
        with suppress(OSError):
            total += os.path.getsize(each)
    return total


def _write(file: BinaryIO, kept: Path) -> None:
    import shutil

    with open(kept, "wb") as copied:
        shutil.copyfileobj(file, copied, _CHUNK)
        os.fchmod(copied.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
