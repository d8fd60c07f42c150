"""Convert artifacts of rankzero's MLflow logger back to events; see `rankzero_mlflow.media`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rankzero.events.structs import Audio, Event, Figure, Graph, Histogram, Image, Pointcloud, Table, Text, Video
from rankzero.media.encoders import Histogram as HistogramValues
from rankzero.media.store import MediaFile, MediaStore

_FILES = {"images": Image, "audio": Audio, "videos": Video, "pointclouds": Pointcloud}
_LOGGED = re.compile(r"(\w+)/(.+)/step-(none|-?\d{1,18})-\d+(?:-\d+)?(?:\.\w+)?")
_ESCAPED = re.compile("~(empty|[0-9A-F]{1,6})~")
_GRAPH = "graph/model.json"

HAS_CONTENT = re.compile(r"(?:tables|texts|histograms)/.+/step-[^/]+")
"""The paths of files whose content becomes an event."""


def own_event(path: str, stored: MediaFile, content: bytes, time: float, files: MediaStore) -> Event | None:
    """Return the event of a file; None if it is an artifact.

    Args:
        path: its artifact path.
        stored: the file in the run's directory.
        content: its content, if its path is one of `HAS_CONTENT`.
        time: Unix time in seconds.
        files: stores tables.
    """
    if path == _GRAPH:
        return Graph(time, stored)
    if (found := _LOGGED.fullmatch(path)) is None:
        return None
    folder, name, number = found.groups()
    key, step = _ESCAPED.sub(_character, name), None if number == "none" else int(number)
    if folder in _FILES:
        return _FILES[folder](time, key, [stored], step)
    if folder == "figures":
        return Figure(time, key, stored, step)
    try:
        return _from_content(folder, path, content, time, key, step, files)
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError):
        return None


def _from_content(
    folder: str, path: str, content: bytes, time: float, key: str, step: int | None, files: MediaStore
) -> Event | None:
    if folder == "texts" and path.endswith(".txt"):
        return Text(time, key, ["text"], [[content.decode()]], step)
    if folder == "histograms":
        return Histogram(time, key, msgspec.json.decode(content, type=HistogramValues), step)
    table: dict[str, Any] = msgspec.json.decode(content)
    if folder == "texts":
        return Text(time, key, [*map(str, table["columns"])], table["data"], step)
    return Table(time, key, files.table(table["columns"], table["data"]), step) if folder == "tables" else None


def _character(escaped: re.Match[str]) -> str:
    return "" if escaped[1] == "empty" else chr(int(escaped[1], 16))
