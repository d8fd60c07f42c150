"""A run in the logs of a Neptune 1.x client: all the directories that its processes left."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rankzero.events.structs import Event
from rankzero.files.writing import inside
from rankzero.importers.base import FoundRun, Header, Report, SkipRun
from rankzero.media.store import MediaStore
from rankzero_neptune.rescue import operations as op
from rankzero_neptune.rescue.client_log import LogDirectory
from rankzero_neptune.rescue.copies import are_files_beginnings, without_copies
from rankzero_neptune.rescue.erasures import Erasures
from rankzero_neptune.rescue.file_sets import files_of_set
from rankzero_neptune.rescue.translating import TAGS, Translator

_OF_NOTE = re.compile(rb'"path":\s*\["sys"|"type":\s*"(?:Clear|Delete)')
_AT_ONCE = 100  # events; their files are in memory no more
_ON_SERVER = "it is only on Neptune's server"


def client_runs(directories: Iterable[Path], *, unsynced_only: bool) -> list[FoundRun]:
    """Return the runs in directories of clients; several processes may have logged to one."""
    runs: dict[str, list[LogDirectory]] = {}
    for path in directories:
        log = LogDirectory(path)
        runs.setdefault(log.identity, []).append(log)
    found: list[FoundRun] = []
    for identity, logs in runs.items():
        taken, passed = without_copies(
            logs,
            name_of=lambda log: log.path.name,  # it holds the process's id and a random part
            path_of=lambda log: log.path,
            size_of=lambda log: log.size,
            is_beginning=lambda part, whole: are_files_beginnings(part.files, whole.files),
        )
        found += [ClientRun(identity, taken, unsynced_only), *passed]
    return found


class ClientRun(FoundRun):
    """One run, of one or more processes; on disk the client does not say which project it belongs to."""

    def __init__(self, identity: str, logs: list[LogDirectory], unsynced_only: bool) -> None:
        self.identity = identity
        self._logs = sorted(logs, key=lambda log: (log.began, log.path.name))
        self.source = str(self._logs[0].path)
        self.size = sum(log.size for log in logs)
        self._unsynced_only = unsynced_only
        self._tags: list[str] = []
        self._erased = Erasures()

    def header(self) -> Header:
        if self._unsynced_only and all(log.last_version <= log.acknowledged for log in self._logs):
            raise SkipRun("Neptune had all of it, nothing is unsynced")
        said: list[tuple[float, op.AnyOperation]] = []
        for index, log in enumerate(self._logs):
            at = log.began
            for record in log.matching(_OF_NOTE):
                at = at if record.at is None else record.at
                self._erased.note(index, record, at)
                said.append((at, record.obj))
        said.sort(key=lambda each: each[0])
        about: dict[str, Any] = {}
        for _, each in said:
            if isinstance(each, op.AssignString | op.AssignBool):
                about[each.name] = each.value
        self._tags = _tags(each for _, each in said)
        return Header(
            name=about.get("sys/name") or self.identity,
            notes=about.get("sys/description") or None,
            started=min((log.began for log in self._logs if log.began), default=0.0),
            status="failed" if about.get("sys/failed") else "success",
        )

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        for log in self._logs:
            if not log.has_metadata:
                report.leave_out(str(log.path / "metadata.json"), "it is missing or cannot be read; the rest is taken")
        translator = Translator(files, report, self._tags)
        reading = _Reading(translator, report)
        uploads = [log.uploads for log in self._logs]
        streams = [self._records(index, log, report) for index, log in enumerate(self._logs)]
        merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda each: each[0])
        for at, index, record in merged:
            if self._erased and self._erased.has_erased(index, record, at):
                continue
            if record.obj.__class__ is op.UploadFileSet:
                reading.gone = self._erased.files_gone(index, record, at)
            reading.uploads = uploads[index]
            reading.take(record.obj, at)
            if len(translator.ready) > _AT_ONCE:
                yield from translator.take()
        yield from translator.finish()

    def _records(self, index: int, log: LogDirectory, report: Report) -> Iterator[tuple[float, int, op.Record]]:
        acknowledged = log.acknowledged if self._unsynced_only else 0

        def say(what: str, why: str) -> None:
            report.leave_out(f"{log.path.name}: {what}" if len(self._logs) > 1 else what, why)

        for record in log.records(say, report.progress, acknowledged):
            assert record.at is not None
            yield record.at, index, record


def _tags(said: Iterable[op.AnyOperation]) -> list[str]:
    """Return the tags that the run had in the end."""
    tags: dict[str, None] = {}
    for each in said:
        if each.name != TAGS:
            continue
        if isinstance(each, op.AddStrings):
            tags.update(dict.fromkeys(each.values))
        elif isinstance(each, op.RemoveStrings):
            for value in each.values:
                tags.pop(value, None)
        elif isinstance(each, op.ClearStringSet | op.DeleteAttribute):
            tags.clear()
    return list(tags)


class _Reading:
    """Takes operations, one by one."""

    def __init__(self, translator: Translator, report: Report) -> None:
        self.uploads = Path()
        """Of the process whose operation is taken."""
        self.gone: set[str] = set()
        """The files that are deleted later from the set which is taken."""
        self._to = translator
        self._report = report
        self._takes: Mapping[type, Callable[[Any, float], None]] = {
            op.LogStrings: self._texts,
            op.LogImages: self._pictures,
            op.AssignFloat: self._value,
            op.AssignInt: self._value,
            op.AssignBool: self._value,
            op.AssignString: self._value,
            op.AssignDatetime: lambda each, at: translator.moment(each.name, each.value, at),
            op.AddStrings: lambda each, at: translator.add_strings(each.name, each.values, at),
            op.RemoveStrings: lambda each, at: translator.remove_strings(each.name, each.values, at),
            op.UploadFile: self._file,
            op.UploadFileContent: self._content,
            op.UploadFileSet: self._file_set,
            op.AssignArtifact: self._artifact,
            op.TrackFilesToArtifact: self._tracked,
            op.CopyAttribute: self._copy,
            op.ConfigFloatSeries: self._config,
        }

    def take(self, operation: op.AnyOperation, at: float) -> None:
        """Take one; those that erase were seen to before."""
        kind = operation.__class__
        if kind is op.LogFloats:  # nearly all are
            self._numbers(operation)  # type: ignore[arg-type]
        elif (take := self._takes.get(kind)) is not None:
            try:
                take(operation, at)
            except ValueError as error:  # a NUL in a path, or one that leads elsewhere
                self._report.leave_out(operation.name, f"the operation cannot be taken: {error}")

    def _numbers(self, each: op.LogFloats) -> None:
        name = "/".join(each.path)
        for point in each.values:
            self._to.number(name, point.value, point.step, point.ts)

    def _texts(self, each: op.LogStrings, at: float) -> None:
        for point in each.values:
            self._to.text(each.name, point.value, point.step, point.ts)

    def _pictures(self, each: op.LogImages, at: float) -> None:
        for point in each.values:
            picture = point.value if isinstance(point.value, op.Picture) else op.Picture(point.value)
            caption = ": ".join(filter(None, (picture.name, picture.description))) or None
            self._to.picture(each.name, picture.data, caption, point.step, point.ts)

    def _value(self, each: op.AssignFloat | op.AssignInt | op.AssignBool | op.AssignString, at: float) -> None:
        self._to.param(each.name, each.value, at)

    def _file(self, each: op.UploadFile, at: float) -> None:
        if each.file_path:
            self._to.file(each.name, Path(each.file_path), at)
        elif each.tmp_file_name:
            self._to.file(each.name, inside(self.uploads, each.tmp_file_name), at)
        else:
            self._report.leave_out(each.name, "the client did not say which file it is")

    def _content(self, each: op.UploadFileContent, at: float) -> None:
        self._to.content(each.name, each.file_content, f".{each.ext}" if each.ext else "", at)

    def _file_set(self, each: op.UploadFileSet, at: float) -> None:
        found = files_of_set(each.file_globs)
        for name, path in found.items():
            if name not in self.gone:
                self._to.file(f"{each.name}/{name}", path, at)
        if each.file_globs and not found:
            self._report.leave_out(each.name, f"there is no such file: {', '.join(each.file_globs)}")

    def _artifact(self, each: op.AssignArtifact, at: float) -> None:
        self._report.leave_out(each.name, f"the client kept only the hash of this artifact, {each.hash}")

    def _tracked(self, each: op.TrackFilesToArtifact, at: float) -> None:
        tracked = ", ".join(str(entry[0]) for entry in each.entries if entry)
        self._report.leave_out(each.name, f"Neptune notes where these files are and does not keep them: {tracked}")

    def _copy(self, each: op.CopyAttribute, at: float) -> None:
        source = "/".join(each.source_path)
        self._report.leave_out(each.name, f"it is a copy of {source} of the object {each.container_id}; {_ON_SERVER}")

    def _config(self, each: op.ConfigFloatSeries, at: float) -> None:
        said = {"min": each.min, "max": each.max, "unit": each.unit}
        given = ", ".join(f"{key} {value}" for key, value in said.items() if value is not None)
        if given:
            self._report.leave_out(f"the settings of {each.name}", f"a run has no place for them: {given}")
