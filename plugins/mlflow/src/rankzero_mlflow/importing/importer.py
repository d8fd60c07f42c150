"""`MlflowImporter`: find the runs of MLflow's directories, databases and servers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from rankzero.errors import ConfigError, RunError, RunNotFoundError
from rankzero.importers.base import FoundRun, Importer, SkippedSource, SkipRun
from rankzero.importers.searching import find_files
from rankzero.importers.sqlite_file import is_sqlite
from rankzero_mlflow.importing.database import MlflowDatabase
from rankzero_mlflow.importing.file_store import FileRun, FileStores
from rankzero_mlflow.importing.run import MlflowRun
from rankzero_mlflow.importing.server import MlflowServer

_DATABASES = (".db", ".sqlite", ".sqlite3")
_RUN = re.compile(r"[0-9a-f]{32}")
_IN_RUN = ("meta.yaml", "metrics", "params", "tags")
_OTHERS = ("datasets", "inputs")
"""Directories with subdirectories whose names are like those of runs."""


class MlflowImporter(Importer):
    """Imports the runs of MLflow.

    Args:
        artifacts: the directory with EXPERIMENT/RUN/artifacts, if the artifacts of a database were moved.
    """

    summary: ClassVar[str] = "mlruns directories, SQLite databases, tracking servers (http://…)"

    def __init__(self, artifacts: str | None = None) -> None:
        if artifacts is not None and not Path(artifacts).is_dir():
            raise ConfigError(f"artifacts={artifacts}: the directory does not exist")
        self._artifacts = None if artifacts is None else Path(artifacts).absolute()

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        found: dict[str, FoundRun] = {}
        for source in sources:
            runs = list(self._find(str(source)))
            if not runs:
                raise RunNotFoundError(
                    f"{source} has no runs of MLflow. Name an mlruns directory, a database (mlflow.db or "
                    "sqlite:///PATH), or a tracking server (http://HOST:PORT)"
                )
            deleted = [run for run in runs if isinstance(run, MlflowRun) and run.is_deleted]
            for run in runs:
                if run not in deleted:
                    found.setdefault(run.identity, run)
            if deleted:
                named = f"{len(deleted):,} deleted run{'s' * (len(deleted) > 1)}"
                found[f"deleted in {source}"] = SkippedSource(source, SkipRun(named))
        return list(found.values())

    def _find(self, source: str) -> Iterator[FoundRun]:
        if (path := _local_path(source)) is None:
            yield from MlflowServer(source).runs()
            return
        unreadable: dict[Path, OSError] = {}
        stores, runs = FileStores(), set[Path]()
        for file in find_files(os.path.abspath(path), _is_wanted(runs), unreadable.__setitem__):
            if (run := _run_of(file)) is not None:
                yield FileRun(run, stores)
            else:
                yield from self._in_database(file)
        for each, error in unreadable.items():
            yield SkippedSource.unreadable(each, error)

    def _in_database(self, file: Path) -> Iterator[FoundRun]:
        try:
            if is_sqlite(file):
                database = MlflowDatabase(file.resolve(), self._artifacts)
                if database.is_mlflow():
                    yield from database.runs()
        except (OSError, RunError) as error:
            yield SkippedSource(file, error)


def _local_path(source: str) -> str | None:
    """Return the path of a directory or SQLite database; None for the URI of a server or another database."""
    parts = urlsplit(source)
    if parts.scheme == "sqlite":  # sqlite:///relative, sqlite:////absolute
        return unquote(parts.path).removeprefix("/")
    if parts.scheme == "file":
        return unquote(parts.path)
    is_server = "://" in source or source.partition(":")[0] in ("databricks", "databricks-uc", "uc")
    return None if is_server and not os.path.exists(source) else source


def _is_wanted(runs: set[Path]) -> Callable[[Path], bool]:
    """Return a filter for a file of each run, which it adds to ``runs``, and for possible databases."""

    def is_wanted(file: Path) -> bool:
        run = _run_of(file)
        if run is None:
            return file.suffix in _DATABASES
        is_new = run not in runs
        runs.add(run)
        return is_new

    return is_wanted


def _run_of(file: Path) -> Path | None:
    """Return the run's directory of a file in a file store; None for artifacts."""
    parts = file.parts
    for index, (above, name, below) in enumerate(zip(parts, parts[1:], parts[2:], strict=False), 1):
        if _RUN.fullmatch(name) and above not in _OTHERS:
            if below in _IN_RUN:
                return Path(*parts[: index + 1])
            if below == "artifacts":
                return None
    return None
