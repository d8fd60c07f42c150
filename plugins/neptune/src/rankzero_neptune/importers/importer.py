"""`NeptuneImporter`: find runs of Neptune's clients and exporter in files and directories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from rankzero.errors import ConfigError, RunError
from rankzero.importers.base import FoundRun, Importer
from rankzero_neptune.importers.client_log import LogDirectory
from rankzero_neptune.importers.client_run import ClientRun
from rankzero_neptune.importers.exported_run import ExportedRun
from rankzero_neptune.importers.exported_table import ExportedTable
from rankzero_neptune.importers.finding import find_files
from rankzero_neptune.importers.scale_database import ScaleDatabase
from rankzero_neptune.importers.scale_run import ScaleRun
from rankzero_neptune.importers.sources import SkippedSource, find_runs

_PART = re.compile(r"part_(\d+)\.parquet$")


class NeptuneImporter(Importer):
    """Imports runs that were never synced to Neptune, and runs that were exported from it.

    Args:
        unsynced_only: leave out operations that Neptune had acknowledged. By default everything is imported.
        files: the directory of files that neptune-exporter downloaded, if it is not beside the Parquet files.
    """

    summary: ClassVar[str] = ".neptune directories, neptune-scale's SQLite files, neptune-exporter's Parquet files"

    def __init__(self, unsynced_only: bool = False, files: str | None = None) -> None:
        if not isinstance(unsynced_only, bool):
            raise ConfigError(f"unsynced_only is true or false, not {unsynced_only!r}")
        if files is not None and not Path(files).is_dir():
            raise ConfigError(f"files={files}: there is no such directory")
        self._unsynced_only = unsynced_only
        self._files = Path(files) if files else None

    def find(self, paths: Sequence[Path]) -> Iterable[FoundRun]:
        found = find_files(paths)
        return [
            *find_runs(sorted(found.logs), LogDirectory, lambda run, logs: ClientRun(run, logs, self._unsynced_only)),
            *find_runs(sorted(found.databases), ScaleDatabase, ScaleRun),
            *find_runs(sorted(found.tables, key=_by_part), ExportedTable, self._exported_run),
            *(
                SkippedSource(path, RunError(f"it cannot be read: {error.strerror or error}"))
                for path, error in found.unreadable.items()
            ),
        ]

    def _exported_run(self, run: tuple[str, ...], tables: list[ExportedTable]) -> FoundRun:
        return ExportedRun(run, tables, self._files)


def _by_part(path: Path) -> tuple[str, int]:
    part = _PART.search(path.name)
    return (str(path)[: -len(part[0])], int(part[1])) if part else (str(path), 0)
