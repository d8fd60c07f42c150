"""What the page shows of a run besides curves: media, console output, environment, files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.capture.environment import read_environment
from rankzero.errors import NotAFileError, UnsafePathError
from rankzero.events.structs import Console
from rankzero.files.writing import open_regular
from rankzero.media.store import MediaFile, read_table
from rankzero.reader.run_data import LoggedHistogram, LoggedText, RunData
from rankzero.values import to_jsonable

_MOST_LINES = 1_000  # of console output
_MOST_ROWS = 5_000  # of all tables of one key
_MOST_ROWS_OF_ONE = 500
_MOST_ITEMS = 100  # histograms or texts of one key
_MOST_TEXT = 100_000
_MOST_NAME = 100  # of a file
_GRAPH = "model"  # the key of model graphs, which are logged without one
TYPES = {
    **{f".{name}": f"image/{name}" for name in ("png", "gif", "webp", "bmp", "avif", "jpeg")},
    **{f".{name}": f"audio/{name}" for name in ("wav", "flac", "ogg", "aac")},
    **{f".{name}": f"video/{name}" for name in ("mp4", "webm")},
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",  # shown as an image, in which no script runs
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".ogv": "video/ogg",
    ".mov": "video/quicktime",
}
"""The files that browsers show; others can only be saved."""


class Files:
    """The media files of all runs of a page, of which as many are embedded as fit."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._wanted: list[tuple[int, dict[str, Any], Path]] = []
        self._names: dict[Path, str] = {}
        self.left_out = 0
        """The number of files that are not embedded."""
        self.bytes_left_out = 0

    def add(self, item: dict[str, Any], path: Path, newer: int) -> None:
        """Add the file of an item; ``newer`` says how many items under the same key are newer."""
        self._wanted.append((newer, item, path))

    def choose(self) -> None:
        """Choose the files, the newest of each key first, and set ``file`` of their items."""
        for _, item, path in sorted(self._wanted, key=lambda each: each[0]):
            try:
                size = path.stat().st_size
            except OSError:
                item["missing"] = True
                continue
            item["size"] = size
            if path not in self._names:
                if size > self._left:
                    self.left_out += 1
                    self.bytes_left_out += size
                    continue
                self._left -= size
                self._names[path] = f"f{len(self._names)}"
            item["file"] = self._names[path]

    def names(self) -> dict[str, Path]:
        """Return the chosen files by the names of their blocks."""
        return {name: path for path, name in self._names.items()}


def read_media(path: Path) -> bytes:
    """Return the content of a file; empty if it cannot be read any more."""
    try:
        with open_regular(path) as file:
            return file.read()
    except (OSError, NotAFileError):
        return b""


def details(run: RunData, files: Files) -> dict[str, Any]:
    """Return what is shown when a run is opened; the files of its media are added to ``files``."""
    console, left_out = _console(run.console)
    return {
        "media": list(_media(run, files)),
        "console": console,
        "console_left_out": left_out,
        "environment": list(_environment(run.dir)),
        "artifacts": [[each.name, each.kind or "", _relative(each.path, run.dir)] for each in run.artifacts],
        "checkpoints": [
            [
                each.step,
                to_jsonable(each.score),
                each.aliases,
                _relative(each.path, run.dir) if os.path.exists(each.path) else "deleted",
            ]
            for each in run.checkpoints
        ],
        "alerts": [[each.level, each.time, each.title, each.text] for each in run.alerts],
        "losses": [[each.count, each.since, each.reason] for each in run.losses],
        "damaged": run.damaged,
    }


def _media(run: RunData, files: Files) -> Iterator[dict[str, Any]]:
    for key, logged in run.media.items():
        for kind in dict.fromkeys(each.kind for each in logged):
            shown = [each for each in logged if each.kind == kind]
            newer = _newer(shown)
            yield {"kind": kind, "key": key, "items": [_file(key, each, files, newer[each.step]) for each in shown]}
    for key, tables in run.tables.items():
        some, newer = _evenly(tables), _newer(tables)
        rows = min(_MOST_ROWS_OF_ONE, _MOST_ROWS // len(some))
        yield {
            "kind": "table",
            "key": key,
            "items": [_table(each, files, newer[each.step], rows) for each in some],
            "left_out": len(tables) - len(some),
        }
    yield from _thinned("text", run.texts, _text_item)
    yield from _thinned("histogram", run.histograms, _histogram_item)
    if run.graphs:
        yield {"kind": "graph", "key": _GRAPH, "items": [_graph(each, files) for each in run.graphs[-_MOST_ITEMS:]]}


def _thinned(
    kind: str, logged: Mapping[str, list[Any]], item: Callable[[Any], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for key, each in logged.items():
        some = _evenly(each)
        yield {"kind": kind, "key": key, "items": list(map(item, some)), "left_out": len(each) - len(some)}


def _text_item(text: LoggedText) -> dict[str, Any]:
    return _at(text, show="table", columns=text.columns, rows=_cells(text.data))


def _histogram_item(logged: LoggedHistogram) -> dict[str, Any]:
    values = logged.values
    return _at(logged, show="histogram", counts=values.counts, edges=values.edges, non_finite=values.non_finite)


def _graph(file: MediaFile, files: Files) -> dict[str, Any]:
    """Return the printed form of a model, or its file if it cannot be read."""
    try:
        model = msgspec.json.decode(read_media(Path(file.path)), type=_Model)
    except msgspec.DecodeError:
        item = {"step": None, "time": 0.0, **_shown(file)}
        files.add(item, Path(file.path), 0)
        return item
    text = f"{model.text[:_MOST_TEXT]}\n\n{model.parameters:,} parameters"
    return {"step": None, "time": 0.0, "show": "table", "columns": ["model"], "rows": [[text]]}


class _Model(msgspec.Struct):
    text: str
    parameters: int = 0


def _at(logged: Any, **what: Any) -> dict[str, Any]:
    return {"step": logged.step, "time": logged.time, **what}


def _file(key: str, logged: Any, files: Files, newer: int) -> dict[str, Any]:
    item = _at(logged, **_shown(logged.file), caption=logged.caption)
    if not logged.file.name:
        step = "" if logged.step is None else f"-{logged.step}"
        item["name"] = f"{key.replace('/', '-')[:_MOST_NAME]}{step}{logged.path.suffix}"
    files.add(item, logged.path, newer)
    return item


def _shown(file: MediaFile) -> dict[str, Any]:
    path = Path(file.path)
    mime = TYPES.get(path.suffix.lower(), "")
    return {"show": mime.partition("/")[0] or "save", "type": mime, "name": file.name or path.name}


def _table(logged: Any, files: Files, newer: int, most: int) -> dict[str, Any]:
    """Return a table with at most ``most`` rows; a cell is a number, a text or a file."""
    try:
        columns, rows = read_table(logged.path)
    except (OSError, ValueError, KeyError, TypeError, NotAFileError, UnsafePathError, RecursionError):
        return _at(logged, show="save", missing=True, name=logged.path.name)
    cells = [[_cell(cell, files, newer) for cell in row] for row in rows[:most]]
    return _at(logged, show="table", columns=columns, rows=cells, left_out=max(0, len(rows) - most))


def _cell(cell: Any, files: Files, newer: int) -> Any:
    if isinstance(cell, MediaFile):
        item = _shown(cell)
        files.add(item, Path(cell.path), newer)
        return item
    return _text(cell)


def _cells(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[_text(cell) for cell in row] for row in rows[:_MOST_ROWS_OF_ONE]]


def _text(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int | float):
        return to_jsonable(cell)
    return (cell if isinstance(cell, str) else json.dumps(to_jsonable(cell), ensure_ascii=False))[:_MOST_TEXT]


def _newer(logged: Sequence[Any]) -> dict[int | None, int]:
    """Return for each step how many are newer; without a step is oldest."""
    steps = sorted({each.step for each in logged}, key=lambda step: (step is not None, step or 0), reverse=True)
    return {step: number for number, step in enumerate(steps)}


def _evenly(logged: list[Any]) -> list[Any]:
    if len(logged) <= _MOST_ITEMS:
        return logged
    last = len(logged) - 1
    return [logged[round(number * last / (_MOST_ITEMS - 1))] for number in range(_MOST_ITEMS)]


def _console(events: Sequence[Console]) -> tuple[list[list[str]], int]:
    """Return the last lines, each with its stream, and how many were left out."""
    lines = [[event.stream, line[-_MOST_TEXT:]] for event in events for line in event.text.split("\n")]
    return lines[-_MOST_LINES:], max(0, len(lines) - _MOST_LINES)


def _environment(run_dir: Path) -> Iterator[list[str]]:
    with suppress(OSError, ValueError):
        if found := read_environment(run_dir):
            yield from map(list, found.described().items())


def _relative(path: str, directory: Path) -> str:
    return os.path.relpath(path, directory) if path.startswith(f"{directory}/") else path


def media_keys(run: RunData) -> Mapping[str, list[str]]:
    """Return the keys of the media by kind, as `details` has them."""
    keys: dict[str, dict[str, None]] = {}
    for key, logged in run.media.items():
        for each in logged:
            keys.setdefault(each.kind, {})[key] = None
    for kind, by_key in (("table", run.tables), ("text", run.texts), ("histogram", run.histograms)):
        if by_key:
            keys[kind] = dict.fromkeys(by_key)
    if run.graphs:
        keys["graph"] = {_GRAPH: None}
    return {kind: list(names) for kind, names in keys.items()}
