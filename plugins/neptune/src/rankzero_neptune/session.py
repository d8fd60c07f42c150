"""Convert data to the fields of a Neptune run; `rankzero_neptune.delivery` sends them.

Importing this module takes two seconds, for Neptune's client; so it is imported when a run is opened.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neptune.internal import operation as ops

from rankzero.events.run_info import SYSTEM, LogContext, MetricsRow
from rankzero.events.structs import Artifact, Checkpoint
from rankzero.files.directories import files_in
from rankzero.loggers.adapter import Session, TrackerLogger, Unsupported, plain_rows
from rankzero.media.record import Media, as_csv
from rankzero.media.store import MediaFile
from rankzero.values import as_float, flatten
from rankzero_neptune.checkpoints import Checkpoints
from rankzero_neptune.fields import (
    AS_TEXT,
    LONGEST_POINT,
    LONGEST_STRING,
    SINGLE_TYPES,
    Paths,
    Point,
    Tail,
    as_single,
    joined,
    milliseconds,
    named,
)
from rankzero_neptune.options import HARDWARE

MOST_POINTS = 20_000
"""Points in a request."""

_SINGLE = {
    bool: ("bool", ops.AssignBool),
    int: ("int", ops.AssignInt),
    float: ("float", ops.AssignFloat),
    str: ("string", ops.AssignString),
}
_SERIES: dict[type, tuple[str, Any]] = {float: ("floatSeries", ops.LogFloats), str: ("stringSeries", ops.LogStrings)}
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_PICTURE = 32 << 20  # bytes, the limit of Neptune's client


class NeptuneSession(Session):
    """Writes to the fields of a run. If a path has a field of another type, the new field gets a path beside it.

    Args:
        logger: its logger.
        types: path → Neptune's type of the run's fields.
        namespace: the namespace in the run for all fields.
    """

    name: str | None
    """The run's name."""
    short_id: str
    """Neptune's id of the run in its project, ``RUN-1``."""
    has_ended = False
    """Whether the run can no longer be written to."""

    def __init__(self, logger: TrackerLogger, types: Mapping[str, str], namespace: str = "") -> None:
        self.warner = logger.warner
        self.prefix = joined(namespace, logger.prefix)
        self._namespace = namespace
        self._options: Any = logger.options
        self._types = types
        self._paths = Paths(types, self._warn_of_other_path)
        self._tails: dict[str, Tail] = {}
        self._picture_steps: dict[str, float] = {}
        self._last_time = 0  # of the last file without a step
        self._checkpoints = Checkpoints(self, joined(self.prefix, "model"), has_snapshots=logger.run_info is not None)

    def _warn_of_other_path(self, wanted: str, path: str) -> None:
        message = f"there is another field at {wanted!r} in Neptune; the new one is at {path!r}"
        self.warner.warn(f"path {wanted}", message)

    # For subclasses

    def send(self, operation: Any) -> None:
        """Send an operation of Neptune's client."""
        raise NotImplementedError

    def write_points(self, path: str, points: list[Point]) -> None:
        """Add points to a series, either all floats or all texts."""
        raise NotImplementedError

    def read_points(self, path: str, kind: str, since: int) -> Iterable[Point]:
        """Return the points of a series since a time in milliseconds, as of the opening of the run."""
        raise NotImplementedError

    def texts_below(self, path: str) -> dict[str, str]:
        """Return name → value of the texts below a path."""
        raise NotImplementedError

    def download(self, path: str, destination: str) -> None:
        """Download a file."""
        raise NotImplementedError

    # Fields

    def assign(self, path: str, value: bool | int | float | str) -> None:
        """Set a single value."""
        kind, operation = _SINGLE[type(value)]
        if self._paths.type_of(path) in SINGLE_TYPES - {kind}:
            self._delete(path)
        self._write(operation, path, kind, value)

    def add_strings(self, path: str, values: Iterable[str]) -> None:
        """Add to a set of texts."""
        if values := set(values):
            self._write(ops.AddStrings, path, "stringSet", values)

    def upload(self, path: str, file: str) -> None:
        """Store a file's present content."""
        if not os.path.isfile(file):
            raise FileNotFoundError(f"{file} does not exist, or is not a file")
        self._write(ops.UploadFile, path, "file", Path(file).suffix.removeprefix("."), file)

    def upload_bytes(self, path: str, data: bytes, extension: str) -> None:
        """Store bytes as a file."""
        self._write(ops.UploadFileContent, path, "file", extension, base64.b64encode(data).decode())

    def upload_all(self, path: str, source: str) -> None:
        """Store a file, or all files of a directory below the path, and delete other fields there."""
        if not os.path.isdir(source):
            self.upload(path, source)
            return
        files = {joined(path, relative): file for relative, file in files_in(source).items()}
        for field in self.paths_at(path):
            if field not in files:
                self._delete(field)
        for field, file in files.items():
            self.upload(field, str(file))

    def paths_at(self, path: str) -> list[str]:
        """Return the paths of the fields at a path and below it."""
        return self._paths.at(path)

    def delete(self, path: str) -> None:
        """Delete the fields at a path and below it."""
        for each in self.paths_at(path):
            self._delete(each)

    def _delete(self, path: str) -> None:
        self._paths.free(path)
        self.send(ops.DeleteAttribute(path.split("/")))

    def _write(self, operation: Callable[..., Any], path: str, kind: str, *arguments: Any) -> None:
        self.send(operation(self._paths.claim(path, kind).split("/"), *arguments))

    # Series

    def send_points(self, wanted: str, points: list[Point]) -> None:
        """Send points to a series; those that Neptune would refuse go as texts to another series."""
        refused = points
        if not all(point.is_non_finite for point in points):
            kind, operation = _SERIES[type(points[0].value)]
            path = self._paths.claim(wanted, kind)
            if path not in self._tails:
                begin = min(point.time for point in points)
                self._tails[path] = Tail(self.read_points(path, kind, begin) if self._types.get(path) == kind else ())
            fitting, refused = self._tails[path].fit(points)
            for first in range(0, len(fitting), MOST_POINTS):
                values = [_logged(*point) for point in fitting[first : first + MOST_POINTS]]
                self.send(operation(path.split("/"), values))
        if refused:
            self._warn_of_late(wanted, refused)
            self.send_points(wanted + AS_TEXT, [point.as_text for point in refused])

    def _warn_of_late(self, path: str, refused: Iterable[Point]) -> None:
        late = [point for point in refused if not point.is_non_finite]
        if late:
            self.warner.warn(
                f"order {path}",
                f"Neptune accepts only increasing steps: {path!r} got step {late[0].step:.17g} late or again; such "
                f"values are texts in {path + AS_TEXT!r}",
            )

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        points: dict[str, list[Point]] = {}
        for row in rows:
            if row.is_system and not self._options.captures(HARDWARE):
                continue
            time = milliseconds(row.context.time)
            step = None if row.step is None else float(row.step)
            for key, number in row.values.items():
                points.setdefault(self._path_of(row, key), []).append(Point(as_float(number), step, time))
        for path, logged in points.items():
            if any(point.is_non_finite for point in logged):
                message = "Neptune accepts no NaN and infinity in a series: those of"
                self.warner.warn(f"NaN {path}", f"{message} {path!r} are texts in {path + AS_TEXT!r}")
            self.write_points(path, logged)

    def _path_of(self, row: MetricsRow, key: str) -> str:
        if row.is_system:
            return joined(self._options.monitoring_namespace, key.removeprefix(SYSTEM))
        return named(self._namespace, key)

    def write_console(self, text: str, stream: str, context: LogContext) -> None:
        if not self._options.captures(stream):
            return
        points = [
            Point(line[begin : begin + LONGEST_POINT], None, milliseconds(context.time))
            for line in text.split("\n")
            for begin in range(0, len(line), LONGEST_POINT)
        ]
        if points:
            self.write_points(joined(self._options.monitoring_namespace, stream), points)

    # Single values

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        self._assign_all(joined(self.prefix, "hyperparams"), params)

    def _assign_all(self, prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in flatten(values):
            path, single = named(prefix, key), as_single(value)
            if isinstance(single, str) and len(single) > LONGEST_STRING:
                self.warner.warn(
                    f"long {path}", f"Neptune accepts 16,384 characters in a text: all of {path!r} is in a file"
                )
                self.upload_bytes(f"{path}_whole", single.encode(), "txt")
                single = single[:LONGEST_STRING]
            self.assign(path, single)

    def write_tags(self, tags: Sequence[str], context: LogContext) -> None:
        self.add_strings("sys/tags", tags)

    def finish(self, status: str, time: float) -> None:
        self.assign(joined(self.prefix, "status"), status)

    # Media

    def write_media(self, media: Media, context: LogContext) -> None:
        path = named(self.prefix, media.key)
        at = joined(path, self._at(media.step, context))
        match media.kind:
            case "image":
                self._write_pictures(path, media.files(), media.step, context)
            case "figure":
                files = media.files()
                if Path(files[0].path).suffix == ".png":
                    self._write_pictures(path, files, media.step, context)
                else:
                    self._write_files(at, files)
            case "audio" | "video":
                self._write_files(at, media.files())
            case "table":
                plain = plain_rows(media, lambda file, row, column: self._write_cell(at, file, row, column))
                self.upload_bytes(at, as_csv(*plain).encode(), "csv")
            case "text":
                only = media.only_text()
                self._write_text(path, as_csv(*media.table()) if only is None else only, media.step, context)
            case "histogram":
                histogram = media.histogram()
                bins = zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True)
                self.upload_bytes(at, as_csv(["from", "to", "count"], bins).encode(), "csv")
            case "graph":
                self.upload(joined(self.prefix, "model/graph"), media.files()[0].path)
            case _:
                raise Unsupported

    def _at(self, step: int | None, context: LogContext) -> str:
        """Return the last part of a file's path, which is different for each event without a step."""
        if step is not None:
            return f"step_{step}"
        if context.line is not None:
            return f"no_step_{context.line}"
        self._last_time = max(self._last_time + 1, milliseconds(context.time))
        return f"no_step_{self._last_time}"

    def _write_files(self, path: str, files: Sequence[MediaFile]) -> None:
        for number, file in enumerate(files, 1):
            field = path if number == 1 else f"{path}_{number}"
            self.upload(field, file.path)
            if file.caption:
                self.assign(f"{field}_caption", file.caption)

    def _write_cell(self, path: str, file: MediaFile, row: int, column: int) -> str:
        field = f"{path}_cells/{row}_{column}"
        self.upload(field, file.path)
        return field

    def _write_pictures(self, path: str, files: Sequence[MediaFile], step: int | None, context: LogContext) -> None:
        for number, file in enumerate(files, 1):
            self._write_picture(path if number == 1 else f"{path}_{number}", file, step, context)

    def _write_picture(self, wanted: str, file: MediaFile, step: int | None, context: LogContext) -> None:
        """Add a picture to a series; one that the series cannot hold becomes a file beside it."""
        data = _as_png(file.path)
        path = wanted if data is None else self._paths.claim(wanted, "imageSeries")
        last = self._picture_steps.get(path)
        if data is None or (last is not None and step is not None and step <= last):
            self.upload(f"{wanted}_files/{self._at(step, context)}", file.path)
            return
        self._picture_steps[path] = step if step is not None else (-1.0 if last is None else last) + 1.0
        picture = ops.ImageValue(base64.b64encode(data).decode(), Path(file.path).name, file.caption)
        self.send(ops.LogImages(path.split("/"), [_logged(picture, step, milliseconds(context.time))]))

    def _write_text(self, path: str, text: str, step: int | None, context: LogContext) -> None:
        point = Point(text[:LONGEST_POINT], None if step is None else float(step), milliseconds(context.time))
        self.write_points(path, [point])
        if len(text) > LONGEST_POINT:
            whole = f"{path}_whole/{self._at(step, context)}"
            message = f"Neptune accepts 1,000 characters in a series: all of {path!r} is in {whole!r}"
            self.warner.warn(f"long {path}", message)
            self.upload_bytes(whole, text.encode(), "txt")

    # Files

    def write_artifact(self, artifact: Artifact, context: LogContext) -> None:
        path = joined(self.prefix, "artifacts", artifact.name)
        self.upload_all(f"{path}/{'files' if os.path.isdir(artifact.path) else 'file'}", artifact.path)
        if artifact.kind:
            self.assign(f"{path}/type", artifact.kind)
        self.add_strings(f"{path}/aliases", artifact.aliases)
        self._assign_all(f"{path}/metadata", artifact.metadata)

    def write_checkpoint(self, checkpoint: Checkpoint, context: LogContext) -> None:
        self._checkpoints.write(checkpoint)

    def read_checkpoint(self, alias: str, directory: Path) -> Path:
        self.flush()
        return self._checkpoints.read(alias, directory)


def _logged(value: Any, step: float | None, time: int) -> ops.LogSeriesValue:
    return ops.LogSeriesValue(value, step, (time + 0.5) / 1000)  # the client rounds down to milliseconds


def _as_png(file: str) -> bytes | None:
    """Return a picture as PNG; None if Pillow cannot read it, or it is too large for a series."""
    from PIL import Image

    data = Path(file).read_bytes()
    if not data.startswith(_PNG):
        buffer = io.BytesIO()
        try:
            with Image.open(io.BytesIO(data)) as image:
                if getattr(image, "n_frames", 1) > 1:
                    return None
                image.save(buffer, "PNG")
        except Exception:  # the file is damaged, or PNG does not have its mode
            return None
        data = buffer.getvalue()
    return data if len(data) <= _LARGEST_PICTURE else None
