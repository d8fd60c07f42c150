"""Which files and directories below a path are Neptune's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankzero.errors import RunNotFoundError
from rankzero.rundir.layout import JOURNAL

_SQLITE = b"SQLite format 3\0"
_PARQUET = b"PAR1"
_NOT_SEARCHED = frozenset({".git", "node_modules", "__pycache__", "site-packages"})


@dataclass
class Sources:
    """What was found, each path once."""

    logs: list[Path] = field(default_factory=list)
    """Directories in which a Neptune 1.x client kept its operations."""
    databases: list[Path] = field(default_factory=list)
    """SQLite files of neptune-scale."""
    tables: list[Path] = field(default_factory=list)
    """Parquet files, perhaps of neptune-exporter."""
    unreadable: dict[Path, OSError] = field(default_factory=dict)
    """Files and directories in which nobody could look, and why."""

    def __bool__(self) -> bool:
        return bool(self.logs or self.databases or self.tables or self.unreadable)

    def cannot_read(self, error: OSError) -> None:
        """Note a path that cannot be read."""
        self.unreadable[Path(str(error.filename))] = error


def find_sources(paths: Sequence[Path]) -> Sources:
    """Return what is in ``paths``: projects, ``.neptune`` directories, directories of runs, single files.

    Raises:
        RunNotFoundError: one of them does not exist, or holds nothing of Neptune's.
    """
    everything = Sources()
    for path in paths:
        found = _sources_in(path)
        if not found:
            raise RunNotFoundError(
                f"there is nothing of Neptune's in {path}. Give a project's directory with .neptune in it, .neptune "
                "itself, the directory of one run (with data-1.log in it), a run_operations.sqlite3 of neptune-scale, "
                "or the Parquet files of neptune-exporter"
            )
        everything.logs += found.logs
        everything.databases += found.databases
        everything.tables += found.tables
        everything.unreadable.update(found.unreadable)
    return Sources(_once(everything.logs), _once(everything.databases), _once(everything.tables), everything.unreadable)


def _once(paths: list[Path]) -> list[Path]:
    return sorted({path.resolve() for path in paths})


def _sources_in(path: Path) -> Sources:
    found = Sources()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(f"there is no file or directory {path}") from None
    except OSError as error:
        found.cannot_read(error)
        return found
    if path.is_file():
        _sort_file(path, found)
        return found
    for directory, names in _walk(path, found.cannot_read):
        if any(_is_log(name) for name in names):
            found.logs.append(directory)
        for name in names:
            if name.endswith((".sqlite3", ".parquet")):
                _sort_file(directory / name, found)
    return found


def _walk(top: Path, on_error: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """Yield (directory, names of its files), each directory once, also one that a link leads to."""
    visited = {os.path.realpath(top)}
    for directory, folders, names in os.walk(top, onerror=on_error, followlinks=True):
        inner = {os.path.realpath(os.path.join(directory, name)): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(name for real, name in inner.items() if real not in visited and name not in _NOT_SEARCHED)
        visited.update(inner)
        if JOURNAL in names:  # a run that was imported before, perhaps with such files in it
            folders.clear()
        else:
            yield Path(directory), sorted(names)


def _sort_file(path: Path, found: Sources) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe might never end
            return
        with open(path, "rb") as file:
            start = file.read(len(_SQLITE))
    except OSError as error:
        found.cannot_read(error)
        return
    if start == _SQLITE:
        found.databases.append(path)
    elif start.startswith(_PARQUET):
        found.tables.append(path)
    elif _is_log(path.name):
        found.logs.append(path.parent)


def _is_log(name: str) -> bool:
    return name.startswith("data-") and name.endswith(".log") and name[5:-4].isdigit()
