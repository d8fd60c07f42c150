"""Search directories for files of Neptune's clients and exporter."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankzero.errors import RunNotFoundError
from rankzero.rundir.layout import JOURNAL

_SQLITE = b"SQLite format 3\0"
_PARQUET = b"PAR1"
_SKIPPED_DIRECTORIES = frozenset({".git", "node_modules", "__pycache__", "site-packages"})


@dataclass
class FoundFiles:
    """The files that were found, each path once."""

    logs: set[Path] = field(default_factory=set)
    """Directories with the operations of a Neptune 1.x client."""
    databases: set[Path] = field(default_factory=set)
    """SQLite files, perhaps of neptune-scale."""
    tables: set[Path] = field(default_factory=set)
    """Parquet files, perhaps of neptune-exporter."""
    unreadable: dict[Path, OSError] = field(default_factory=dict)
    """Files and directories that cannot be read, and the errors."""

    def count(self) -> int:
        """Return the number of all of these."""
        return len(self.logs) + len(self.databases) + len(self.tables) + len(self.unreadable)

    def add_unreadable(self, error: OSError) -> None:
        """Add the path of an error."""
        self.unreadable[Path(str(error.filename))] = error

    def add(self, path: Path) -> None:
        """Add a file if it is one of Neptune's, by its name and first bytes."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe might never end
                return
            with open(path, "rb") as file:
                start = file.read(len(_SQLITE))
        except OSError as error:
            self.add_unreadable(error)
            return
        if start == _SQLITE:
            self.databases.add(path.resolve())
        elif start.startswith(_PARQUET):
            self.tables.add(path.resolve())
        elif _is_log(path.name):
            self.logs.add(path.parent.resolve())

    def add_directory(self, top: Path) -> None:
        """Add the files of a directory and its subdirectories, also linked ones, each once."""
        visited = {os.path.realpath(top)}
        for directory, folders, names in os.walk(top, onerror=self.add_unreadable, followlinks=True):
            inner = {os.path.realpath(os.path.join(directory, name)): name for name in sorted(folders, reverse=True)}
            folders[:] = sorted(
                name for real, name in inner.items() if real not in visited and name not in _SKIPPED_DIRECTORIES
            )
            visited.update(inner)
            if JOURNAL in names:  # a run of rankzero, which may contain such files
                folders.clear()
                continue
            if any(map(_is_log, names)):
                self.logs.add(Path(directory).resolve())
            for name in sorted(names):
                if name.endswith((".sqlite3", ".parquet")):
                    self.add(Path(directory, name))


def find_files(paths: Sequence[Path]) -> FoundFiles:
    """Search ``paths``: directories of projects or runs, ``.neptune`` directories, single files.

    Raises:
        RunNotFoundError: one of them does not exist, or has no file of Neptune.
    """
    found = FoundFiles()
    for path in paths:
        of_path = FoundFiles()
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise RunNotFoundError(f"there is no file or directory {path}") from None
        except OSError as error:
            of_path.add_unreadable(error)
        else:
            of_path.add(path) if path.is_file() else of_path.add_directory(path)
        if not of_path.count():
            raise RunNotFoundError(
                f"{path} has no data of Neptune. Name a project's directory with .neptune in it, .neptune itself, the "
                "directory of one run (with data-1.log in it), a run_operations.sqlite3 of neptune-scale, or the "
                "Parquet files of neptune-exporter"
            )
        found.logs |= of_path.logs
        found.databases |= of_path.databases
        found.tables |= of_path.tables
        found.unreadable |= of_path.unreadable
    return found


def _is_log(name: str) -> bool:
    return name.startswith("data-") and name.endswith(".log") and name[5:-4].isdigit()
