"""Read runs of MLflow's SQLite database without its client, which would add tables and experiments to it."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rankzero.errors import RunError
from rankzero.importers.base import Report
from rankzero.importers.sqlite_file import SqliteFile
from rankzero_mlflow.importing.artifacts import local_folder
from rankzero_mlflow.importing.points import Point
from rankzero_mlflow.importing.run import Content, Details, MlflowRun

_NEEDED = {
    "experiments": {"experiment_id", "name"},
    "runs": {
        "run_uuid",
        "name",
        "status",
        "start_time",
        "end_time",
        "lifecycle_stage",
        "artifact_uri",
        "experiment_id",
    },
    "metrics": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
}
_BATCH = 10_000  # rows of a statement, during which other processes cannot write
_DAMAGED_BATCH = 500
_MAX_ROWS = 1 << 24  # to search for in a damaged database
_RUNS = """
    SELECT r.run_uuid, r.name, e.name, r.status, r.start_time, r.end_time, r.artifact_uri, r.lifecycle_stage = 'deleted'
    FROM runs r LEFT JOIN experiments e USING (experiment_id) ORDER BY r.start_time, r.run_uuid"""
_POINTS = "SELECT rowid, timestamp, step, key, CASE WHEN is_nan THEN 'nan' ELSE value END FROM metrics"
_OF_RUN = f"WHERE run_uuid = ? AND rowid > ? ORDER BY rowid LIMIT {_BATCH}"
_BETWEEN = "NOT INDEXED WHERE run_uuid = ? AND rowid BETWEEN ? AND ?"
_DATASETS = """
    SELECT d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, d.dataset_profile, t.value
    FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id
    LEFT JOIN input_tags t ON t.input_uuid = i.input_uuid AND t.name = 'mlflow.data.context'
    WHERE i.destination_type = 'RUN' AND i.destination_id = ? ORDER BY d.name, d.digest"""
_DATASET = ("name", "digest", "source_type", "source", "schema", "profile", "context")
_MODELS = "SELECT model_id, name, artifact_location FROM logged_models WHERE source_run_id = ? ORDER BY model_id"
_VERSIONS = """
    SELECT v.name, v.version, v.source, group_concat(a.alias, char(10)) FROM model_versions v
    LEFT JOIN registered_model_aliases a ON a.name = v.name AND a.version = v.version
    WHERE v.run_id = ? GROUP BY v.name, v.version ORDER BY v.name, v.version"""
_ARTIFACTS = ("mlartifacts", "mlruns", "artifacts")
"""Directories beside a database that may contain its artifacts."""


class MlflowDatabase:
    """A database.

    Args:
        path: the SQLite file.
        artifacts: a directory with EXPERIMENT/RUN/artifacts, if the artifacts were moved.
    """

    def __init__(self, path: Path, artifacts: Path | None) -> None:
        self.path = path
        self.roots = [path.parent / each for each in _ARTIFACTS] if artifacts is None else [artifacts]
        self._file = SqliteFile(path)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the database.

        Raises:
            RunError: the database is damaged.
        """
        try:
            with self._file.open() as database:
                yield database
        except sqlite3.Error as error:
            raise RunError(f"the database {self.path} cannot be read: {error}") from error

    def is_mlflow(self) -> bool:
        """Return whether the database has MLflow's tables.

        Raises:
            RunError: the tables are of a version of MLflow that is too old.
        """
        with self.open() as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"experiments", "runs"} <= tables:
                return False
            for table, columns in _NEEDED.items():
                there = (
                    {row[1] for row in database.execute(f"PRAGMA table_info({table})")} if table in tables else set()
                )
                if missing := columns - there:
                    raise RunError(
                        f"its table {table} has no column {', '.join(sorted(missing))}: an old version of MLflow made "
                        "it. Make a copy, run `mlflow db upgrade sqlite:///COPY`, and import the copy"
                    )
        return True

    def runs(self) -> Iterator[DatabaseRun]:
        """Yield the runs, including deleted ones."""
        with self.open() as database:
            for run, name, project, status, started, ended, artifacts, is_deleted in database.execute(_RUNS).fetchall():
                details = Details(
                    id=str(run),
                    name=str(name or ""),
                    project=None if project is None else str(project),
                    status=str(status),
                    started=started,
                    ended=ended,
                )
                yield DatabaseRun(self, details, str(artifacts or ""), bool(is_deleted))


class DatabaseRun(MlflowRun):
    """A run in a database."""

    def __init__(self, database: MlflowDatabase, details: Details, artifact_uri: str, is_deleted: bool) -> None:
        super().__init__(details, f"{database.path}: {details.name or details.id}")
        self.is_deleted = is_deleted
        self._database = database
        self._artifact_uri = artifact_uri

    def read(self) -> Content:
        content, run = Content(), self._details.id
        for table, texts in (("params", content.params), ("tags", content.tags)):
            rows = self._rows(content, f"SELECT key, value FROM {table} WHERE run_uuid = ? ORDER BY key", table)
            texts.update((str(key), "" if value is None else str(value)) for key, value in rows)
        for row in self._rows(content, _DATASETS, "datasets"):
            found = zip(_DATASET, row, strict=True)
            content.datasets.append({name: str(value) for name, value in found if value is not None})
        for name, version, source, aliases in self._rows(content, _VERSIONS, "registered models"):
            listed = sorted(str(aliases).split("\n")) if aliases else []
            content.versions.append({"name": name, "version": str(version), "aliases": listed, "source": source})
        roots, leave_out = self._database.roots, content.leave_out
        content.artifacts = local_folder(self._artifact_uri, f"{run}/artifacts", roots, leave_out)
        for model, name, location in self._rows(content, _MODELS, "logged models"):
            folder = local_folder(str(location), f"models/{model}/artifacts", roots, leave_out)
            if folder is not None:
                folder.name, folder.model_id, folder.metadata = str(name), str(model), {"model_id": str(model)}
                content.models.append(folder)
        return content

    def _rows(self, content: Content, query: str, what: str) -> list[tuple[Any, ...]]:
        """Return the result of a query about this run; nothing if an older version of MLflow has no such table."""
        with self._database.open() as database:
            try:
                return database.execute(query, [self._details.id]).fetchall()
            except sqlite3.DatabaseError as error:
                if "no such" not in str(error):
                    _check_damaged(error)
                    content.leave_out(what, f"the database is damaged: {error}")
                return []

    def can_resume(self, known: Any) -> bool:
        """Return whether the number of points up to the last row is the same as before: row numbers may change."""
        query = "SELECT count(*) FROM metrics WHERE run_uuid = ? AND rowid <= ?"
        match known:
            case {"row": int(row), "points": int(points)}:
                with self._database.open() as database:
                    return bool(database.execute(query, [self._details.id, row]).fetchone()[0] == points)
        return False

    def points(self, known: Any, report: Report) -> Iterator[Point]:
        last, count = (known["row"], known["points"]) if known else (0, 0)
        for row, time, step, name, value in self._points(last, report):
            last, count = max(last, row), count + 1
            try:
                yield int(time), int(step), str(name), finite_as_logged(float(value))
            except (TypeError, ValueError):
                report.leave_out(str(name), "its value, time or step is damaged")
        self.ended_at = {"row": last, "points": count}

    def _points(self, last: int, report: Report) -> Iterator[tuple[Any, ...]]:
        run = self._details.id
        with self._database.open() as database:
            try:
                while rows := database.execute(f"{_POINTS} {_OF_RUN}", [run, last]).fetchall():
                    yield from rows
                    last = rows[-1][0]
                return
            except sqlite3.DatabaseError as error:
                _check_damaged(error)
                report.leave_out("metrics", f"the database is damaged: {error}")
            # Read undamaged rows in small parts, without indexes.
            (end,) = database.execute("SELECT max(rowid) FROM metrics NOT INDEXED").fetchone()
            for first in range(last + 1, min(end or 0, last + _MAX_ROWS) + 1, _DAMAGED_BATCH):
                with suppress(sqlite3.DatabaseError):
                    yield from database.execute(
                        f"{_POINTS} {_BETWEEN}", [run, first, first + _DAMAGED_BATCH - 1]
                    ).fetchall()


def _check_damaged(error: sqlite3.DatabaseError) -> None:
    """Raise an error again that is not damage, such as a lock of another process."""
    if isinstance(error, sqlite3.OperationalError):
        raise error


def finite_as_logged(value: float) -> float:
    """Return infinity for the largest float, as which MLflow's databases store it."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value
