"""The files of `CSVLogger` for media: named by key and step, and listed in ``files.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.directories import Place
from rankzero.files.writing import link_or_copy, make_directory
from rankzero.loggers.csv.file import CsvFile
from rankzero.values import parse_number, to_jsonable

NAME = "files.csv"
COLUMNS = ("time", "step", "kind", "key", "path", "details")
"""``details`` is JSON: caption, score, aliases, metadata; ``path`` is relative if the file is in the same directory."""

_DIRECTORIES = {
    "image": "images", "video": "videos", "figure": "figures", "table": "tables", "histogram": "histograms",
    "graph": "graphs",
}  # fmt: skip
_OWN_FILES = ("artifact", "checkpoint")
_LONGEST = 150  # bytes of a part of a key in a file's name, which may have 255 bytes


class KeptFiles:
    """The files in one directory."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._file = CsvFile(place, NAME, COLUMNS)
        self._listed: set[tuple[str, ...]] = set()
        if self._file.size:
            with self._file.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                self._listed.update(tuple(row) for row in csv.reader(file))

    def keep(self, source: Path, kind: str, key: str, step: int | None) -> str:
        """Store a file under a name with its key and step; return its path."""
        *parents, last = [_clean(part) for part in key.split("/") if part.strip(".")] or ["_"]
        name = "-".join(part for part in (last, None if step is None else str(step), source.stem[:8]) if part)
        relative = Path(_DIRECTORIES.get(kind, kind), *parents, name + source.suffix)
        link_or_copy(source, make_directory(self._place.path, relative.parent) / relative.name)
        self._place.push(relative.as_posix())
        return relative.as_posix()

    def list(
        self, kind: str, key: str, path: str, step: int | None, time: float | None, details: Mapping[str, Any]
    ) -> None:
        """Add a row to ``files.csv``, unless the event was delivered before."""
        known = {name: value for name, value in details.items() if value not in (None, (), [], {})}
        text = msgspec.json.encode(to_jsonable(known)).decode() if known else ""
        values = (time, step, kind, key, path, text)
        row = tuple("" if value is None else str(value) for value in values)
        if time is not None and row in self._listed:
            return
        self._file.append([dict(zip(COLUMNS, row, strict=True))])
        self._listed.add(row)
        self._file.save()

    def rewind(self, step: int) -> None:
        """Remove the rows of media with a later step; their files stay."""
        self._file.remove_rows(lambda row: row["kind"] not in _OWN_FILES and is_later(row, step))
        self._listed = {row for row in self._listed if row[2] in _OWN_FILES or not is_later({"step": row[1]}, step)}


def is_later(row: Mapping[str, str], step: int) -> bool:
    """Return whether the step of a row is later than ``step``."""
    number = parse_number(row.get("step"))
    return number is not None and number > step


def _clean(part: str) -> str:
    safe = "".join("_" if character in '\\:*?"<>|' or ord(character) < 32 else character for character in part)
    return safe.encode(errors="replace")[:_LONGEST].decode(errors="ignore")
