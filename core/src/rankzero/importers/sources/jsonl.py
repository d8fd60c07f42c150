"""Import metrics from files with a JSON object in each line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from rankzero.importers.base import FoundRun, Report
from rankzero.importers.sources.finding import find_all
from rankzero.importers.sources.rows import Numbers, RowFile, RowImporter, Texts, make_run
from rankzero.values import NON_FINITE, flatten, to_jsonable

_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")


class JsonLinesImporter(RowImporter):
    """Imports a run from each file."""

    summary: ClassVar[str] = "files with a JSON object of metrics in each line"

    def find(self, sources: Sequence[str]) -> Iterable[FoundRun]:
        found, skipped = find_all(
            sources, lambda path: path.name.lower().endswith(_SUFFIXES), "JSON Lines file; name a .json file itself"
        )
        for path, is_named in found.items():
            yield make_run([JsonLines(path, self._step, self._time)], is_named=is_named)
        yield from skipped


class JsonLines(RowFile):
    """A file with a JSON object in each line; the names of nested values are joined by ``/``."""

    no_rows = "no line is a JSON object with values"

    def rows(self, report: Report) -> Iterator[tuple[Numbers, Texts]]:
        before = self.file.offset
        for line in self.file.lines(report):
            row = _decoded(line)
            if row is None and self.file.may_grow and not line.endswith("\n"):
                self.file.offset = before
                return
            before = self.file.offset
            numbers: Numbers = {}
            texts: Texts = {}
            if row is None:
                report.leave_out("a line", "it is not a JSON object")
            elif row:
                for name, value in flatten(row) if dict in map(type, row.values()) else row.items():
                    if isinstance(value, int | float):
                        numbers[name] = value
                    elif isinstance(value, str):
                        if value in NON_FINITE:
                            numbers[name] = NON_FINITE[value]
                        else:
                            texts[name] = value
                    elif value is not None:  # a list
                        texts[name] = msgspec.json.encode(to_jsonable(value)).decode()
            if numbers or texts:
                yield numbers, texts


def _decoded(line: str) -> dict[str, Any] | None:
    """Return the object in a line, an empty one for an empty line; None if the line is not an object."""
    if line.isspace():
        return {}
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError):
        try:
            row = json.loads(line)  # reads NaN and Infinity
        except (ValueError, RecursionError):
            return None
    return row if isinstance(row, dict) else None
