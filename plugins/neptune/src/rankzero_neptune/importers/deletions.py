"""Deletions: which values and files of a run were deleted later, by any of its processes."""

from __future__ import annotations

from typing import NamedTuple

from rankzero_neptune.importers.operations import DELETING, Record


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
