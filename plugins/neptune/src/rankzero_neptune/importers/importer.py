"""`NeptuneImporter`: the runs in files and directories, whichever of Neptune's tools wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from rankzero.errors import ConfigError, RunError
from rankzero.importers.base import FoundRun, Importer
from rankzero_neptune.rescue.client_run import client_runs
from rankzero_neptune.rescue.exported_run import exported_runs
from rankzero_neptune.rescue.finding import find_sources
from rankzero_neptune.rescue.passed_over import PassedOver
from rankzero_neptune.rescue.scale_run import scale_runs


class NeptuneImporter(Importer):
    """Reads what was never synced, and what was exported.

    Args:
        unsynced_only: leave out the operations that Neptune had acknowledged. By default everything that is there is
            taken.
        files: the directory with the files that neptune-exporter downloaded, where it is not beside the Parquet files.
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
        sources = find_sources(paths)
        return [
            *client_runs(sources.logs, unsynced_only=self._unsynced_only),
            *scale_runs(sources.databases),
            *exported_runs(sources.tables, self._files),
            *(
                PassedOver(path, RunError(f"it cannot be read: {error.strerror or error}"))
                for path, error in sources.unreadable.items()
            ),
        ]
