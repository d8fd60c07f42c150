"""Convert names, values and media to Comet's; the base class of sessions for direct use and couriers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rankzero.events.run_info import LogContext
from rankzero.events.structs import Artifact, Checkpoint
from rankzero.files.directories import files_in
from rankzero.loggers.adapter import Session, Unsupported, plain_rows
from rankzero.media.encoders import Histogram
from rankzero.media.record import Media, as_csv
from rankzero.media.store import MediaFile
from rankzero.values import to_jsonable
from rankzero_comet.options import load_sdk
from rankzero_comet.server import ASSET, IMAGE, Upload, Version

AUDIO, VIDEO, TEXT, HISTOGRAM = "audio", "video", "text-sample", "histogram3d"
"""Comet's types of files."""
ANNOTATIONS = "annotations"
"""The argument with Comet's layers of boxes and polygons, a list for each picture."""

_SHOWN = {
    "image": (IMAGE, (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp")),
    "video": (VIDEO, (".mp4", ".webm", ".gif", ".avi", ".mkv", ".mov", ".wmv")),
    "audio": (AUDIO, ()),
}
"""Kind of media → Comet's type, and the suffixes of files that its page can show; all if empty."""
_LONGEST_NAME = 100
_LONGEST_VALUE = 1000  # characters of a param
_LARGEST_PAGE = 1_000_000  # bytes: plotly's figures bring all of plotly with them, and Comet shows all pages at once


class CometSession(Session):
    """Converts data to Comet's form; subclasses send it."""

    key: str
    """The experiment's key."""

    def call(self, method: str, value: Any, *more: Any, context: LogContext) -> None:
        """Call a method of Comet's ``Experiment``, or the equivalent of ``RestApiClient``."""
        raise NotImplementedError

    def send_params(self, params: Mapping[str, Any], context: LogContext) -> None:
        """Send params, which have their names in Comet."""
        raise NotImplementedError

    def send_file(self, file: Upload) -> None:
        """Send a file."""
        raise NotImplementedError

    def send_version(self, version: Version) -> None:
        """Create a version of an artifact."""
        raise NotImplementedError

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        """Download the files of an artifact's version into a directory, and return their paths.

        Raises:
            LookupError: no version has the alias.
        """
        raise NotImplementedError

    # Names, params, tags

    def name_in_comet(self, name: str) -> str:
        """Return the name of a metric or param in Comet; different names stay different."""
        renamed = metric_name(name)
        if renamed != name:
            message = f"Comet accepts names of 1 to {_LONGEST_NAME} characters: {name!r} is called {renamed!r} there"
            self.warner.warn(message)
        return renamed

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        values = {self.name_in_comet(name): value for name, value in _flat(params)}
        long = {
            name: str(value)
            for name, value in values.items()
            if isinstance(value, str | list) and len(str(value)) > _LONGEST_VALUE
        }
        if values:
            self.send_params(values | {name: text[:_LONGEST_VALUE] for name, text in long.items()}, context)
        for name, text in long.items():
            asset = f"params/{name}.txt"
            message = f"Comet accepts params of {_LONGEST_VALUE} characters: {name!r} is whole in the asset {asset}"
            self.warner.warn(message)
            self._send(text.encode(), ASSET, asset, context)
        if any(isinstance(value, Mapping) and value for value in params.values()):
            self.call("log_other", "hasNestedParams", True, context=context)  # then Comet shows them as a tree

    def write_tags(self, tags: Sequence[str], context: LogContext) -> None:
        self.call("add_tags", list(tags), context=context)

    # Media

    def write_media(self, media: Media, context: LogContext) -> None:
        match media.kind:
            case "image" | "audio" | "video" | "figure":
                self._write_files(media, context)
            case "table" | "text":
                self._write_table(media, context)
            case "histogram":
                counted = media.histogram()
                details = msgspec.to_builtins(counted)
                self._send(_as_histogram(counted), HISTOGRAM, f"{media.key}.json", context, media.step, details)
            case "graph" if isinstance(media.items, MediaFile):
                path = Path(media.items.path)
                self.call("set_model_graph", str(json.loads(path.read_bytes()).get("text", "")), context=context)
                self._send(path, ASSET, "graph.json", context)
            case "graph":
                self.call("set_model_graph", str(media.items), context=context)
            case _:
                raise Unsupported

    def _write_files(self, media: Media, context: LogContext) -> None:
        files = media.files()
        layers = media.extra.get(ANNOTATIONS)
        if layers is not None and len(layers) != len(files):
            raise ValueError(f"{len(files)} pictures of {media.key!r} were logged with {len(layers)} annotations")
        for index, file in enumerate(files):
            name = media.key if len(files) == 1 else f"{media.key}_{index}"
            self._send_shown(media, file, name, context, layers and to_jsonable(layers[index]))
            path = Path(file.path)
            if media.kind == "figure" and path.suffix == ".html" and path.stat().st_size <= _LARGEST_PAGE:
                self.call("log_html", path.read_text(encoding="utf-8", errors="replace"), context=context)

    def _send_shown(self, media: Media, file: MediaFile, name: str, context: LogContext, layers: Any = None) -> str:
        """Send a picture, sound or video, as a plain file if Comet cannot show it; return its name in Comet."""
        path = Path(file.path)
        shown, suffixes = _SHOWN.get(media.kind, _SHOWN["image"])
        if suffixes and path.suffix.lower() not in suffixes:
            shown = ASSET
        self._send(path, shown, name + path.suffix, context, media.step, {"caption": file.caption, ANNOTATIONS: layers})
        return name + path.suffix

    def _write_table(self, media: Media, context: LogContext) -> None:
        """Write a table as CSV, and a single text as a text sample."""
        if (text := media.only_text()) is not None:
            self._send(text.encode(errors="replace"), TEXT, "text.txt", context, media.step, {"key": media.key})
            return
        columns, rows = plain_rows(
            media, lambda file, row, column: self._send_shown(media, file, f"{media.key}_{row}_{column}", context)
        )
        table = as_csv(columns, (map(_cell, row) for row in rows))
        self._send(table.encode(), ASSET, f"{media.key}.csv", context, media.step)

    # Files and checkpoints

    def write_artifact(self, artifact: Artifact, context: LogContext) -> None:
        """Write a version of an artifact if it has aliases, otherwise assets of the experiment."""
        source, name = Path(artifact.path), artifact.name
        files = {name if name.endswith(source.suffix) else name + source.suffix: source}
        if source.is_dir():
            files = files_in(source)
        if artifact.aliases:
            kind = artifact.kind or "file"
            self.send_version(Version(name, kind, artifact.aliases, artifact.metadata, files, context))
            return
        for relative, file in files.items():
            asset = f"{name}/{relative}" if source.is_dir() else relative
            self._send(file, ASSET, asset, context, details={"type": artifact.kind, **artifact.metadata})

    def write_checkpoint(self, checkpoint: Checkpoint, context: LogContext) -> None:
        """Write a version of the artifact ``model-EXPERIMENT_KEY``."""
        source = Path(checkpoint.path)
        files = {source.name: source}
        if source.is_dir():
            files = {f"{source.name}/{relative}": file for relative, file in files_in(source).items()}
        details = {"score": checkpoint.score, "step": checkpoint.step, "original_filename": source.name}
        details = to_jsonable(details | checkpoint.metadata)
        self.send_version(Version(f"model-{self.key}", "model", checkpoint.aliases, details, files, context))

    def read_checkpoint(self, alias: str, directory: Path) -> Path:
        first, *_ = self.download(f"model-{self.key}", alias, directory)
        return directory / first.relative_to(directory).parts[0]

    def _send(
        self,
        content: Path | bytes,
        type: str,
        name: str,
        context: LogContext,
        step: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        metadata = {key: value for key, value in (details or {}).items() if value is not None}
        self.send_file(Upload(content, type, name, context, step, metadata))


def metric_name(name: str) -> str:
    """Return the name of a metric or param in Comet."""
    if len(name) <= _LONGEST_NAME:
        return name or "(no name)"
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}~{digest}"


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of each param; keys of nested dictionaries are joined by ``|``, as by Comet's client."""
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}|")
        else:
            yield f"{prefix}{key}", str(value) if isinstance(value, Mapping) else value


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _as_histogram(values: Histogram) -> bytes:
    """Return a histogram as JSON with Comet's bins, each a tenth wider than the previous one."""
    centres = [(low + high) / 2 for low, high in zip(values.edges, values.edges[1:], strict=False)]
    drawn = [(centre, count) for centre, count in zip(centres, values.counts, strict=True) if math.isfinite(centre)]
    histogram = load_sdk().Histogram()
    if drawn:
        histogram.add([centre for centre, _ in drawn], counts=[count for _, count in drawn])
    return json.dumps(histogram.to_json(), default=lambda count: count.item()).encode()  # numpy's
