"""What is uploaded to Comet as a file, and how Comet is to show it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from rankzero.media.encoders import Histogram
from rankzero.media.store import MediaFile
from rankzero_comet.sdk import load_sdk

IMAGE, AUDIO, VIDEO, TEXT, HISTOGRAM, ASSET = (
    "visualization", "audio", "video", "text-sample", "histogram3d", "asset"
)  # fmt: skip
"""Comet's types of files."""

VIDEOS = frozenset([".mp4", ".webm", ".gif", ".avi", ".mkv", ".mov", ".wmv"])
_PICTURES = frozenset([".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp"])


class Upload(NamedTuple):
    """A file on its way to Comet."""

    path: Path
    type: str
    name: str
    step: int | None = None
    epoch: int | None = None
    metadata: Mapping[str, Any] = MappingProxyType({})
    line: int | None = None
    """The line of the journal that says it; None without one."""


class Artifact(NamedTuple):
    """A version of one of Comet's artifacts."""

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, Path]
    """The path in the artifact → the file."""
    line: int | None = None
    """The line of the journal that says it; None without one."""


def media_type(kind: str, file: MediaFile) -> str:
    """Return the type that shows a file; that of any file for what Comet's page cannot show."""
    suffix = Path(file.path).suffix.lower()
    if kind in ("image", "figure"):
        return IMAGE if suffix in _PICTURES else ASSET
    if kind == "video":
        return VIDEO if suffix in VIDEOS else ASSET
    return AUDIO


def file_name(key: str, file: MediaFile, index: int | None) -> str:
    """Return what a picture, sound or video is called: its key, the number among several, and the suffix."""
    number = "" if index is None else f"_{index}"
    return f"{key}{number}{Path(file.path).suffix}"


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as the text that Comet's page draws as one."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()


def as_histogram(values: Histogram) -> bytes:
    """Return a histogram in Comet's form: its fixed bins, which grow by a tenth each."""
    centres = [(low + high) / 2 for low, high in zip(values.edges, values.edges[1:], strict=False)]
    drawn = [(centre, count) for centre, count in zip(centres, values.counts, strict=True) if math.isfinite(centre)]
    histogram = load_sdk().Histogram()
    if drawn:
        histogram.add([centre for centre, _ in drawn], counts=[count for _, count in drawn])
    return json.dumps(histogram.to_json(), default=lambda count: count.item()).encode()  # numpy's


def exact(values: Histogram) -> dict[str, Any]:
    """Return a histogram as it was logged, which is kept beside Comet's form of it."""
    kept: dict[str, Any] = msgspec.to_builtins(values)
    return kept


def files_of(path: Path) -> dict[str, Path]:
    """Return the files of a file or directory by their relative paths; the file itself by its name."""
    if not path.is_dir():
        return {path.name: path}
    return {each.relative_to(path).as_posix(): each for each in sorted(path.rglob("*")) if each.is_file()}
