"""Import a run from the Parquet files of neptune-exporter, and from the files that it downloaded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankzero.events.structs import Event
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaStore
from rankzero_neptune.importing.exported_table import ExportedTable, seconds, steps
from rankzero_neptune.importing.sources import is_time
from rankzero_neptune.importing.translator import TAGS, Translator, header_of, shares_of_bins

_LEVELS_UP = 3  # from exports/data/PROJECT/RUN_part_0.parquet to exports/files
_COLUMN_OF_TYPE = {
    "float": "float_value", "int": "int_value", "string": "string_value", "bool": "bool_value",
    "datetime": "datetime_value", "string_set": "string_set_value", "float_series": "float_value",
    "string_series": "string_value", "histogram_series": "histogram_value", "file": "file_value",
    "file_series": "file_value", "file_set": "file_value", "artifact": "file_value",
}  # fmt: skip
_ROW = ["attribute_path", "attribute_type", "step", "timestamp"]
_ABOUT = ["string_value", "bool_value", "datetime_value", "string_set_value"]


class ExportedRun(FoundRun):
    """A run in one or more files."""

    def __init__(self, key: tuple[str, ...], tables: list[ExportedTable], files: Path | None) -> None:
        """``files``: the directory of downloaded files; by default the one beside or above the Parquet files."""
        self.identity = "/".join(key)
        self.project = key[0] or None
        self.source = str(tables[0].path)
        self.size = sum(table.size for table in tables)
        self._key = key
        self._tables = tables
        self._files = list(dict.fromkeys(each for table in tables for each in _directories(table.path, files)))
        self._started = 0.0
        self._tags: list[str] = []

    def header(self) -> Header:
        about: dict[str, Any] = {}
        earliest: list[float] = []
        for table in self._tables:
            for batch in table.batches(self._key, [*_ROW, *_ABOUT], Report()):
                earliest += [time for time in seconds(batch.column("timestamp")) if time is not None and is_time(time)]
                earliest = [min(earliest)] if earliest else []
                for index, name in enumerate(batch.column("attribute_path").to_pylist()):
                    if name is not None and name.startswith("sys/"):
                        about[name] = _value(batch, batch.column("attribute_type")[index].as_py(), index)
        created = about.get("sys/creation_time")
        self._started = created if isinstance(created, float) and is_time(created) else min(earliest, default=0.0)
        self._tags = list(about.get(TAGS) or ())
        return header_of(about, self._key[1], self._started)

    def events(self, files: MediaStore, report: Report) -> Iterator[Event]:
        translator = Translator(files, report, self._tags)
        for table in self._tables:
            for batch in table.batches(self._key, [*_ROW, *dict.fromkeys(_COLUMN_OF_TYPE.values())], report):
                for _ in self._translate(batch, translator, report):
                    if translator.ready:
                        yield from translator.take()
            report.progress(table.size)
        yield from translator.finish()

    def _translate(self, batch: Any, to: Translator, report: Report) -> Iterator[None]:
        """Translate the rows of a batch, and yield after each. Rows without a time get the start of the run."""
        names, types = batch.column("attribute_path").to_pylist(), batch.column("attribute_type").to_pylist()
        times, numbers = seconds(batch.column("timestamp")), batch.column("float_value").to_pylist()
        rows = zip(names, types, steps(batch), times, numbers, strict=True)
        for index, (name, kind, step, time, number) in enumerate(rows):
            at = self._started if time is None else time
            is_point = time is not None or step is not None
            if name is None:
                report.leave_out("an attribute", "the export does not contain its name")
            elif not is_time(at):
                report.leave_out(name, "its time is out of range")
            elif kind == "float_series" and (is_point or number is not None):
                to.number(name, math.nan if number is None else number, step, at)  # pandas writes NaN as null
            elif (value := _value(batch, kind, index)) is not None or kind not in _COLUMN_OF_TYPE:
                try:
                    self._translate_value(name, kind, value, step, at, to, report)
                except (ValueError, TypeError, KeyError) as error:  # e.g. a path with NUL, a histogram without edges
                    report.leave_out(name, f"the export contains an invalid {kind}: {error}")
            elif is_point:  # otherwise the attribute belongs to other runs in the export
                report.leave_out(name, "the export contains a point without a value")
            yield

    def _translate_value(
        self, name: str, kind: str, value: Any, step: float | None, time: float, to: Translator, report: Report
    ) -> None:
        match kind:
            case "float" | "int" | "string" | "bool":
                to.param(name, value, time)
            case "datetime":
                to.date(name, value * 1000, time)
            case "string_set":
                to.assign_strings(name, value, time)
            case "string_series":
                to.text(name, value, step, time)
            case "histogram_series":
                edges, values = list(value["edges"]), list(value["values"])
                if "densit" in str(value.get("type")).lower():
                    values = shares_of_bins(values, edges)
                to.histogram(name, Histogram(values, edges), step or 0.0, time)
            case "file" | "file_series" | "file_set" | "artifact":
                self._file(name, str(value.get("path")), step, time, to, report)
            case _:
                report.leave_out(name, f"the type {kind} is unknown")

    def _file(self, name: str, relative: str, step: float | None, time: float, to: Translator, report: Report) -> None:
        path = self._find(relative)
        if path is None:
            searched = ", ".join(str(each) for each in self._files if each.is_dir()) or "a directory 'files' nearby"
            report.leave_out(name, f"the file {relative} is not in {searched}; name the directory: -o files=DIR")
        elif path.is_dir():
            for directory, folders, names in os.walk(path):
                folders.sort()
                for inner in (Path(directory, each) for each in sorted(names)):
                    if inner.resolve().is_relative_to(path):
                        to.file(f"{name}/{inner.relative_to(path).as_posix()}", inner, time, step)
                    else:
                        report.leave_out(f"{name}/{inner.name}", "it is a link that leads out of the export")
        else:
            to.file(name, path, time, step)

    def _find(self, relative: str) -> Path | None:
        """Return the path of a downloaded file; never a path outside of the export."""
        for root in self._files:
            path = (root / relative).resolve()
            if path.exists() and path.is_relative_to(root.resolve()):
                return path
        return None


def _directories(table: Path, files: Path | None) -> list[Path]:
    """Return where the files of a run may be: each project has a directory with the same name as beside the tables."""
    roots = [files] if files else [up / "files" for up in list(table.parents)[: _LEVELS_UP + 1]]
    return [directory for root in roots for directory in (root / table.parent.name, root)]


def _value(batch: Any, kind: str, index: int) -> Any:
    """Return the value of a row; a date in Unix seconds."""
    column = _COLUMN_OF_TYPE.get(kind)
    if column not in batch.schema.names:
        return None
    if column == "datetime_value":
        return seconds(batch.column(column).slice(index, 1))[0]
    return batch.column(column)[index].as_py()
