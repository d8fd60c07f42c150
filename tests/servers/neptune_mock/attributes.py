"""The fields of a run, decoded, and their JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

_MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Point(NamedTuple):
    """One value of a series."""

    value: Any
    """A float, a string or an `Image`."""
    step: float
    time: int
    """Milliseconds since 1970."""


class Image(NamedTuple):
    """One image of a series."""

    content: bytes
    name: str | None
    description: str | None


@dataclass
class Value:
    """A ``float``, ``int``, ``bool``, ``string``, ``datetime`` or ``experimentState``."""

    type: str
    value: Any

    def properties(self, path: str) -> dict[str, Any]:
        """The JSON of the field."""
        return {"value": self.value.strftime(_MOMENT) if isinstance(self.value, datetime) else self.value}


@dataclass
class Series:
    """A ``floatSeries``, ``stringSeries`` or ``imageSeries``, in order of arrival."""

    type: str
    points: list[Point] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    """``min``, ``max`` and ``unit``, as configured."""

    def properties(self, path: str) -> dict[str, Any]:
        """The JSON of the field."""
        if not self.points:
            return {}
        last = self.points[-1]
        return {"lastStep": last.step, **({} if isinstance(last.value, Image) else {"last": last.value})}


@dataclass
class StringSet:
    """A set of strings, such as tags."""

    values: set[str] = field(default_factory=set)
    type: str = "stringSet"

    def properties(self, path: str) -> dict[str, Any]:
        """The JSON of the field."""
        return {"values": sorted(self.values)}


@dataclass
class File:
    """A file."""

    content: bytes
    ext: str
    type: str = "file"

    def name(self, path: str) -> str:
        """The file name of a download."""
        name = path.rpartition("/")[2]
        return f"{name}.{self.ext}" if self.ext else name

    def properties(self, path: str) -> dict[str, Any]:
        """The JSON of the field."""
        return {"name": self.name(path), "ext": self.ext, "size": len(self.content)}


@dataclass
class FileSet:
    """Files by their path in the set."""

    files: dict[str, bytes] = field(default_factory=dict)
    type: str = "fileSet"

    def properties(self, path: str) -> dict[str, Any]:
        """The JSON of the field."""
        return {"size": sum(map(len, self.files.values()))}


@dataclass
class GitRef:
    """The commit that a run was started from, as sent."""

    info: dict[str, Any]
    type: str = "gitRef"

    def properties(self, path: str) -> dict[str, Any]:
        """The JSON of the field."""
        return {"commit": self.info.get("commit") or {}}


Attribute: TypeAlias = Value | Series | StringSet | File | FileSet | GitRef


def described(path: str, attribute: Attribute) -> dict[str, Any]:
    """The JSON of an attribute."""
    named = {"attributeName": path, "attributeType": attribute.type}
    return {
        "name": path,
        "type": attribute.type,
        f"{attribute.type}Properties": {**named, **attribute.properties(path)},
    }
