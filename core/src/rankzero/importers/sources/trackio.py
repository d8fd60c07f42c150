"""Import runs from the SQLite files of Trackio, with the media and artifacts beside them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from rankzero.errors import RankzeroError, RunError, RunNotFoundError
from rankzero.events.structs import Alert, Artifact, Audio, Event, Files, Histogram, Image, Metrics, Params, Table, Text
from rankzero.events.structs import Video as VideoEvent
from rankzero.files.writing import inside, open_regular
from rankzero.importers.base import FoundRun, Header, Importer, Report, SkippedSource
from rankzero.importers.sources.columns import to_step, to_time
from rankzero.importers.sources.finding import digest_of, find_all, identity_of
from rankzero.importers.sqlite_file import SqliteFile, is_sqlite
from rankzero.media.encoders import Histogram as Bins
from rankzero.media.store import MediaFile, MediaStore
from rankzero.values import NON_FINITE, to_text

_FILES: dict[str, type[Files]] = {"image": Image, "audio": Audio, "video": VideoEvent}
_COLUMNS = {
    "metrics": ("timestamp", "step", "metrics"),
    "system_metrics": ("timestamp", "metrics"),
    "alerts": ("timestamp", "title", "text", "level"),
    "traces": (),
}
_NO_RUN = "{} has no runs of Trackio. They are in SQLite files with the tables metrics and configs"
_BATCH = 500  # rows; few, so that a program that writes to the file waits only briefly
_ARTIFACTS = """
    SELECT v.id, v.created_at, a.name, a.type, v.manifest, v.metadata, (
        SELECT json_group_array(alias) FROM artifact_aliases WHERE artifact_version_id = v.id
    ) FROM artifact_versions v JOIN artifacts a ON a.id = v.artifact_id
    WHERE v.producer_run_id = ? AND v.id > ? ORDER BY v.id
"""


class TrackioImporter(Importer):
    """Imports the runs of Trackio's projects."""

    summary: ClassVar[str] = "Trackio's directory, or the SQLite files of projects in it"

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        found, skipped = find_all(sources, lambda path: path.suffix == ".db", "SQLite file of Trackio")
        runs = skipped
        for path, is_named in found.items():
            new: Sequence[FoundRun] = ()
            try:
                new = _find_runs(path) if is_sqlite(path) else ()
            except (OSError, sqlite3.DatabaseError) as error:
                new = [SkippedSource(path, RunError(f"it cannot be read: {error}"))]
            if is_named and not new:
                raise RunNotFoundError(_NO_RUN.format(path))
            runs.extend(new)
        if not runs:
            raise RunNotFoundError(_NO_RUN.format(", ".join(sources)))
        return runs


def _find_runs(path: Path) -> list[TrackioRun]:
    """Return the runs of a project; none if Trackio did not write the file."""
    file = SqliteFile(path)
    with file.open() as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"metrics", "configs"} <= tables:
            return []
        has_ids = "run_id" in [name for _, name, *_ in database.execute("PRAGMA table_info(metrics)")]
        key = "run_id" if has_ids else "run_name"  # before Trackio 0.24
        runs = database.execute(
            f"SELECT {key}, min(run_name), min(timestamp) FROM (SELECT {key}, run_name, timestamp FROM metrics "
            f"UNION ALL SELECT {key}, run_name, created_at FROM configs) GROUP BY 1 ORDER BY 3"
        ).fetchall()
    return [TrackioRun(file, key, str(run), str(name), tables) for run, name, _ in runs]


class TrackioRun(FoundRun):
    """A run in the SQLite file of its project, which a program may be writing."""

    def __init__(self, file: SqliteFile, key: str, run: str, name: str, tables: set[str]) -> None:
        self._file, self._key, self._run, self._name, self._tables = file, key, run, name, tables
        self._media = file.path.parent / "media"
        self._blobs = file.path.parent / "artifacts" / file.path.stem / "blobs" / "sha256"
        self._known: dict[str, int] = {}
        self._known_params = ""
        self.project = file.path.stem
        self.identity = run if key == "run_id" else identity_of(file.path, name)
        self.source = f"{file.path}: {name}"
        self.size = file.size
        self._config, self._started = self._read_config()

    @property
    def position(self) -> Any:
        """The ids of the last rows."""
        return {"rows": self._known, "params": self._known_params, "started": self._started}

    def resume(self, position: Any) -> bool:
        if position["started"] != self._started:
            return False
        self._known, self._known_params = dict(position["rows"]), position["params"]
        return True

    def header(self) -> Header:
        group = self._config.get("_Group")
        return Header(name=self._name, started=self._started, group=group if isinstance(group, str) else None)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        params = {name: value for name, value in self._config.items() if not name.startswith("_")}
        if params and digest_of(params) != self._known_params:
            yield Params(self._started, params)
        self._known_params = digest_of(params)
        values = _Values(self._media, files, report)
        for row in self._rows("metrics", report):
            yield from values.events(_json(row["metrics"]), "", to_step(row["step"]), self._time(row))
        for row in self._rows("system_metrics", report):
            yield from values.events(_json(row["metrics"]), "system/", None, self._time(row))
        for row in self._rows("alerts", report):
            yield Alert(
                self._time(row), to_text(row["title"]), to_text(row["text"] or ""), to_text(row["level"]).upper()
            )
        if traces := sum(1 for _ in self._rows("traces", report)):
            report.leave_out("traces", "rankzero has no traces", traces)
        yield from self._artifacts(files, report)
        report.progress(self.size)

    def _read_config(self) -> tuple[dict[str, Any], float]:
        """Return the parameters, with Trackio's own, and the time of the first metrics."""
        with self._file.open() as database:
            config, created = database.execute(
                f"SELECT config, created_at FROM configs WHERE {self._key} = ? ORDER BY id", (self._run,)
            ).fetchone() or ("{}", None)
            (first,) = database.execute(
                f"SELECT min(timestamp) FROM metrics WHERE {self._key} = ?", (self._run,)
            ).fetchone()
        values = _json(config)
        return values, to_time(first) or to_time(created) or 0.0  # a run that is resumed is created again

    def _rows(self, table: str, report: Report) -> Iterator[dict[str, Any]]:
        """Yield the new rows of the run in a table, as column → value."""
        query = (
            f"SELECT {', '.join(('rowid', *_COLUMNS[table]))} FROM {table} "
            f"WHERE {self._key} = ? AND rowid > ? ORDER BY rowid LIMIT {_BATCH}"
        )
        rows: list[Any] = [None] if table in self._tables else []
        while rows:
            try:
                with self._file.open() as database:
                    rows = database.execute(query, (self._run, self._known.get(table, 0))).fetchall()
            except sqlite3.DatabaseError as error:
                report.leave_out(f"the rest of {table}", f"{self._file.path.name} is damaged: {error}")
                return
            for number, *values in rows:
                if number <= self._known.get(table, 0):
                    report.leave_out(f"the rest of {table}", f"{self._file.path.name} is damaged")
                    return
                self._known[table] = number
                yield dict(zip(_COLUMNS[table], values, strict=True))

    def _time(self, row: dict[str, Any]) -> float:
        return to_time(row["timestamp"]) or self._started

    def _artifacts(self, files: MediaStore, report: Report) -> Iterator[Event]:
        """Yield the new versions of artifacts that the run logged."""
        if "artifact_versions" not in self._tables:
            return
        try:
            with self._file.open() as database:
                rows = database.execute(_ARTIFACTS, (self._run, self._known.get("artifacts", 0))).fetchall()
        except sqlite3.DatabaseError as error:
            report.leave_out("artifacts", f"{self._file.path.name} is damaged: {error}")
            return
        for number, created, name, kind, manifest, metadata, aliases in rows:
            self._known["artifacts"] = number
            stored = {}
            try:
                for entry in msgspec.json.decode(manifest):
                    path, digest = str(entry["path"]), str(entry["digest"])
                    with open_regular(inside(self._blobs, f"{digest[:2]}/{digest}")) as file:
                        stored[path] = files.put_open(file, Path(path).name)
                path = files.put_directory(stored)
            except (OSError, RankzeroError, msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
                report.leave_out(f"the artifact {name}", f"its files cannot be read: {error}")
                continue
            time = to_time(created) or self._started
            yield Artifact(time, path, to_text(name), to_text(kind), list(_json(aliases, list)), _json(metadata))


class _Values:
    """Translates the values of log calls.

    Args:
        media: the directory with the files.
        files: stores them in the run's directory.
        report: records what cannot be imported.
    """

    def __init__(self, media: Path, files: MediaStore, report: Report) -> None:
        self._media, self._files, self._report = media, files, report

    def events(self, values: dict[str, Any], prefix: str, step: int | None, time: float) -> Iterator[Event]:
        """Yield the events of one call."""
        numbers: dict[str, Any] = {}
        others: list[Event] = []
        for name, value in _leaves(values, prefix):
            if isinstance(value, int | float):
                numbers[name] = value
            elif isinstance(value, str) and value in NON_FINITE:
                numbers[name] = NON_FINITE[value]
            elif value is not None:
                try:
                    others.append(self._event(name, value, step, time))
                except (OSError, RankzeroError, ValueError, TypeError, KeyError, AttributeError) as error:
                    self._report.leave_out(name, f"it cannot be read: {error}")
        if numbers:
            yield Metrics(time, step, numbers)
        yield from others

    def _event(self, name: str, value: Any, step: int | None, time: float) -> Event:
        items = value if isinstance(value, list) and value else [value]
        kinds = {each.get("_type") if isinstance(each, dict) else None for each in items}
        kind = str(kinds.pop()).removeprefix("trackio.") if len(kinds) == 1 else ""
        if kind in _FILES:
            return _FILES[kind](time, name, list(map(self._file, items)), step)
        match kind:
            case "histogram":
                return Histogram(time, name, Bins(list(value["values"]), list(value["bins"])), step)
            case "table":
                rows = value["_value"]
                columns = list(dict.fromkeys(column for row in rows for column in row))
                cells = [[self._cell(row.get(column)) for column in columns] for row in rows]
                return Table(time, name, self._files.table(columns, cells), step)
            case "markdown":
                value = value["_value"]
            case "html" | "object3d":
                return Artifact(time, self._file(value).path, name, kind)
            case "trace":
                raise ValueError("rankzero has no traces")
        return Text(
            time, name, ["value"], [[value if isinstance(value, str) else msgspec.json.encode(value).decode()]], step
        )

    def _file(self, value: dict[str, Any]) -> MediaFile:
        path = inside(self._media, value["file_path"])
        with open_regular(path) as file:
            return self._files.put_open(file, path.name, value.get("caption"))

    def _cell(self, value: Any) -> Any:
        if isinstance(value, dict) and value.get("_type") == "trackio.image":
            return MediaFile(str(inside(self._media, value["file_path"])), caption=value.get("caption"))
        return value


def _leaves(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the values with their names; those in nested mappings are joined by ``/``."""
    for key, value in values.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _json(text: Any, kind: type = dict) -> Any:
    """Return the mapping, or list, in a JSON text; an empty one if it is damaged."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
        return kind()
