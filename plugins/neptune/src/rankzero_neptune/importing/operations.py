"""The operations in the log of a Neptune 1.x client: the JSON that it writes, one object a line."""

from __future__ import annotations

import math
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec

from rankzero.events.trust import LATEST

T = TypeVar("T")
Time = Annotated[float, msgspec.Meta(ge=0.0, lt=LATEST)]
"""Unix time in seconds."""


class Point(msgspec.Struct, Generic[T], gc=False):
    """A value of a series."""

    value: T
    ts: Time
    step: float | None = None


class Picture(msgspec.Struct):
    """An image; older clients wrote ``data`` alone."""

    data: str | None = None
    """Base64; None if the image was too large for the client."""
    name: str | None = None
    description: str | None = None


class Operation(msgspec.Struct, tag_field="type", tag=True):
    """A change of an attribute."""

    path: list[str]

    @property
    def name(self) -> str:
        """The attribute's path with slashes."""
        return "/".join(self.path)


_FIELDS: dict[str, list[tuple[str, Any] | tuple[str, Any, Any]]] = {
    "AssignFloat": [("value", float)],
    "AssignInt": [("value", int)],
    "AssignBool": [("value", bool)],
    "AssignString": [("value", str)],
    "AssignDatetime": [("value", int)],  # Unix time in milliseconds
    "LogFloats": [("values", list[Point[float]])],
    "LogStrings": [("values", list[Point[str]])],
    "LogImages": [("values", list[Point[Picture | str | None]])],
    # A file on disk, which the client did not copy, or one in its directory upload_path.
    "UploadFile": [("ext", str), ("file_path", str | None, None), ("tmp_file_name", str | None, None)],
    "UploadFileContent": [("ext", str), ("file_content", str)],  # Base64
    "UploadFileSet": [("file_globs", list[str]), ("reset", bool | str, False)],
    "DeleteFiles": [("file_paths", list[str])],
    "AddStrings": [("values", list[str])],
    "RemoveStrings": [("values", list[str])],
    "ClearStringSet": [],
    "DeleteAttribute": [],
    "ClearFloatLog": [],
    "ClearStringLog": [],
    "ClearImageLog": [],
    "ClearArtifact": [],
    "ConfigFloatSeries": [("min", float | None, None), ("max", float | None, None), ("unit", str | None, None)],
    "AssignArtifact": [("hash", str)],
    "TrackFilesToArtifact": [("entries", list[list[str | None]])],  # locations, perhaps with a prefix of the name
    "CopyAttribute": [("container_id", str), ("source_path", list[str])],
}
_TYPES = {name: msgspec.defstruct(name, fields, bases=(Operation,), tag=name) for name, fields in _FIELDS.items()}
KNOWN = frozenset(_TYPES)
"""The types of operations."""
LogFloats: Any = _TYPES["LogFloats"]
DELETING = frozenset(name for name in _FIELDS if name.startswith(("Clear", "Delete"))) - {"DeleteFiles"}
"""The types that delete everything that was logged before to the same path."""

if TYPE_CHECKING:
    AnyOperation = Any
else:
    AnyOperation = reduce(or_, _TYPES.values())


class Record(msgspec.Struct, gc=False):
    """A line of a log."""

    obj: AnyOperation
    version: int
    """The number of the operation in its process, from 1."""
    at: Time | None = None
    """None in the logs of older clients."""

    @property
    def type(self) -> str:
        """The type of the operation, such as ``LogFloats``."""
        return str(self.obj.__class__.__name__)


class _Named(msgspec.Struct):
    type: str
    path: list[str]


class UnknownRecord(msgspec.Struct):
    """The fields that the line of any operation has."""

    obj: _Named
    version: int


decode_records = msgspec.json.Decoder(Record).decode_lines
decode_record = msgspec.json.Decoder(Record).decode


def to_record(line: Any) -> Record:
    """Convert a line that ``json.loads`` decoded, with NaN as older clients wrote it.

    Raises:
        ValueError: it is not a record, or a step or time is not finite.
    """
    record = msgspec.convert(line, Record)
    if record.type in ("LogFloats", "LogStrings", "LogImages"):
        for point in record.obj.values:
            if not (math.isfinite(point.ts) and math.isfinite(point.step or 0.0)):
                raise ValueError("a step or time is not finite")
    return record
