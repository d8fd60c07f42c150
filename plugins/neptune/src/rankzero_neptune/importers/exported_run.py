"""A run in the Parquet files of neptune-exporter, and the files that it downloaded."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rankzero.errors import PluginNotInstalledError, RunError
from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaStore
from rankzero_neptune.rescue.copies import is_file_beginning, is_sequence_beginning, without_copies
from rankzero_neptune.rescue.exported_table import ExportedTable, seconds, steps
from rankzero_neptune.rescue.passed_over import PassedOver
from rankzero_neptune.rescue.translating import TAGS, Translator, of_densities

_PART = re.compile(r"part_(\d+)\.parquet$")
_FILES = "files"
_LEVELS_UP = 3  # exports/data/PROJECT/RUN_part_0.parquet, and exports/files
_KINDS = {
    "float": "float_value", "int": "int_value", "string": "string_value", "bool": "bool_value",
    "datetime": "datetime_value", "string_set": "string_set_value", "float_series": "float_value",
    "string_series": "string_value", "histogram_series": "histogram_value", "file": "file_value",
    "file_series": "file_value", "file_set": "file_value", "artifact": "file_value",
}  # fmt: skip
_ROW = ["attribute_path", "attribute_type", "step", "timestamp"]
_ABOUT = ["string_value", "bool_value", "datetime_value", "string_set_value"]


def exported_runs(paths: Iterable[Path], files: Path | None) -> list[FoundRun]:
    """Return the runs in Parquet files; files that something else wrote are passed over.

    Args:
        paths: the files.
        files: what the exporter downloaded; looked for beside the Parquet files if None.
    """
    runs: dict[tuple[str, str], list[ExportedTable]] = {}
    found: list[FoundRun] = []
    for path in sorted(paths, key=_in_order):
        try:
            table = ExportedTable(path)
            for key in table.runs() if table.is_one() else ():
                runs.setdefault(key, []).append(table)
        except PluginNotInstalledError as error:
            found.append(PassedOver(path, error))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            what = f"the Parquet file is torn or damaged ({reason}); its index stands at its end"
            found.append(PassedOver(path, RunError(what)))
    for key, tables in runs.items():
        taken, passed = without_copies(
            tables,
            name_of=lambda table: table.path.name,
            path_of=lambda table: table.path,
            size_of=lambda table: table.size,
            is_beginning=partial(_is_beginning, key),
        )
        found += [ExportedRun(key, taken, files), *passed]
    return found


def _is_beginning(run: tuple[str, str], part: ExportedTable, whole: ExportedTable) -> bool:
    return is_file_beginning(part.path, whole.path) or is_sequence_beginning(part.rows(run), whole.rows(run))


def _in_order(path: Path) -> tuple[str, int]:
    part = _PART.search(path.name)
    return (str(path)[: -len(part[0])], int(part[1])) if part else (str(path), 0)


class ExportedRun(FoundRun):
    """One run, in one or more files."""

    def __init__(self, key: tuple[str, str], tables: list[ExportedTable], files: Path | None) -> None:
        self.identity = "/".join(key)
        self.project = key[0] or None
        self.source = str(tables[0].path)
        self.size = sum(table.size for table in tables)
        self._key = key
        self._tables = tables
        self._files = list(dict.fromkeys(place for table in tables for place in _places(table.path, files)))
        self._started = 0.0
        self._tags: list[str] = []

    def header(self) -> Header:
        about: dict[str, Any] = {}
        earliest: list[float] = []
        for table in self._tables:
            for batch in table.batches(self._key, [*_ROW, *_ABOUT], Report()):
                earliest += [time for time in seconds(batch.column("timestamp")) if time is not None]
                earliest = [min(earliest)] if earliest else []
                for index, name in enumerate(batch.column("attribute_path").to_pylist()):
                    if name is not None and name.startswith("sys/"):
                        kind = batch.column("attribute_type")[index].as_py()
                        about[name] = _value(batch, _KINDS.get(kind, ""), index)
        created = about.get("sys/creation_time")
        self._started = created if isinstance(created, float) else min(earliest, default=0.0)
        self._tags = list(about.get(TAGS) or ())
        return Header(
            name=str(about.get("sys/name") or self._key[1]),
            notes=about.get("sys/description") or None,
            started=self._started,
            status="failed" if about.get("sys/failed") is True else "success",
        )

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        translator = Translator(files, report, self._tags)
        reading = _Reading(translator, report, self._files)
        for table in self._tables:
            for batch in table.batches(self._key, [*_ROW, *dict.fromkeys(_KINDS.values())], report):
                for _ in reading.rows(batch, self._started):
                    if translator.ready:
                        yield from translator.take()
            report.progress(table.size)
        yield from translator.finish()


class _Reading:
    """Takes rows."""

    def __init__(self, translator: Translator, report: Report, files: list[Path]) -> None:
        self._to = translator
        self._report = report
        self._files = files
        self._takes: Mapping[str, Callable[[str, Any, float | None, float], None]] = {
            "string_series": translator.text,
            "histogram_series": self._histogram,
            "string_set": lambda name, value, step, time: translator.assign_strings(name, value, time),
            "datetime": lambda name, value, step, time: translator.moment(name, value * 1000, time),
            "float": self._param,
            "int": self._param,
            "string": self._param,
            "bool": self._param,
            "file": self._file,
            "file_series": self._file,
            "file_set": self._file,
            "artifact": self._file,
        }

    def rows(self, batch: Any, started: float) -> Iterator[None]:
        """Take the rows of a batch, and yield after each; what has no time of its own took place at ``started``."""
        names, kinds = batch.column("attribute_path").to_pylist(), batch.column("attribute_type").to_pylist()
        times, numbers = seconds(batch.column("timestamp")), batch.column("float_value").to_pylist()
        rows = zip(names, kinds, steps(batch), times, numbers, strict=True)
        for index, (name, kind, step, time, number) in enumerate(rows):
            if name is None:
                self._report.leave_out("an attribute", "the export does not say its name")
                yield
                continue
            at = started if time is None else time
            is_point = time is not None or step is not None
            if kind == "float_series" and (is_point or number is not None):
                self._to.number(name, math.nan if number is None else number, step, at)  # pandas makes null of NaN
            else:
                self._other(batch, index, name, kind, step, at, is_point)
            yield

    def _other(
        self, batch: Any, index: int, name: str, kind: str, step: float | None, time: float, is_point: bool
    ) -> None:
        take = self._takes.get(kind)
        value = _value(batch, _KINDS.get(kind, ""), index)
        if value is None and kind in _KINDS:
            if is_point:  # else the run has no such attribute, another one in the export has
                self._report.leave_out(name, "the export holds a point without a value")
            return
        if take is None:
            self._report.leave_out(name, f"values of the kind {kind} are not known")
        else:
            try:
                take(name, value, step, time)
            except (ValueError, TypeError, KeyError) as error:  # a NUL in a path, a histogram without edges
                self._report.leave_out(name, f"the export holds what is no {kind}: {error}")

    def _param(self, name: str, value: Any, step: float | None, time: float) -> None:
        self._to.param(name, value, time)

    def _histogram(self, name: str, value: Mapping[str, Any], step: float | None, time: float) -> None:
        edges, values = list(value["edges"]), list(value["values"])
        if "densit" in str(value.get("type")).lower():
            values = of_densities(values, edges)
        self._to.histogram(name, Histogram(values, edges), step or 0.0, time)

    def _file(self, name: str, value: Mapping[str, Any], step: float | None, time: float) -> None:
        path = self._find(str(value.get("path")))
        if path is None:
            looked = ", ".join(str(each) for each in self._files if each.is_dir()) or "a directory 'files' nearby"
            self._report.leave_out(name, f"the file {value.get('path')} is not in {looked}; say where: -o files=DIR")
        elif path.is_dir():
            for directory, folders, names in os.walk(path):
                folders.sort()
                for each in sorted(names):
                    inner = Path(directory, each)
                    if not inner.resolve().is_relative_to(path):
                        self._report.leave_out(f"{name}/{each}", "it is a link that leads out of the export")
                        continue
                    self._to.file(f"{name}/{inner.relative_to(path).as_posix()}", inner, time, step)
        else:
            self._to.file(name, path, time, step)

    def _find(self, relative: str) -> Path | None:
        """Return where a file is; never outside of the export, whatever the table says."""
        for root in self._files:
            path = (root / relative).resolve()
            if path.exists() and path.is_relative_to(root.resolve()):
                return path
        return None


def _places(table: Path, files: Path | None) -> list[Path]:
    """Return where the files of a run may be: each project has the directory that it has beside the Parquet files."""
    roots = [files] if files else [up / _FILES for up in list(table.parents)[: _LEVELS_UP + 1]]
    return [place for root in roots for place in (root / table.parent.name, root)]


def _value(batch: Any, column: str, index: int) -> Any:
    """Return the value of a row in one of the columns; a date in Unix seconds."""
    if column not in batch.schema.names:
        return None
    if column == "datetime_value":
        return seconds(batch.column(column).slice(index, 1))[0]
    return batch.column(column)[index].as_py()
