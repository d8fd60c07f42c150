"""The calls that read an attribute."""

from __future__ import annotations

from functools import partial
from typing import Any

from servers.neptune_mock.attributes import Attribute, FileSet, Image, Series
from servers.neptune_mock.calls import Asked, Call, Content, Problem


def find(asked: Asked, kind: str) -> Attribute:
    """The attribute that the query names."""
    path = asked.query["attribute"]
    found = asked.run().described().get(path)
    if found is None or found.type != kind:
        raise Problem(404, f"there is no {kind} {path}")
    return found


def properties(kind: str, asked: Asked) -> dict[str, Any]:
    """The JSON of an attribute."""
    path = asked.query["attribute"]
    return {"attributeName": path, "attributeType": kind, **find(asked, kind).properties(path)}


def values(kind: str, asked: Asked) -> dict[str, Any]:
    """A page of the points of a series; for images only their number."""
    series = find(asked, kind)
    assert isinstance(series, Series)
    first = int(asked.query["offset"])
    page = [
        {"timestampMillis": point.time, "step": point.step, "value": point.value}
        for point in series.points[first : first + int(asked.query["limit"])]
        if not isinstance(point.value, Image)
    ]
    return {"totalItemCount": len(series.points), "values": page}


def image(asked: Asked) -> Content:
    """One image of a series."""
    series = find(asked, "imageSeries")
    assert isinstance(series, Series)
    index = int(asked.query["index"])
    if index >= len(series.points):
        raise Problem(404, f"there is no image {index}")
    return Content(series.points[index].value.content, "image/png")


def list_files(asked: Asked) -> list[dict[str, Any]]:
    """The files and directories in a directory of a file set."""
    file_set = find(asked, "fileSet")
    assert isinstance(file_set, FileSet)
    directory = asked.query.get("path", "").strip("/")
    prefix = f"{directory}/" if directory else ""
    inside = {name.removeprefix(prefix): content for name, content in file_set.files.items() if name.startswith(prefix)}
    if not inside:
        raise Problem(404, f"there is no directory {directory}")
    sizes: dict[str, int] = {}
    for name, content in inside.items():
        sizes[name.partition("/")[0]] = sizes.get(name.partition("/")[0], 0) + len(content)
    return [
        {
            "name": name,
            "size": size,
            "mtime": "2025-01-01T00:00:00Z",
            "fileType": "file" if name in inside else "directory",
        }
        for name, size in sorted(sizes.items())
    ]


_API = "/api/leaderboard/v1/attributes"
_ONE = "experimentId:string attribute:string"
_PAGE = f"{_ONE} limit:integer offset:integer"
_READ = {
    "getFloatAttribute": ("float", "Float"),
    "getIntAttribute": ("int", "Int"),
    "getBoolAttribute": ("bool", "Bool"),
    "getStringAttribute": ("string", "String"),
    "getDatetimeAttribute": ("datetime", "Datetime"),
    "getFileAttribute": ("file", "File"),
    "getFloatSeriesAttribute": ("floatSeries", "FloatSeries"),
    "getStringSeriesAttribute": ("stringSeries", "StringSeries"),
    "getStringSetAttribute": ("stringSet", "StringSet"),
}
_SERIES = {
    "getFloatSeriesValues": ("floatSeries", "FloatValues"),
    "getStringSeriesValues": ("stringSeries", "StringValues"),
    "getImageSeriesValues": ("imageSeries", "ImageValues"),
}
CALLS: dict[str, Call] = {
    **{
        name: Call("leaderboard", "GET", f"{_API}/{kind}", _ONE, schema, partial(properties, kind))
        for name, (kind, schema) in _READ.items()
    },
    **{
        name: Call("leaderboard", "GET", f"{_API}/{kind}/values", _PAGE, schema, partial(values, kind))
        for name, (kind, schema) in _SERIES.items()
    },
    "getImageSeriesValue": Call("leaderboard", "GET", f"{_API}/imageSeries/value", f"{_ONE} index:integer", "", image),
    "lsFileSetAttribute": Call(
        "leaderboard", "GET", f"{_API}/fileSet/ls", f"{_ONE} path:string", "[FileEntry]", list_files
    ),
}
