"""What was deleted later: of a run, by any of its processes."""

from __future__ import annotations

from typing import NamedTuple

from rankzero_neptune.rescue import operations as op


class _Moment(NamedTuple):
    """When one of a run's processes did something."""

    process: int
    version: int
    at: float

    def is_before(self, other: _Moment) -> bool:
        """Return whether it was earlier; a process numbers what it does, two are compared by their clocks."""
        return self.version < other.version if self.process == other.process else self.at < other.at


class Erasures:
    """Collects them before anything is taken."""

    def __init__(self) -> None:
        self._attributes: dict[str, dict[int, _Moment]] = {}
        self._files: dict[str, list[tuple[_Moment, set[str]]]] = {}

    def __bool__(self) -> bool:
        return bool(self._attributes)

    def note(self, process: int, record: op.Record, at: float) -> None:
        """Note a record of a process if it deletes something."""
        moment = _Moment(process, record.version, at)
        if isinstance(record.obj, op.ERASING):
            self._attributes.setdefault(record.obj.name, {})[process] = moment
        elif isinstance(record.obj, op.DeleteFiles):
            self._files.setdefault(record.obj.name, []).append((moment, set(record.obj.file_paths)))

    def has_erased(self, process: int, record: op.Record, at: float) -> bool:
        """Return whether what a record did was deleted later."""
        last = self._attributes.get(record.obj.name)
        if last is None:
            return False
        moment = _Moment(process, record.version, at)
        return any(moment.is_before(each) for each in last.values())

    def files_gone(self, process: int, record: op.Record, at: float) -> set[str]:
        """Return the files that were deleted later from the set which a record uploads."""
        moment = _Moment(process, record.version, at)
        deleted = self._files.get(record.obj.name, ())
        return {name for later, names in deleted if moment.is_before(later) for name in names}
