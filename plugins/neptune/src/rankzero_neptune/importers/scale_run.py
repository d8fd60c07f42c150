"""A run of neptune-scale, in the SQLite files that its processes left."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rankzero.errors import PluginNotInstalledError, RunError
from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaStore
from rankzero_neptune.rescue.copies import is_sequence_beginning, without_copies
from rankzero_neptune.rescue.passed_over import PassedOver
from rankzero_neptune.rescue.scale_database import Row, ScaleDatabase
from rankzero_neptune.rescue.translating import TAGS, Translator, of_densities

_CREATION = 1
_MICRO = 1_000_000


def scale_runs(paths: Iterable[Path]) -> list[FoundRun]:
    """Return the runs in SQLite files; one that was resumed has several."""
    runs: dict[tuple[str, str], list[ScaleDatabase]] = {}
    found: list[FoundRun] = []
    for path in paths:
        try:
            database = ScaleDatabase(path)
            if database.is_one():
                runs.setdefault(database.metadata() or ("", path.parent.name), []).append(database)
            database.release()
        except OSError as error:
            found.append(PassedOver(path, RunError(f"it cannot be read: {error.strerror or error}")))
    for (project, run_id), databases in runs.items():
        taken, passed = without_copies(
            databases,
            name_of=lambda database: (database.path.parent.name, database.path.name),  # they hold a time in ns
            path_of=lambda database: database.path,
            size_of=ScaleDatabase.last_number,
            is_beginning=lambda part, whole: is_sequence_beginning(part.rows(_say_nothing), whole.rows(_say_nothing)),
        )
        for database in databases:
            database.release()
        found += [ScaleRun(project, run_id, taken), *passed]
    return found


def _say_nothing(what: str, why: str, count: int) -> None:
    pass


class ScaleRun(FoundRun):
    """One run, of one or more files."""

    def __init__(self, project: str, run_id: str, databases: list[ScaleDatabase]) -> None:
        self.identity = f"{project}/{run_id}"
        self.project = project or None
        self.source = str(databases[0].path)
        self.size = sum(each.size for each in databases)
        self._run_id = run_id
        self._databases = databases
        self._tags: dict[str, None] = {}

    def header(self) -> Header:
        messages = _messages()
        name = notes = None
        started: list[float] = []
        has_failed = False
        for row in self._merged(Report()):
            if row.kind == _CREATION and (run := _parsed(messages.Run, row)) is not None:
                started.append(_seconds(run.creation_time) if run.HasField("creation_time") else row.time)
                name = run.experiment_id or name
            elif b"sys/" in row.data and (update := _parsed(messages.UpdateRunSnapshot, row)) is not None:
                name = update.assign["sys/name"].string if "sys/name" in update.assign else name
                notes = update.assign["sys/description"].string if "sys/description" in update.assign else notes
                has_failed = update.assign["sys/failed"].bool if "sys/failed" in update.assign else has_failed
                self._note_tags(update)
            if not started:
                started.append(row.time)
        if not started:
            raise RunError("nothing in it can be read: it is damaged, or neptune-scale kept nothing there")
        return Header(
            name=name or self._run_id,
            notes=notes or None,
            started=min(started),
            status="failed" if has_failed else "success",
        )

    def _note_tags(self, update: Any) -> None:
        if TAGS in update.assign:
            self._tags = dict.fromkeys(update.assign[TAGS].string_set.values)
        if TAGS in update.modify_sets:
            added, removed = _changes(update.modify_sets[TAGS])
            self._tags.update(dict.fromkeys(added))
            for each in removed:
                self._tags.pop(each, None)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        try:
            yield from self._translated(files, report)
        finally:
            for each in self._databases:
                each.release()

    def _translated(self, files: MediaStore, report: Report) -> Iterator[Event]:
        messages = _messages()
        translator = Translator(files, report, self._tags)
        reading = _Reading(translator, report, self._databases)
        for row in self._merged(report):
            report.progress(len(row.data))
            message = _parsed(messages.Run if row.kind == _CREATION else messages.UpdateRunSnapshot, row)
            if message is None:
                report.leave_out(f"the operation {row.number}", "its content is damaged")
            elif row.kind == _CREATION:
                reading.creation(message, row.time)
            else:
                reading.update(message, row.time)
            if translator.ready:
                yield from translator.take()
        yield from translator.finish()

    def _merged(self, report: Report) -> Iterator[Row]:
        streams = [each.rows(report.leave_out) for each in self._databases]
        return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda row: row.time)


class _Reading:
    """Takes messages, one by one."""

    def __init__(self, translator: Translator, report: Report, databases: Iterable[ScaleDatabase]) -> None:
        self._to = translator
        self._report = report
        self._requests: dict[str, Path] = {}
        for each in databases:
            self._requests.update(each.upload_requests())
            self._beside = each.path.parent

    def creation(self, run: Any, time: float) -> None:
        """Take the message that created the run."""
        if run.HasField("fork_point"):
            fork = run.fork_point
            self._to.param("sys/forking/parent", fork.parent_run_id, time)
            self._to.param("sys/forking/step", _step(fork.step), time)

    def update(self, update: Any, written: float) -> None:
        """Take a message about values; maps have no order, so theirs is that of the names."""
        time = _seconds(update.timestamp) if update.HasField("timestamp") else written
        step = _step(update.step) if update.HasField("step") else None
        for name in sorted(update.assign):
            self._assign(name, update.assign[name], time)
        for name in sorted(update.modify_sets):
            added, removed = _changes(update.modify_sets[name])
            if added:
                self._to.add_strings(name, added, time)
            if removed:
                self._to.remove_strings(name, removed, time)
        if update.HasField("preview") and update.preview.is_preview:
            for name in update.append:
                self._report.leave_out(name, "it is a preview of a value that was still being computed")
            return
        for name in sorted(update.append):
            self._append(name, update.append[name], step, time)

    def _assign(self, name: str, value: Any, time: float) -> None:
        kind = value.WhichOneof("value")
        match kind:
            case "float64" | "int64" | "bool" | "string":
                self._to.param(name, getattr(value, kind), time)
            case "timestamp":
                self._to.moment(name, _seconds(value.timestamp) * 1000, time)
            case "string_set":
                self._to.assign_strings(name, list(value.string_set.values), time)
            case "file_ref":
                self._file(name, value.file_ref.path, None, time)
            case _:
                self._report.leave_out(name, f"a single value of the kind {kind} is not known")

    def _append(self, name: str, value: Any, step: float | None, time: float) -> None:
        kind = value.WhichOneof("value")
        match kind:
            case "float64":
                self._to.number(name, value.float64, step, time)
            case "string":
                self._to.text(name, value.string, step, time)
            case "histogram":
                self._to.histogram(name, _histogram(value.histogram), step or 0.0, time)
            case "file_ref":
                self._file(name, value.file_ref.path, step, time)
            case _:
                self._report.leave_out(name, f"a series of the kind {kind} is not known")

    def _file(self, name: str, destination: str, step: float | None, time: float) -> None:
        source = self._requests.get(destination)
        if source is None:
            self._report.leave_out(name, "nothing says which file it is; it was uploaded, or its upload was given up")
            return
        moved = self._beside / source.name  # what was logged from memory lies beside the database, wherever that is now
        self._to.file(name, source if source.exists() or not moved.exists() else moved, time, step)


def _messages() -> Any:
    try:
        from neptune_api.proto.neptune_pb.ingest.v1 import common_pb2
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError(
            'files of neptune-scale are read with neptune-api. Run: pip install "rankzero-neptune[rescue]"',
            name=error.name,
        ) from error
    return common_pb2


def _parsed(kind: Any, row: Row) -> Any:
    """Return the message in a row, None if it is damaged."""
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(row.data)
    except DecodeError:
        return None


def _changes(modified: Any) -> tuple[list[str], list[str]]:
    """Return what was added to a set of strings, and what was removed."""
    values = modified.string.values
    return [each for each in sorted(values) if values[each] == 1], [
        each for each in sorted(values) if values[each] == 2
    ]


def _step(step: Any) -> float:
    return float(step.whole) + float(step.micro) / _MICRO


def _seconds(timestamp: Any) -> float:
    return float(timestamp.seconds) + float(timestamp.nanos) / 1e9


def _histogram(histogram: Any) -> Histogram:
    edges = list(histogram.bin_edges)
    if histogram.WhichOneof("values") == "densities":
        return Histogram(of_densities(histogram.densities.values, edges), edges)
    return Histogram(list(histogram.counts.values), edges)
