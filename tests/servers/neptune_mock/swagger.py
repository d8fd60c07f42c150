"""The Swagger documents from which the client creates its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.neptune_mock.calls import Call

_BAD = {"default": {"description": "an error"}}
_NAMED = {"attributeName": "string", "attributeType": "string"}
_PAGE = {"totalItemCount": "integer"}
_POINT = {"timestampMillis": "integer", "step": "number"}
_SCHEMAS: dict[str, dict[str, str]] = {
    "ClientConfig": {
        "apiUrl": "string",
        "applicationUrl": "string",
        "pyLibVersions": "Versions",
        "multiPartUpload": "Parts",
        "artifacts": "Artifacts",
        "sysNameSetByBackend": "boolean",
    },
    "Versions": dict.fromkeys(("minRecommendedVersion", "minCompatibleVersion", "maxCompatibleVersion"), "string"),
    "Parts": {
        "enabled": "boolean",
        **dict.fromkeys(("minChunkSize", "maxChunkSize", "maxChunkCount", "maxSinglePartSize"), "integer"),
    },
    "Artifacts": {"enabled": "boolean", "apiVersion": "integer"},
    "Tokens": {"accessToken": "string", "refreshToken": "string", "username": "string"},
    "Project": {
        "id": "string",
        "name": "string",
        "organizationName": "string",
        "projectKey": "string",
        "version": "integer",
    },
    "Projects": {"entries": "[Project]", "matchingItemCount": "integer"},
    "Organization": {"id": "string", "name": "string"},
    "Experiment": {
        **dict.fromkeys(("id", "type", "shortId", "organizationName", "projectName"), "string"),
        "trashed": "boolean",
    },
    "Creation": {"gitInfo": "Git"},
    "Git": {"commit": "Commit"},
    "Commit": {"commitDate": "date-time"},
    "Error": {"errorDescription": "string"},
    "Errors": {"errors": "[Error]"},
    "Started": {"uploadId": "string", "errors": "[Error]"},
    "Prepared": {"id": "string", "downloadUrl": "string"},
    "Float": {**_NAMED, "value": "number"},
    "Int": {**_NAMED, "value": "integer"},
    "Bool": {**_NAMED, "value": "boolean"},
    "String": {**_NAMED, "value": "string"},
    "Datetime": {**_NAMED, "value": "date-time"},
    "State": {**_NAMED, "value": "string"},
    "File": {**_NAMED, "name": "string", "ext": "string", "size": "integer"},
    "FileSet": {**_NAMED, "size": "integer"},
    "FloatSeries": {**_NAMED, "last": "number", "lastStep": "number"},
    "StringSeries": {**_NAMED, "last": "string", "lastStep": "number"},
    "ImageSeries": {**_NAMED, "lastStep": "number"},
    "StringSet": {**_NAMED, "values": "[string]"},
    "GitRef": {**_NAMED, "commit": "object"},
    "FloatPoint": {**_POINT, "value": "number"},
    "StringPoint": {**_POINT, "value": "string"},
    "FloatValues": {**_PAGE, "values": "[FloatPoint]"},
    "StringValues": {**_PAGE, "values": "[StringPoint]"},
    "ImageValues": _PAGE,
    "FileEntry": {"name": "string", "size": "integer", "mtime": "date-time", "fileType": "string"},
    "Attributes": {"attributes": "[Attribute]"},
    "Attribute": {
        "name": "string",
        "type": "string",
        **{f"{name[0].lower()}{name[1:]}Properties": name for name in ("Float", "Int", "Bool", "String", "Datetime")},
        **{f"{name[0].lower()}{name[1:]}Properties": name for name in ("File", "FileSet", "StringSet", "GitRef")},
        **{f"{name[0].lower()}{name[1:]}Properties": name for name in ("FloatSeries", "StringSeries", "ImageSeries")},
        "experimentStateProperties": "State",
    },
    "Column": {"name": "string", "type": "string"},
    "Columns": {"entries": "[Column]"},
    "Table": {"matchingItemCount": "integer"},
}


def document(api: str, calls: Mapping[str, Call]) -> dict[str, Any]:
    """Describe the calls of one API in Swagger 2."""
    paths: dict[str, dict[str, Any]] = {}
    for name, call in calls.items():
        if call.api == api:
            paths.setdefault(call.path, {})[call.method.lower()] = _operation(name, call)
    return {
        "swagger": "2.0",
        "info": {"title": api, "version": "1"},
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": paths,
        "definitions": {
            name: {"type": "object", "properties": {key: _schema(kind) for key, kind in fields.items()}}
            for name, fields in _SCHEMAS.items()
        },
    }


def _operation(name: str, call: Call) -> dict[str, Any]:
    good = {"description": "OK", **({"schema": _schema(call.returns)} if call.returns else {})}
    parameters = [_parameter(each) for each in call.parameters.split()]
    # The client expects the tag "api" on each call.
    return {"operationId": name, "tags": ["api"], "parameters": parameters, "responses": {"200": good, **_BAD}}


def _parameter(described: str) -> dict[str, Any]:
    where, name, kind = (["query", *described.split(":")])[-3:]
    if where == "body":
        return {"in": where, "name": name, "required": True, "schema": _schema("[object]" if kind == "array" else kind)}
    listed = {"items": {"type": "string"}, "collectionFormat": "multi"} if kind == "array" else {}
    return {"in": where, "name": name, "type": kind, **listed}


def _schema(kind: str) -> dict[str, Any]:
    if kind.startswith("["):
        return {"type": "array", "items": _schema(kind[1:-1])}
    if kind in _SCHEMAS:
        return {"$ref": f"#/definitions/{kind}"}
    return {"type": "string", "format": kind} if kind == "date-time" else {"type": kind}
