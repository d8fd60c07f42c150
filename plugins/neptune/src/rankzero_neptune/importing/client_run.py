"""Import a run from the logs of a Neptune 1.x client: one directory for each process of the run."""

from __future__ import annotations

import glob
import heapq
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.events.structs import Event
from rankzero.files.writing import inside
from rankzero.importers.base import FoundRun, Header, Report, SkipRun
from rankzero.media.store import MediaStore
from rankzero_neptune.importing.client_log import LogDirectory
from rankzero_neptune.importing.operations import DELETING, LogFloats, Picture, Record
from rankzero_neptune.importing.string_sets import StringSets
from rankzero_neptune.importing.translator import TAGS, Translator, header_of

_ABOUT_OR_DELETING = re.compile(rb'"path":\s*\["sys"|"type":\s*"(?:Clear|Delete)')
_BATCH = 100  # events


class Entry(NamedTuple):
    """A record in the log of one of a run's processes."""

    at: float
    process: int
    record: Record

    def is_before(self, other: Entry) -> bool:
        """Compare two entries by their numbers in one process, by time in different processes."""
        if self.process == other.process:
            return self.record.version < other.record.version
        return self.at < other.at


class Deletions:
    """Collects the deletions of a run, before its data is imported."""

    def __init__(self) -> None:
        self._attributes: dict[str, dict[int, Entry]] = {}
        self._files: dict[str, list[Entry]] = {}

    def __bool__(self) -> bool:
        return bool(self._attributes)

    def add(self, entry: Entry) -> None:
        """Add an entry if it deletes something."""
        operation, kind = entry.record.obj, entry.record.type
        if kind in DELETING:
            self._attributes.setdefault(operation.name, {})[entry.process] = entry
        elif kind == "DeleteFiles":
            self._files.setdefault(operation.name, []).append(entry)

    def has_deleted(self, entry: Entry) -> bool:
        """Return whether the data of an entry was deleted later."""
        deleting = self._attributes.get(entry.record.obj.name, {})
        return any(entry.is_before(each) for each in deleting.values())

    def deleted_files(self, entry: Entry) -> set[str]:
        """Return the files that were deleted later from the file set of an entry."""
        later = (each for each in self._files.get(entry.record.obj.name, ()) if entry.is_before(each))
        return {path for each in later for path in each.record.obj.file_paths}


class ClientRun(FoundRun):
    """A run of one or more processes. The client does not store its project on disk."""

    def __init__(self, key: tuple[str, ...], logs: list[LogDirectory], unsynced_only: bool) -> None:
        (self.identity,) = key
        self._logs = sorted(logs, key=lambda log: (log.started, log.path.name))
        self.source = str(self._logs[0].path)
        self.size = sum(log.size for log in logs)
        self._unsynced_only = unsynced_only
        self._tags: list[str] = []
        self._deletions = Deletions()

    def header(self) -> Header:
        if self._unsynced_only and all(log.last_version <= log.acknowledged for log in self._logs):
            raise SkipRun("Neptune has all of its data")
        entries: list[Entry] = []
        for process, log in enumerate(self._logs):
            at = log.started
            for record in log.matching(_ABOUT_OR_DELETING):
                at = at if record.at is None else record.at
                entries.append(Entry(at, process, record))
                self._deletions.add(entries[-1])
        about: dict[str, Any] = {}
        sets = StringSets()
        for entry in sorted(entries, key=lambda entry: entry.at):
            operation = entry.record.obj
            match entry.record.type:
                case "AssignString" | "AssignBool":
                    about[operation.name] = operation.value
                case "AddStrings":
                    sets.add(operation.name, operation.values)
                case "RemoveStrings":
                    sets.remove(operation.name, operation.values)
                case "ClearStringSet" | "DeleteAttribute":
                    sets.assign(operation.name, [])
        self._tags = sets.get(TAGS)
        started = min((log.started for log in self._logs if log.started), default=0.0)
        return header_of(about, self.identity, started)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        for log in self._logs:
            if not log.has_metadata:
                report.leave_out(str(log.path / "metadata.json"), "it is missing or cannot be read")
        translator = Translator(files, report, self._tags)
        for entry in heapq.merge(*(self._entries(process, report) for process in range(len(self._logs)))):
            operation = entry[2].obj
            if self._deletions and self._deletions.has_deleted(Entry(*entry)):
                continue
            if operation.__class__ is LogFloats:  # first, because nearly all operations are
                name = "/".join(operation.path)
                for point in operation.values:
                    translator.number(name, point.value, point.step, point.ts)
            else:
                self._translate(Entry(*entry), translator, report)
            if len(translator.ready) > _BATCH:
                yield from translator.take()
        yield from translator.finish()

    def _entries(self, process: int, report: Report) -> Iterator[tuple[float, int, Record]]:
        log = self._logs[process]

        def leave_out(what: str, why: str) -> None:
            report.leave_out(f"{log.path.name}: {what}" if len(self._logs) > 1 else what, why)

        for record in log.records(leave_out, report.progress, log.acknowledged if self._unsynced_only else 0):
            yield record.at or 0.0, process, record  # plain tuples, because there are millions

    def _translate(self, entry: Entry, to: Translator, report: Report) -> None:
        operation = entry.record.obj
        try:
            if (reason := self._translate_other(entry, to)) is not None:
                report.leave_out(operation.name, reason)
        except ValueError as error:  # e.g. a path with NUL, or one that leads out of the directory
            report.leave_out(operation.name, f"the operation is invalid: {error}")

    def _translate_other(self, entry: Entry, to: Translator) -> str | None:
        """Translate an operation; return why it cannot be imported, None if it was. Deletions were handled before."""
        operation, at = entry.record.obj, entry.at
        name = operation.name
        match entry.record.type:
            case "LogStrings":
                for point in operation.values:
                    to.text(name, point.value, point.step, point.ts)
            case "LogImages":
                for point in operation.values:
                    picture = point.value if isinstance(point.value, Picture) else Picture(point.value)
                    caption = ": ".join(filter(None, (picture.name, picture.description))) or None
                    to.picture(name, picture.data, caption, point.step, point.ts)
            case "AssignFloat" | "AssignInt" | "AssignBool" | "AssignString":
                to.param(name, operation.value, at)
            case "AssignDatetime":
                to.date(name, operation.value, at)
            case "AddStrings":
                to.add_strings(name, operation.values, at)
            case "RemoveStrings":
                to.remove_strings(name, operation.values, at)
            case "UploadFile":
                if not (operation.file_path or operation.tmp_file_name):
                    return "the client did not store the path of this file"
                uploads = self._logs[entry.process].uploads
                path = operation.file_path or inside(uploads, operation.tmp_file_name)
                to.file(name, Path(path), at)
            case "UploadFileContent":
                to.content(name, operation.file_content, f".{operation.ext}" if operation.ext else "", at)
            case "UploadFileSet":
                return self._file_set(entry, to)
            case "AssignArtifact":
                return f"the client stored only the hash of this artifact, {operation.hash}"
            case "TrackFilesToArtifact":
                tracked = ", ".join(str(each[0]) for each in operation.entries if each)
                return f"Neptune stores the paths of these files, not the files: {tracked}"
            case "CopyAttribute":
                source = "/".join(operation.source_path)
                return f"it is a copy of {source} in {operation.container_id}, which is only on Neptune's server"
            case "ConfigFloatSeries":
                settings = {"min": operation.min, "max": operation.max, "unit": operation.unit}
                if given := ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None):
                    return f"metrics in rankzero have no such settings: {given}"
        return None

    def _file_set(self, entry: Entry, to: Translator) -> str | None:
        operation = entry.record.obj
        found = _files_of_set(operation.file_globs)
        deleted = self._deletions.deleted_files(entry)
        for name, path in found.items():
            if name not in deleted:
                to.file(f"{operation.name}/{name}", path, entry.at)
        missing = operation.file_globs and not found
        return f"there is no such file: {', '.join(operation.file_globs)}" if missing else None


def _files_of_set(patterns: Iterable[str]) -> dict[str, Path]:
    """Return the files that patterns match now, by their paths below the common directory; directories are expanded."""
    found = sorted({os.path.abspath(path) for pattern in patterns for path in _matching(pattern)})
    if not found:
        return {}
    root = os.path.commonpath([os.path.dirname(path) for path in found])
    return {os.path.relpath(path, root): Path(path) for path in found}


def _matching(pattern: str) -> Iterator[str]:
    for path in glob.iglob(pattern, recursive=True):
        if os.path.isdir(path):
            for directory, _, names in os.walk(path):
                yield from (os.path.join(directory, name) for name in names)
        else:
            yield path
