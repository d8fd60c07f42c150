"""`NeptuneImporter`: find runs of Neptune's clients and exporter in files and directories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rankzero.errors import ConfigError, RunNotFoundError
from rankzero.importers.base import FoundRun, Importer, SkippedSource
from rankzero.importers.searching import find_files
from rankzero_neptune.importing.client_log import LogDirectory
from rankzero_neptune.importing.client_run import ClientRun
from rankzero_neptune.importing.exported_run import ExportedRun
from rankzero_neptune.importing.exported_table import ExportedTable
from rankzero_neptune.importing.scale_database import ScaleDatabase
from rankzero_neptune.importing.scale_run import ScaleRun
from rankzero_neptune.importing.sources import find_runs

_SQLITE = b"SQLite format 3\0"
_PARQUET = b"PAR1"
_PART = re.compile(r"part_(\d+)\.parquet$")


class NeptuneImporter(Importer):
    """Imports runs that were never synced to Neptune, and runs that were exported from it.

    Args:
        unsynced_only: leave out operations that Neptune had acknowledged. By default everything is imported.
        files: the directory of files that neptune-exporter downloaded, if it is not beside the Parquet files.
    """

    summary: ClassVar[str] = ".neptune directories, neptune-scale's SQLite files, neptune-exporter's Parquet files"

    def __init__(self, unsynced_only: bool = False, files: str | None = None) -> None:
        if files is not None and not Path(files).is_dir():
            raise ConfigError(f"files={files}: there is no such directory")
        self._unsynced_only = unsynced_only
        self._files = Path(files) if files else None

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        found = _find_files(sources)
        return [
            *find_runs(sorted(found.logs), LogDirectory, lambda run, logs: ClientRun(run, logs, self._unsynced_only)),
            *find_runs(sorted(found.databases), ScaleDatabase, ScaleRun),
            *find_runs(sorted(found.tables, key=_by_part), ExportedTable, self._exported_run),
            *(SkippedSource.unreadable(*each) for each in found.unreadable.items()),
        ]

    def _exported_run(self, run: tuple[str, ...], tables: list[ExportedTable]) -> FoundRun:
        return ExportedRun(run, tables, self._files)


def _by_part(path: Path) -> tuple[str, int]:
    part = _PART.search(path.name)
    return (str(path)[: -len(part[0])], int(part[1])) if part else (str(path), 0)


@dataclass
class _FoundFiles:
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

    def add(self, path: Path) -> None:
        """Add a file if it is one of Neptune's, by its name and first bytes."""
        try:
            with open(path, "rb") as file:
                start = file.read(len(_SQLITE))
        except OSError as error:
            self.unreadable[path] = error
            return
        if start == _SQLITE:
            self.databases.add(path.resolve())
        elif start.startswith(_PARQUET):
            self.tables.add(path.resolve())
        elif _is_log(path.name):
            self.logs.add(path.parent.resolve())


def _find_files(sources: Sequence[str]) -> _FoundFiles:
    """Search ``sources``: directories of projects or runs, ``.neptune`` directories, single files.

    Raises:
        RunNotFoundError: one of them does not exist, or has no file of Neptune.
    """
    found = _FoundFiles()
    for source in sources:
        of_source = _FoundFiles()
        for path in find_files(source, _has_our_name, of_source.unreadable.__setitem__):
            of_source.add(path)
        if not of_source.count():
            raise RunNotFoundError(
                f"{source} has no data of Neptune. Name a project's directory with .neptune in it, .neptune itself, "
                "the directory of one run (with data-1.log in it), a run_operations.sqlite3 of neptune-scale, or the "
                "Parquet files of neptune-exporter"
            )
        found.logs |= of_source.logs
        found.databases |= of_source.databases
        found.tables |= of_source.tables
        found.unreadable |= of_source.unreadable
    return found


def _has_our_name(path: Path) -> bool:
    return path.suffix in (".sqlite3", ".parquet") or _is_log(path.name)


def _is_log(name: str) -> bool:
    return name.startswith("data-") and name.endswith(".log") and name[5:-4].isdigit()
