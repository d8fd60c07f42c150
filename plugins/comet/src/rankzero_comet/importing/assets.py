"""Convert the assets of an experiment, as Comet calls logged files, to events."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec

from rankzero.events.structs import Artifact, Audio, Event, Figure, Histogram, Image, Pointcloud, Table, Text, Video
from rankzero.media.encoders import ENCODERS
from rankzero.media.encoders import Histogram as Counts
from rankzero.media.store import MediaFile, MediaStore
from rankzero_comet.server import ASSET, IMAGE
from rankzero_comet.session import ANNOTATIONS, AUDIO, HISTOGRAM, TEXT, VIDEO

POINTS, CURVE, CONFUSION_MATRIX, MODEL, CODE = "points", "curve", "confusion-matrix", "model-element", "source_code"
"""More of Comet's types of assets."""

_MEDIA = {IMAGE: Image, AUDIO: Audio, VIDEO: Video}
_SHOWN = ("caption", ANNOTATIONS, "sample_rate")
_KINDS = {ASSET: None, MODEL: "model", CODE: "code"}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_EMBEDDING = re.compile(r"(vectors|metadata)-\d+\.tsv")  # for Comet's embedding projector, not a table
_NOT_PLAIN = re.compile(r"-?[+0]\d|.*_|\s|.*\s$")


class Asset(NamedTuple):
    """A file that was logged."""

    kind: str
    """Comet's type of the file."""
    name: str
    path: str
    """Its path in the archive."""
    time: float
    step: int | None
    metadata: Mapping[str, Any]
    is_made: bool = False
    """Whether the client created the file, for example from a table."""

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def key(self) -> str:
        """The name without its suffix."""
        return self.name.removesuffix(self.suffix) or self.name

    @property
    def ignored_metadata(self) -> list[str]:
        """The names of metadata that the event of the file has no field for."""
        return [name for name in self.metadata if name not in _SHOWN] if self.kind in _MEDIA else []


def converter_of(asset: Asset) -> Callable[[Asset, bytes, MediaStore], Event] | None:
    """Return the function that converts the content of a file; None if the file is stored as it is."""
    if asset.kind == ASSET:
        is_table = asset.is_made and asset.suffix in _DELIMITERS and not _EMBEDDING.fullmatch(asset.name)
        return _table if is_table else None
    return _CONVERTERS.get(asset.kind)


def event_of(asset: Asset, stored: MediaFile) -> Event:
    """Return the event of a file that was stored as it is."""
    details = dict(asset.metadata)
    if (media := _MEDIA.get(asset.kind)) is not None:
        stored = msgspec.structs.replace(stored, caption=details.get("caption"))
        if asset.kind == IMAGE and asset.suffix == ".svg":
            return Figure(asset.time, asset.key, stored, asset.step)
        layers = details.get(ANNOTATIONS)
        return media(asset.time, asset.key, [stored], asset.step, {ANNOTATIONS: [layers]} if layers else {})
    kind = details.pop("type", None) or _KINDS.get(asset.kind, asset.kind)
    if asset.step is not None:
        details["step"] = asset.step
    return Artifact(asset.time, stored.path, asset.name, kind, metadata=details)


def _table(asset: Asset, content: bytes, files: MediaStore) -> Event:
    rows = list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=_DELIMITERS[asset.suffix]))
    has_header = bool(rows) and not any(isinstance(_cell(cell), int | float) for cell in rows[0])
    columns = rows.pop(0) if has_header else [f"column {index}" for index in range(max(map(len, rows), default=0))]
    table = files.table(columns, ([_cell(cell) for cell in row] for row in rows))
    return Table(asset.time, asset.key, table, asset.step)


def _cell(text: str) -> Any:
    """Return the number in a cell, or its text if it is not a number; None for an empty cell."""
    if not text:
        return None
    for type in (int, float):
        try:
            value = type(text)
        except ValueError:
            continue
        return text if _NOT_PLAIN.match(text) else value
    return text


def _curve(asset: Asset, content: bytes, files: MediaStore) -> Event:
    curve = json.loads(content)
    rows = zip(curve["x"], curve["y"], strict=True)
    return Table(asset.time, asset.name, files.table(["x", "y"], rows), asset.step)


def _confusion_matrix(asset: Asset, content: bytes, files: MediaStore) -> Event:
    found = json.loads(content)
    labels = found["labels"]
    rows = [[label, *counts] for label, counts in zip(labels, found["matrix"], strict=True)]
    columns = [f"{found['rowLabel']} \\ {found['columnLabel']}", *labels]
    return Table(asset.time, asset.key, files.table(columns, rows), asset.step)


def _text(asset: Asset, content: bytes, files: MediaStore) -> Event:
    details = dict(asset.metadata)
    key = details.pop("key", "text")
    return Text(asset.time, key, ["text", *details], [[content.decode(), *details.values()]], asset.step)


def _points(asset: Asset, content: bytes, files: MediaStore) -> Event:
    points = [json.loads(line) for line in content.splitlines() if line.strip()]
    stored = files.put_bytes(ENCODERS["pointcloud"](points))
    return Pointcloud(asset.time, asset.key, [stored], asset.step)


def _histogram(asset: Asset, content: bytes, files: MediaStore) -> Event:
    counts = {"counts", "edges"} <= asset.metadata.keys() and msgspec.convert(asset.metadata, Counts)
    return Histogram(asset.time, asset.key, counts or _counts(json.loads(content)), asset.step)


def _counts(histogram: Mapping[str, Any]) -> Counts:
    """Return the counts in Comet's bins: around ``offset``, each ``step`` times as far away as the previous one."""
    offset, start, stop, step = (float(histogram[name]) for name in ("offset", "start", "stop", "step"))
    if not (step >= 1.001 and 0 < start < stop):
        raise ValueError("the bins are invalid")
    distances = []
    while offset + start <= stop:
        distances.append(start)
        start *= step
    counts = {int(index): count for index, count in histogram["index_values"]}
    edges = [*(offset - each for each in reversed(distances)), offset, *(offset + each for each in distances)]
    first, last = min(counts, default=1), max(counts, default=1)
    if first < 0 or last > len(edges):
        raise ValueError("a bin does not exist")
    first, last = max(first, 1), min(max(last, 1), len(edges) - 1)  # the outermost bins have no end
    inner = [counts.pop(index, 0) for index in range(first, last + 1)]
    return Counts(inner, edges[first - 1 : last + 1], sum(counts.values()))


_CONVERTERS: dict[str, Callable[[Asset, bytes, MediaStore], Event]] = {
    CURVE: _curve,
    CONFUSION_MATRIX: _confusion_matrix,
    TEXT: _text,
    POINTS: _points,
    HISTOGRAM: _histogram,
}
