"""Files that are kept though they may be deleted or replaced: as hard links, or opened now and copied later."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

log = logging.getLogger("rankzero")

_CHUNK = 1 << 20
_MOST_OPEN = 64  # of one checkpoint, for a process may often have no more than 1024


class OpenFile(NamedTuple):
    """A file that is to be copied, which its deletion does not hinder."""

    file: BinaryIO
    kept: Path
    """Where it is copied to."""
    state: tuple[int, int]
    """What it was when it was opened: time of the last change in ns, and size in bytes."""


def files_of(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return what files ``source`` consists of, and where each is to be kept; make the directories for it."""
    if not source.is_dir():
        return [(source, target)]
    found = []
    for directory, _, names in os.walk(source, followlinks=True):
        there = target / os.path.relpath(directory, source)
        there.mkdir(parents=True)
        found += [(Path(directory, name), there / name) for name in names]
    return found


def link(files: list[tuple[Path, Path]]) -> bool:
    """Link each file to where it is to be kept; return False, and leave none, where that cannot be."""
    try:
        for each, kept in files:
            os.link(os.path.realpath(each), kept)  # a link to a symbolic link would lead nowhere
    except OSError:  # another file system, or one without hard links
        for _, kept in files:
            kept.unlink(missing_ok=True)
        return False
    return True


def open_all(files: list[tuple[Path, Path]]) -> list[OpenFile]:
    """Open the files for `copy`.

    Raises:
        OSError: one cannot be read, or not be copied.
    """
    import shutil

    with ExitStack() as stack:
        opened = [(stack.enter_context(open(each, "rb")), kept) for each, kept in files[:_MOST_OPEN]]
        # The caller waits for the copies of the others, as a process can open only so many files.
        for each, kept in files[_MOST_OPEN:]:
            shutil.copyfile(each, kept)
        found = [OpenFile(file, kept, _state(file)) for file, kept in opened]
        stack.pop_all()
    return found


def copy(files: list[OpenFile]) -> bool:
    """Copy and close the files; return False, and say so, if one was written again since it was opened.

    Raises:
        OSError: a file cannot be read, or its copy not be written.
    """
    import shutil

    with ExitStack() as stack:
        for file, _, _ in files:
            stack.enter_context(file)
        for file, kept, state in files:
            with open(kept, "wb") as copied:
                shutil.copyfileobj(file, copied, _CHUNK)
            if _state(file) != state:
                log.warning("%s was written again before it was copied: its older form is lost", file.name)
                return False
    return True


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size
