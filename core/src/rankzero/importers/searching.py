"""Search files and directories for the data of another tool."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from rankzero.errors import RunNotFoundError
from rankzero.rundir.layout import JOURNALS

_SKIPPED_DIRECTORIES = frozenset({".git", "node_modules", "__pycache__", "site-packages"})


def find_files(
    source: str, is_wanted: Callable[[Path], bool], unreadable: Callable[[Path, OSError], None]
) -> Iterator[Path]:
    """Yield ``source`` itself if it is a file, or the files in a directory and its subdirectories, in order.

    Links are followed; each directory is searched once. Runs of rankzero, pipes and devices are left out.

    Args:
        source: the path of a file or directory.
        is_wanted: called with the path of a file in a directory; returns whether to yield it.
        unreadable: called with a file or directory that cannot be read, and the error.

    Raises:
        RunNotFoundError: there is no file or directory ``source``.
    """
    path = Path(source)
    try:
        is_file = not stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(f"there is no file or directory {source}") from None
    except OSError as error:
        unreadable(path, error)
        return
    for each in [path] if is_file else filter(is_wanted, _walk(path, unreadable)):
        try:
            if stat.S_ISREG(each.stat().st_mode):  # opening a pipe might never end
                yield each
        except OSError as error:
            unreadable(each, error)


def _walk(top: Path, unreadable: Callable[[Path, OSError], None]) -> Iterator[Path]:
    def on_error(error: OSError) -> None:
        unreadable(Path(str(error.filename)), error)

    visited = {os.path.realpath(top)}
    for directory, folders, names in os.walk(top, onerror=on_error, followlinks=True):
        inner = {os.path.realpath(os.path.join(directory, name)): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(
            name for real, name in inner.items() if real not in visited and name not in _SKIPPED_DIRECTORIES
        )
        visited.update(inner)
        if not JOURNALS.isdisjoint(names):  # a run of rankzero, which may contain such files
            folders.clear()
            continue
        yield from (Path(directory, name) for name in sorted(names))
