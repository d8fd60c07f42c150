"""Translate the media in the history: dictionaries with ``_type`` and the paths of files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from rankzero.errors import PluginNotInstalledError
from rankzero.events.structs import (
    Artifact,
    Audio,
    Event,
    Figure,
    Files,
    Image,
    Pointcloud,
    Table,
    Text,
    Video,
)
from rankzero.events.structs import Histogram as HistogramEvent
from rankzero.media.encoders import Histogram, encode_pointcloud
from rankzero.media.store import MediaFile
from rankzero_wandb.importing.files import RunFiles, read_json

_FILES: Mapping[str, type[Files]] = {
    "image-file": Image,
    "images/separated": Image,
    "audio-file": Audio,
    "audio": Audio,
    "video-file": Video,
    "videos": Video,
}
_PLOT = """<!DOCTYPE html>
<meta charset="utf-8"><div id="plot"></div><script src="https://cdn.plot.ly/plotly-3.0.1.min.js"></script>
<script>const plot = {}; Plotly.newPlot("plot", plot.data, plot.layout)</script>
"""

Artifacts = Mapping[str, Mapping[str, Any]]
"""The client's id of an artifact → path in the artifact → path on disk."""


def media_events(
    name: str, value: Mapping[str, Any], time: float, step: int | None, files: RunFiles, tables: Artifacts
) -> Iterator[Event]:
    """Yield the events of logged media; an unknown type becomes an artifact or a text.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file, or ``value``, is invalid.
    """
    kind = str(value["_type"])
    if kind in _FILES:
        extra = {"boxes": boxes} if (boxes := _boxes(value, files)) else {}
        if stored := files.put(_items(value), name):
            yield _FILES[kind](time, name, stored, step, extra)
        for mask, items in _masks(value).items():
            if stored := files.put(items, f"{name}/{mask}"):
                yield Image(time, f"{name}/{mask}", stored, step)
    elif kind == "histogram":
        yield HistogramEvent(time, name, _histogram(value), step)
    elif kind.endswith("table-file"):
        yield Table(time, name, _table(value, files, tables), step)
    elif kind == "plotly-file":
        plot = json.dumps(files.json(value["path"])).replace("<", "\\u003c")  # so that no tag ends the script
        yield Figure(time, name, files.store.put_bytes((_PLOT.format(plot).encode(), ".html")), step)
    elif kind in ("html-file", "html"):
        for file in files.put(_items(value), name):
            yield Figure(time, name, file, step)
    elif kind in ("object3D-file", "object3D"):
        yield from _objects(name, value, time, step, files)
    elif items := _items(value):
        yield from _artifacts(name, kind, files.put(items, name), time, step)
    else:
        yield Text(time, name, ["value"], [[json.dumps(value)]], step)


def _artifacts(name: str, kind: str, stored: list[MediaFile], time: float, step: int | None) -> Iterator[Event]:
    for file in stored:
        metadata = {} if step is None else {"step": step}
        yield Artifact(time, file.path, name, kind.removesuffix("-file"), metadata=metadata)


def _items(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the path and caption of each file."""
    if isinstance(path := value.get("path"), str):
        return [(path, value.get("caption"))]
    lists = [each for each in value.values() if isinstance(each, list)]
    inner = next((each for each in lists if each and all(_has_path(item) for item in each)), [])
    paths = [item["path"] for item in inner] or _list(value.get("filenames"))
    captions = _list(value.get("captions")) or [item.get("caption") for item in inner]
    pairs = zip_longest(paths, captions[: len(paths)])
    return [(path, caption) for path, caption in pairs if isinstance(path, str)]


def _has_path(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("path"), str)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# Images


def _attached(value: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Return the masks or boxes of each image, as name → file."""
    found = [value[kind]] if kind in value else _list(value.get(f"all_{kind}"))
    return [each if isinstance(each, dict) else {} for each in found]


def _masks(value: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    found: dict[str, list[tuple[str, Any]]] = {}
    for masks in _attached(value, "masks"):
        for mask, each in masks.items():
            if _has_path(each):
                found.setdefault(mask, []).append((each["path"], None))
    return found


def _boxes(value: Mapping[str, Any], files: RunFiles) -> list[dict[str, Any]]:
    found = _attached(value, "boxes")
    boxes = [{name: files.json(box["path"]) for name, box in each.items() if _has_path(box)} for each in found]
    return boxes if any(boxes) else []


# Others


def _histogram(value: Mapping[str, Any]) -> Histogram:
    counts, packed = value.get("values"), value.get("packedBins")
    edges = value.get("bins")
    if isinstance(packed, dict) and isinstance(counts, list):
        edges = [packed["min"] + packed["size"] * index for index in range(len(counts) + 1)]
    if not (isinstance(counts, list) and isinstance(edges, list) and len(edges) == len(counts) + 1):
        raise ValueError("the histogram does not have one more edge than counts")
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in (*counts, *edges)):
        raise ValueError("the histogram has bins that are not finite numbers")
    return Histogram(counts, [float(edge) for edge in edges])


def _objects(name: str, value: Mapping[str, Any], time: float, step: int | None, files: RunFiles) -> Iterator[Event]:
    """Yield an event of all point clouds, and other 3D objects as artifacts."""
    clouds = []
    for path, caption in _items(value):
        try:
            points = files.json(path) if path.endswith(".pts.json") else None
            if isinstance(points, dict):
                points = None if any(points.get(each) for each in ("boxes", "vectors")) else points.get("points")
            encoded = encode_pointcloud(points)
        except (OSError, ValueError, TypeError, PluginNotInstalledError):
            yield from _artifacts(name, "object3D", files.put([(path, caption)], name), time, step)
        else:
            clouds.append(files.store.put_bytes(encoded, caption=caption if isinstance(caption, str) else None))
    if clouds:
        yield Pointcloud(time, name, clouds, step)


def _table(value: Mapping[str, Any], files: RunFiles, tables: Artifacts) -> MediaFile:
    """Store a table. The client writes a file without media, and an artifact that has all rows but no NaN."""
    client_id, _, path = str(value.get("artifact_path", "")).removeprefix("wandb-client-artifact://").partition("/")
    inner = tables.get(client_id, {})
    try:
        plain = files.json(value["path"])
    except (OSError, LookupError):
        if path not in inner:
            raise
        plain = {}
    whole = read_json(inner[path]) if path in inner else plain
    rows = _list(plain.get("data"))
    merged = [
        [_cell(*cells, inner) for cells in zip_longest(row, rows[index] if index < len(rows) else ())]
        for index, row in enumerate(_list(whole.get("data")))
    ]
    return files.store.table(_list(whole.get("columns")), merged)


def _cell(cell: Any, plain: Any, inner: Mapping[str, Any]) -> Any:
    if cell is None:
        return plain
    if isinstance(cell, dict) and _has_path(cell) and cell["path"] in inner:
        return MediaFile(str(inner[cell["path"]]), cell["path"])
    return cell
