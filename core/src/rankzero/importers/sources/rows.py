"""Import runs from files with a row for each log call, such as tables and JSON lines."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from rankzero.errors import RankzeroError
from rankzero.events.structs import Event, Metrics, Params, Text
from rankzero.importers.base import FoundRun, Header, Importer, Report, SkippedSource, SkipRun
from rankzero.importers.sources.columns import INDEX, Columns, find_columns, to_step, to_time
from rankzero.importers.sources.finding import digest_of, identity_of
from rankzero.importers.sources.lines import LineFile
from rankzero.importers.sources.params import read_params
from rankzero.media.store import MediaStore

Numbers = dict[str, Any]
"""Column → int, float or bool."""
Texts = dict[str, str]
"""Column → text."""

_PARAMS = ("config.yaml", "args.yaml", "params.yaml", "hparams.yaml")
_SAMPLE = 100  # rows
_COMMON_NAMES = frozenset({"metrics", "results", "log", "logs", "history", "progress", "training", "train"})


class RowImporter(Importer):
    """Imports runs from files of rows.

    Args:
        step: the column or key of the step, if it has an unusual name.
        time: the column or key of the time, if it has an unusual name.
    """

    def __init__(self, step: str | None = None, time: str | None = None) -> None:
        self._step = None if step is None else str(step)
        self._time = None if time is None else str(time)


class RowFile(ABC):
    """A file of rows.

    Args:
        path: the file.
        step: the name of the column with the step, or None to find it.
        time: the same for the time.
        prefix: the beginning of the names of its metrics.
    """

    no_rows: ClassVar[str] = "it has no rows"
    """Why a file without rows is skipped."""

    def __init__(self, path: Path, step: str | None = None, time: str | None = None, prefix: str = "") -> None:
        self.file = LineFile(path)
        self.columns = Columns()
        self._given = step, time
        self._prefix = prefix
        self._rows = 0
        self._last_step: int | None = None
        self._last_time = 0.0

    @abstractmethod
    def rows(self, report: Report) -> Iterator[tuple[Numbers, Texts]]:
        """Yield the rows after the position, and move it after each row."""

    def sample(self) -> dict[str, Any]:
        """Find the columns, and return the first row; it is empty if there is none."""
        rows = type(self)(self.file.path).rows(Report())
        found: list[dict[str, Any]] = [{**texts, **numbers} for numbers, texts in islice(rows, _SAMPLE)]
        values = {name: value for row in reversed(found) for name, value in row.items()}
        if found:
            self.columns = find_columns(values, *self._given)
        return found[0] if found else {}

    @property
    def position(self) -> dict[str, Any]:
        """Where reading ended, for `resume`."""
        state = {"rows": self._rows, "step": self._last_step, "time": self._last_time}
        return {**self.file.position, **state, "columns": msgspec.to_builtins(self.columns)}

    def resume(self, position: Mapping[str, Any]) -> None:
        """Continue at a position."""
        self.file.offset = position["offset"]
        self._rows, self._last_step, self._last_time = position["rows"], position["step"], position["time"]

    def events(self, report: Report, started: float) -> Iterator[Event]:
        """Yield the events of the rows; ``started`` is the time of rows without one."""
        columns, prefix = self.columns, self._prefix
        self._last_time = self._last_time or started
        for numbers, texts in self.rows(report):
            step = self._step(numbers, texts, report)
            time = self._time(numbers, texts, report)
            epoch = stage = None
            if columns.epoch is not None and (epoch := to_step(numbers.get(columns.epoch))) is not None:
                del numbers[columns.epoch]
            if columns.stage is not None:
                stage = texts.pop(columns.stage, None)
            if columns.name is not None:
                self._keep_value(numbers, texts, report)
            if prefix:
                numbers = {prefix + name: value for name, value in numbers.items()}
            if numbers:
                yield Metrics(time, step, numbers, epoch, stage)
            for name, text in texts.items():
                yield Text(time, prefix + name, ["value"], [[text]], step)

    def _step(self, numbers: Numbers, texts: Texts, report: Report) -> int | None:
        """Remove and return the step of a row: by default that of the previous row, or the number of the row."""
        name = self.columns.step
        if name is None:
            self._rows += 1
            return self._rows - 1
        given = numbers.get(name) if name == self.columns.epoch else numbers.pop(name, texts.pop(name, None))
        step = to_step(given)
        if step is None and given is not None:
            report.leave_out(name, "some of its values are not whole numbers, so they cannot be steps")
        if step is not None:
            self._last_step = step
        return self._last_step if self.columns.name is None else step

    def _time(self, numbers: Numbers, texts: Texts, report: Report) -> float:
        """Remove and return the time of a row: by default that of the previous row."""
        name = self.columns.time
        given = None if name is None else numbers.pop(name, texts.pop(name, None))
        if name is not None and given is not None:
            time = to_time(given)
            if time is None:
                report.leave_out(name, "some of its values are not times")
            else:
                self._last_time = time
        return self._last_time

    def _keep_value(self, numbers: Numbers, texts: Texts, report: Report) -> None:
        """Replace the columns of a long table by the metric that its row has."""
        columns: dict[str, Any] = {**numbers, **texts}
        name, value = columns.pop(self.columns.name or "", None), columns.pop(self.columns.value or "", None)
        for other in columns:
            report.leave_out(other, "the table has a row for each value, and this column is not a part of the value")
        numbers.clear()
        texts.clear()
        if isinstance(value, str):
            texts[str(name)] = value
        elif value is not None:
            numbers[str(name)] = value


class RowsRun(FoundRun):
    """A run in one or more files of rows.

    Args:
        files: the files.
        directory: has the files and the parameters of the run; by default that of the only file.
        is_named: whether the user named the file, so that it is a log even if it does not look like one.

    Raises:
        SkipRun: there are no rows, or they do not look like a log.
        RunError: a column that the user named does not exist.
        OSError: a file cannot be read.
    """

    def __init__(self, files: Sequence[RowFile], directory: Path | None = None, *, is_named: bool = True) -> None:
        path = Path(os.path.abspath(directory or files[0].file.path))
        self._directory = path if directory else path.parent
        self._files = {os.path.relpath(each.file.path, self._directory): each for each in files}
        self._name = _name_of(path)
        self._known_params = ""
        self.source = str(path)
        self.size = sum(each.file.size for each in files)
        samples = [sample for each in files if (sample := each.sample())]
        if not samples:
            raise SkipRun(files[0].no_rows)
        columns, first = files[0].columns, samples[0]
        if not is_named and not _is_log(columns) and not any((self._directory / name).exists() for name in _PARAMS):
            raise SkipRun("no column has a known name of a step or time; if it is a log, name the file itself")
        time = to_time(first.get(columns.time)) if columns.time else None
        self._started = time or float(int(files[0].file.modified))
        self.identity = identity_of(path, None if directory else sorted(first.items()))

    @property
    def position(self) -> Any:
        """The positions in the files."""
        files = {name: each.position for name, each in self._files.items()}
        return {"started": self._started, "params": self._known_params, "files": files}

    def resume(self, position: Any) -> bool:
        self._started = position["started"]
        known = position["files"]
        for name in known.keys() & self._files.keys():
            self._files[name].columns = msgspec.convert(known[name]["columns"], Columns)  # perhaps of fewer rows
        if not all(name in self._files and self._files[name].file.has(each) for name, each in known.items()):
            return False
        for name, each in known.items():
            self._files[name].resume(each)
        self._known_params = position["params"]
        return True

    def header(self) -> Header:
        return Header(name=self._name, started=self._started)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        params = read_params(self._directory, _PARAMS, report)
        if params and digest_of(params) != self._known_params:
            yield Params(self._started, params)
        self._known_params = digest_of(params)
        for each in self._files.values():
            yield from each.events(report, self._started)


def make_run(files: Sequence[RowFile], directory: Path | None = None, *, is_named: bool) -> FoundRun:
    """Return the run in files, or a stand-in that says why there is none."""
    try:
        return RowsRun(files, directory, is_named=is_named)
    except (SkipRun, OSError, RankzeroError) as error:
        return SkippedSource(directory or files[0].file.path, error)


def _is_log(columns: Columns) -> bool:
    return columns.time is not None or columns.name is not None or columns.step not in (None, *INDEX)


def _name_of(path: Path) -> str:
    """Return the name to show: that of the file, or of its directory if the file has a common name."""
    stem = path.name.split(".")[0]
    if stem not in _COMMON_NAMES:
        return stem
    parent = path.parent
    return f"{parent.parent.name}/{parent.name}" if parent.name.startswith("version_") else parent.name or stem
