"""Import a run from the SQLite files of neptune-scale, one for each of its processes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankzero.errors import PluginNotInstalledError, RunError
from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.importers.writing import run_id_of
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaStore
from rankzero_neptune.importing.scale_database import Row, ScaleDatabase
from rankzero_neptune.importing.sources import is_time
from rankzero_neptune.importing.string_sets import StringSets
from rankzero_neptune.importing.translator import TAGS, Translator, header_of, shares_of_bins

_CREATION = 1


class ScaleRun(FoundRun):
    """A run of one or more files."""

    def __init__(self, key: tuple[str, ...], databases: list[ScaleDatabase]) -> None:
        self._project, self._run_id = key
        self.identity = _identity(self._project, self._run_id)
        self.project = self._project or None
        self.source = str(databases[0].path)
        self.size = sum(each.size for each in databases)
        self._databases = databases
        self._tags: list[str] = []

    def header(self) -> Header:
        messages = _messages()
        about: dict[str, Any] = {}
        sets = StringSets()
        started: list[float] = []
        for row in self._rows(Report()):
            if row.kind == _CREATION and (run := _decode(messages.Run, row)) is not None:
                created = _seconds(run.creation_time)
                started.append(created if run.HasField("creation_time") and is_time(created) else row.time)
                about["sys/name"] = run.experiment_id or about.get("sys/name")
            elif b"sys/" in row.data and (update := _decode(messages.UpdateRunSnapshot, row)) is not None:
                for name, value in update.assign.items():
                    about[name] = getattr(value, value.WhichOneof("value") or "", None)
                if TAGS in update.assign:
                    sets.assign(TAGS, update.assign[TAGS].string_set.values)
                if TAGS in update.modify_sets:
                    sets.change(TAGS, *_changes(update.modify_sets[TAGS]))
            if not started:
                started.append(row.time)
        if not started:
            raise RunError("nothing in it can be read: it is damaged, or neptune-scale stored nothing")
        self._tags = sets.get(TAGS)
        return header_of(about, self._run_id, min(started))

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        try:
            yield from self._translated(files, report)
        finally:
            for each in self._databases:
                each.release()

    def _translated(self, files: MediaStore, report: Report) -> Iterator[Event]:
        messages = _messages()
        translator = Translator(files, report, self._tags)
        updates = _UpdateTranslator(translator, report, self._databases)
        for row in self._rows(report):
            report.progress(len(row.data))
            message = _decode(messages.Run if row.kind == _CREATION else messages.UpdateRunSnapshot, row)
            if message is None:
                report.leave_out(f"the operation {row.number}", "its content is damaged")
            elif row.kind != _CREATION:
                updates.translate(message, row.time)
            elif message.HasField("fork_point"):
                fork = message.fork_point
                parent = _identity(fork.parent_project or self._project, fork.parent_run_id)
                step = _step(fork.step)
                translator.param("forked_from/run", run_id_of(parent), row.time)
                translator.param("forked_from/step", int(step) if step.is_integer() else step, row.time)
            if translator.ready:
                yield from translator.take()
        yield from translator.finish()

    def _rows(self, report: Report) -> Iterator[Row]:
        return heapq.merge(*(each.rows(report.leave_out) for each in self._databases), key=lambda row: row.time)


class _UpdateTranslator:
    """Translates updates. Protobuf maps have no order, so values are sorted by name."""

    def __init__(self, translator: Translator, report: Report, databases: list[ScaleDatabase]) -> None:
        self._to = translator
        self._report = report
        self._uploads: dict[str, Path] = {}
        for each in databases:
            self._uploads.update(each.upload_requests())
        self._directory = databases[-1].path.parent

    def translate(self, update: Any, written: float) -> None:
        """Translate an update that was written at a time."""
        time = _seconds(update.timestamp) if update.HasField("timestamp") else written
        if not is_time(time):
            self._report.leave_out("an operation", "its time is out of range")
            return
        step = _step(update.step) if update.HasField("step") else None
        for name in sorted(update.assign):
            self._value(name, update.assign[name], None, time, is_point=False)
        for name in sorted(update.modify_sets):
            added, removed = _changes(update.modify_sets[name])
            if added:
                self._to.add_strings(name, added, time)
            if removed:
                self._to.remove_strings(name, removed, time)
        is_preview = update.HasField("preview") and update.preview.is_preview
        for name in update.append if is_preview else sorted(update.append):
            if is_preview:
                self._report.leave_out(name, "it is a preview of a value that was still being computed")
            else:
                self._value(name, update.append[name], step, time, is_point=True)

    def _value(self, name: str, value: Any, step: float | None, time: float, is_point: bool) -> None:
        kind = value.WhichOneof("value")
        match kind:
            case "float64" if is_point:
                self._to.number(name, value.float64, step, time)
            case "string" if is_point:
                self._to.text(name, value.string, step, time)
            case "histogram" if is_point:
                self._to.histogram(name, _histogram(value.histogram), step or 0.0, time)
            case "file_ref":
                self._file(name, value.file_ref.path, step, time)
            case "float64" | "int64" | "bool" | "string" if not is_point:
                self._to.param(name, getattr(value, kind), time)
            case "timestamp" if not is_point:
                self._to.date(name, _seconds(value.timestamp) * 1000, time)
            case "string_set" if not is_point:
                self._to.assign_strings(name, list(value.string_set.values), time)
            case _:
                self._report.leave_out(name, f"{'a series' if is_point else 'a value'} of the type {kind} is unknown")

    def _file(self, name: str, destination: str, step: float | None, time: float) -> None:
        source = self._uploads.get(destination)
        if source is None:
            self._report.leave_out(name, "the path of the file is unknown: it was uploaded, or its upload failed")
            return
        moved = self._directory / source.name  # files logged from memory are beside the database, which may have moved
        self._to.file(name, source if source.exists() or not moved.exists() else moved, time, step)


def _identity(project: str, run_id: str) -> str:
    return f"{project}/{run_id}"


def _messages() -> Any:
    try:
        from neptune_api.proto.neptune_pb.ingest.v1 import common_pb2
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError(
            'files of neptune-scale are read with neptune-api. Run: pip install "rankzero-neptune[rescue]"',
            name=error.name,
        ) from error
    return common_pb2


def _decode(kind: Any, row: Row) -> Any:
    """Return the message in a row, None if it is damaged."""
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(row.data)
    except DecodeError:
        return None


def _changes(modified: Any) -> tuple[list[str], list[str]]:
    """Return the strings that were added to a set, and those that were removed."""
    values = modified.string.values
    added, removed = ([each for each in sorted(values) if values[each] == change] for change in (1, 2))
    return added, removed


def _step(step: Any) -> float:
    return float(step.whole) + float(step.micro) / 1_000_000


def _seconds(timestamp: Any) -> float:
    return float(timestamp.seconds) + float(timestamp.nanos) / 1e9


def _histogram(histogram: Any) -> Histogram:
    edges = list(histogram.bin_edges)
    if histogram.WhichOneof("values") == "densities":
        return Histogram(shares_of_bins(histogram.densities.values, edges), edges)
    return Histogram(list(histogram.counts.values), edges)
