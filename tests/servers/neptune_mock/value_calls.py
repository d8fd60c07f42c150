"""The calls that read one attribute back."""

from __future__ import annotations

from functools import partial
from typing import Any

from servers.neptune_mock.attributes import Attribute, Series
from servers.neptune_mock.calls import Asked, Call, Problem


def find(asked: Asked, kind: str) -> Attribute:
    """The attribute that the query names."""
    path = asked.query["attribute"]
    found = asked.run().described().get(path)
    if found is None or found.type != kind:
        raise Problem(404, f"there is no {kind} {path}")
    return found


def properties(kind: str, asked: Asked) -> dict[str, Any]:
    """What the API says of an attribute."""
    path = asked.query["attribute"]
    return {"attributeName": path, "attributeType": kind, **find(asked, kind).properties(path)}


def values(kind: str, asked: Asked) -> dict[str, Any]:
    """A page of the points of a series."""
    series = find(asked, kind)
    assert isinstance(series, Series)
    first = int(asked.query["offset"])
    page = [
        {"timestampMillis": point.time, "step": point.step, "value": point.value}
        for point in series.points[first : first + int(asked.query["limit"])]
    ]
    return {"totalItemCount": len(series.points), "values": page}


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
}
