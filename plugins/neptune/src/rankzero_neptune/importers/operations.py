"""The operations in the log of a Neptune 1.x client, as it writes them: one JSON object a line."""

from __future__ import annotations

import math
from typing import Any

import msgspec


class FloatPoint(msgspec.Struct, gc=False):
    """A value of a series."""

    value: float
    ts: float
    """Unix time in seconds."""
    step: float | None = None


class StringPoint(msgspec.Struct, gc=False):
    """A text of a series."""

    value: str
    ts: float
    step: float | None = None


class Picture(msgspec.Struct):
    """A picture; older clients wrote ``data`` alone."""

    data: str | None = None
    """Base64; None if the client did not take it."""
    name: str | None = None
    description: str | None = None


class ImagePoint(msgspec.Struct):
    """A picture of a series."""

    value: Picture | str | None
    ts: float
    step: float | None = None


class Operation(msgspec.Struct, tag_field="type", tag=True):
    """What was done to an attribute."""

    path: list[str]

    @property
    def name(self) -> str:
        """The attribute's path as people write it."""
        return "/".join(self.path)


class AssignFloat(Operation):
    """Sets a number."""

    value: float


class AssignInt(Operation):
    """Sets a whole number."""

    value: int


class AssignBool(Operation):
    """Sets true or false."""

    value: bool


class AssignString(Operation):
    """Sets a text."""

    value: str


class AssignDatetime(Operation):
    """Sets a date."""

    value: int
    """Unix time in milliseconds."""


class LogFloats(Operation):
    """Appends numbers to a series."""

    values: list[FloatPoint]


class LogStrings(Operation):
    """Appends texts to a series."""

    values: list[StringPoint]


class LogImages(Operation):
    """Appends pictures to a series."""

    values: list[ImagePoint]


class UploadFile(Operation):
    """Uploads a file from disk."""

    ext: str
    file_path: str | None = None
    """Absolute; the client did not copy the file."""
    tmp_file_name: str | None = None
    """In ``upload_path``."""


class UploadFileContent(Operation):
    """Uploads a file whose content is in the line."""

    ext: str
    file_content: str
    """Base64."""


class UploadFileSet(Operation):
    """Uploads files into a set."""

    file_globs: list[str]
    reset: bool | str = False


class DeleteFiles(Operation):
    """Takes files out of a set."""

    file_paths: list[str]


class AddStrings(Operation):
    """Adds texts to a set."""

    values: list[str]


class RemoveStrings(Operation):
    """Takes texts out of a set."""

    values: list[str]


class ClearStringSet(Operation):
    """Empties a set of texts."""


class DeleteAttribute(Operation):
    """Takes an attribute away."""


class ClearFloatLog(Operation):
    """Empties a series of numbers."""


class ClearStringLog(Operation):
    """Empties a series of texts."""


class ClearImageLog(Operation):
    """Empties a series of pictures."""


class ClearArtifact(Operation):
    """Empties an artifact."""


class ConfigFloatSeries(Operation):
    """Says how a series is to be drawn."""

    min: float | None = None
    max: float | None = None
    unit: str | None = None


class AssignArtifact(Operation):
    """Sets an artifact, by the hash of what it tracks."""

    hash: str


class TrackFilesToArtifact(Operation):
    """Tracks files: each entry is a location, and perhaps a prefix for its name."""

    entries: list[list[str | None]]


class CopyAttribute(Operation):
    """Copies an attribute of another run."""

    container_id: str
    source_path: list[str]


ERASING = (DeleteAttribute, ClearFloatLog, ClearStringLog, ClearImageLog, ClearStringSet, ClearArtifact)
"""What takes away everything that came before under the same path."""

AnyOperation = (
    AssignFloat | AssignInt | AssignBool | AssignString | AssignDatetime | LogFloats | LogStrings | LogImages
    | UploadFile | UploadFileContent | UploadFileSet | DeleteFiles | AddStrings | RemoveStrings | ClearStringSet
    | DeleteAttribute | ClearFloatLog | ClearStringLog | ClearImageLog | ClearArtifact | ConfigFloatSeries
    | AssignArtifact | TrackFilesToArtifact | CopyAttribute
)  # fmt: skip


class Record(msgspec.Struct, gc=False):
    """One line of a log."""

    obj: AnyOperation
    version: int
    """Counts the operations of one process, from 1."""
    at: float | None = None
    """Unix time in seconds; older clients did not write it."""


class _Named(msgspec.Struct):
    type: str
    path: list[str]


class Unknown(msgspec.Struct):
    """As much of a line as any operation has."""

    obj: _Named
    version: int


decode_records = msgspec.json.Decoder(Record).decode_lines
decode_record = msgspec.json.Decoder(Record).decode


def record_from(plain: Any) -> Record:
    """Return a record from what ``json.loads`` made of a line, in which numbers need not be finite.

    Raises:
        ValueError: it is none, or a step or time in it is not finite.
    """
    record = msgspec.convert(plain, Record)
    if isinstance(record.obj, LogFloats | LogStrings | LogImages):
        for point in record.obj.values:
            if not (math.isfinite(point.ts) and math.isfinite(point.step or 0.0)):
                raise ValueError("a step or time is not finite")
    return record
