"""`CometImporter`: find offline experiments of Comet. All archives of an experiment become one run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rankzero.capture.environment import Environment
from rankzero.errors import RunError, RunNotFoundError
from rankzero.events.structs import Event, Tags
from rankzero.events.trust import is_name
from rankzero.importers.base import FoundRun, Header, Importer, Report, SkippedSource, SkipRun
from rankzero.importers.searching import find_files
from rankzero.media.store import MediaStore
from rankzero_comet.importing.archive import DAMAGE, EXPERIMENT, MESSAGES, Archive, ArchiveDirectory, ZipArchive, reason
from rankzero_comet.importing.environment import NAME, describe, environment_of
from rankzero_comet.importing.translator import INVALID, Translator, decoded, seconds

_CRASHED = "Unexpected error detected in the user script"
_EMPTY = (
    "it is empty, because its process was killed. The data of the process is in a directory with a messages.json, "
    "named tmp… in the directory of temporary files of its machine: import that directory"
)


class CometImporter(Importer):
    """Imports Comet's offline experiments: zip archives, and the directories that killed processes left."""

    summary: ClassVar[str] = "zip archives of Comet's offline experiments, and directories that killed processes left"

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        runs: dict[str, dict[str, _Session]] = {}
        skipped: dict[Path, FoundRun] = {}
        for source in sources:
            count = len(skipped)
            sessions = list(_sessions(source, skipped))
            if not sessions and len(skipped) == count:
                raise RunNotFoundError(
                    f"{source} has no offline experiment of Comet. Name a zip archive of OfflineExperiment, a "
                    "directory of them, or the directory with a messages.json that a killed process left"
                )
            for each in sessions:
                known = runs.setdefault(each.key, {}).setdefault(each.id, each)
                smaller, larger = (known, each) if each.archive.size() > known.archive.size() else (each, known)
                runs[each.key][each.id] = larger
                if known.archive.path != each.archive.path:
                    copy = smaller.archive.path
                    skipped[copy] = SkippedSource(copy, SkipRun(f"it is a copy of {larger.archive.path}"))
        return [*(OfflineRun(list(of_key.values())) for of_key in runs.values()), *skipped.values()]


def _sessions(source: str, skipped: dict[Path, FoundRun]) -> Iterator[_Session]:
    def skip(path: Path, error: OSError) -> None:
        skipped[path] = SkippedSource(path, RunError(f"it cannot be read: {reason(error)}"))

    files = find_files(source, lambda path: path.suffix == ".zip" or path.name in (MESSAGES, EXPERIMENT), skip)
    for path in dict.fromkeys(file.parent if file.name in (MESSAGES, EXPERIMENT) else file for file in files):
        try:
            archive = ArchiveDirectory(path.resolve()) if path.is_dir() else ZipArchive(path.resolve())
        except OSError as error:
            skip(path, error)
            continue
        session = _Session(archive)
        if session.is_known:
            yield session
        elif archive.key_in_name:
            skipped[path] = SkippedSource(path, RunError(archive.problem or _EMPTY))


class _Session:
    """The archive in which one process logged to an experiment."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.problem: str | None = None
        """Why the archive has no description of the experiment."""
        self.description = self._description()
        first, began = self._first_message()
        self.started = seconds(self.description.get("start_time")) or began or 0.0
        self.id = hashlib.sha256(first or str(self.started).encode()).hexdigest()[:16]
        """Identifies the process in all copies of the archive."""
        self.is_known = first is not None or "offline_id" in self.description
        key = self.description.get("offline_id")
        self.key = key if isinstance(key, str) and key.isascii() and key else archive.key_in_name or self.id
        project = self.description.get("project_name")
        self.project = project if isinstance(project, str) and all(map(is_name, project.split("/"))) else None

    def _description(self) -> dict[str, Any]:
        try:
            with self.archive.open(EXPERIMENT) as file:
                description = json.load(file)
            if isinstance(description, dict):
                return description
            self.problem = "it is damaged"
        except (OSError, *DAMAGE) as error:
            is_killed = isinstance(error, FileNotFoundError) and isinstance(self.archive, ArchiveDirectory)
            self.problem = "the process was killed before it wrote this file" if is_killed else reason(error)
        except (ValueError, RecursionError):
            self.problem = "it is damaged"
        return {}

    def _first_message(self) -> tuple[bytes | None, float | None]:
        """Return the first message with a time, and its time."""
        for line in self.archive.lines(Report()):
            try:
                _, payload = decoded(line)
                if time := seconds(payload.get("local_timestamp")):
                    return line, time
            except INVALID:
                continue
        return None, None

    @property
    def status(self) -> str:
        """How the process ended."""
        if isinstance(self.archive, ArchiveDirectory) and not self.description:
            return "aborted"
        return "failed" if str(self.description.get("customer_error_message")).startswith(_CRASHED) else "success"

    def events(self, files: MediaStore, report: Report, offset: int | None) -> Iterator[Event]:
        """Yield the events after ``offset``, from the beginning if it is None."""
        if offset is not None and offset >= self.archive.size(MESSAGES):
            self.archive.offset = offset
            return
        translator = Translator(self.archive, files, report, self.started)
        yield from translator.events(offset or 0)
        if offset is None:
            if self.problem:
                report.leave_out(EXPERIMENT, f"tags, project and perhaps the key are unknown: {self.problem}")
            if self.archive.problem:
                report.leave_out(self.archive.path.name, self.archive.problem)
            others = {"workspace": "workspace", "error": "customer_error_message"}
            texts = {name: self.description.get(key) for name, key in others.items()}
            yield from translator.finish({name: text for name, text in texts.items() if isinstance(text, str)})
            if isinstance(tags := self.description.get("tags"), list) and tags:
                yield Tags(seconds(self.description.get("stop_time")) or self.started, [str(tag) for tag in tags])


class OfflineRun(FoundRun):
    """An experiment to which one or more processes logged."""

    def __init__(self, sessions: list[_Session]) -> None:
        self._sessions = sorted(sessions, key=lambda session: (session.started, session.id))
        first = self._sessions[0]
        self.identity = first.key
        self.project = next((session.project for session in self._sessions if session.project), None)
        self.source = str(first.archive.path)
        self.size = sum(session.archive.size() for session in self._sessions)
        self.position: dict[str, int] = {}
        self._described: dict[str, Any] = {}

    def resume(self, position: Any) -> bool:
        """Read only the messages after ``position``, and all messages of processes that are not in it."""
        for session in self._sessions if isinstance(position, dict) else ():
            read = position.get(session.id, 0)
            if not isinstance(read, int) or read > session.archive.size(MESSAGES):
                return False
        self.position = position
        return isinstance(position, dict)

    def header(self) -> Header:
        described = [{} if self.position else describe(session.archive) for session in self._sessions]
        self._described = described[0]
        name = next((each[NAME] for each in reversed(described) if each.get(NAME)), "")
        return Header(name, started=self._sessions[0].started, status=self._sessions[-1].status)

    def environment(self, files: MediaStore) -> Environment | None:
        return environment_of(self._described, files, self._sessions[0].started)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        for session in self._sessions:
            yield from session.events(files, report, self.position.get(session.id))
            self.position[session.id] = session.archive.offset
