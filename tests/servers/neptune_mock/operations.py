"""The operations of an ``executeOperations`` request, applied to a run one by one."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

from servers.neptune_mock.attributes import FileSet, Image, Point, Series, StringSet, Value
from servers.neptune_mock.run import Refused, StoredRun

_Operation: TypeAlias = Callable[[StoredRun, str, dict[str, Any]], None]


def apply(run: StoredRun, operations: list[dict[str, Any]], increasing_steps: bool) -> list[str]:
    """Apply operations; return why some of them were refused.

    Args:
        increasing_steps: refuse a point whose step is not greater than the previous one.
    """
    reasons: list[str] = []
    for operation in operations:
        path = operation["path"]
        (name,) = operation.keys() - {"path"}
        try:
            if name in _LOGS:
                reasons += _log(run, path, name, operation[name]["entries"], increasing_steps)
            else:
                _OPERATIONS[name](run, path, operation[name])
        except Refused as error:
            reasons.append(str(error))
    return reasons


def _assign(kind: str, run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    run.obtain(path, f"assign {kind}", kind, lambda: Value(kind, None)).value = sent["value"]


def _assign_datetime(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    moment = datetime.fromtimestamp(sent["valueMilliseconds"] / 1000, UTC)
    _assign("datetime", run, path, {"value": moment})


def _log(run: StoredRun, path: str, name: str, entries: list[dict[str, Any]], increasing_steps: bool) -> list[str]:
    series = run.obtain(path, name, _LOGS[name], lambda: Series(_LOGS[name]))
    reasons = []
    for entry in entries:
        last = series.points[-1].step if series.points else -1.0
        step = last + 1 if entry.get("step") is None else entry["step"]
        if increasing_steps and step <= last:
            reasons.append(
                f"X-coordinates (step) must be strictly increasing for series attribute: {path}. Invalid point: {step}"
            )
            continue
        value = _image(entry["value"]) if name == "logImages" else entry["value"]
        series.points.append(Point(value, step, entry["timestampMilliseconds"]))
    return reasons


def _image(sent: dict[str, Any]) -> Image:
    return Image(base64.b64decode(sent["data"]), sent.get("name"), sent.get("description"))


def _clear(kind: str, run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    run.obtain(path, "clear", kind, lambda: Series(kind)).points.clear()


def _configure(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    run.obtain(path, "configure", "floatSeries", lambda: Series("floatSeries")).config.update(sent)


def _insert_strings(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    run.obtain(path, "insert strings", "stringSet", StringSet).values.update(sent["values"])


def _remove_strings(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    run.obtain(path, "remove strings", "stringSet", StringSet).values.difference_update(sent["values"])


def _clear_strings(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    run.obtain(path, "clear", "stringSet", StringSet).values.clear()


def _delete(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    if path not in run.attributes:
        raise Refused(f"Cannot delete {path}: Attribute does not exist")
    del run.attributes[path]


def _delete_files(run: StoredRun, path: str, sent: dict[str, Any]) -> None:
    files = run.obtain(path, "delete files", "fileSet", FileSet).files
    for name in sent["filePaths"]:
        gone = [each for each in files if each == name or each.startswith(f"{name}/")]
        for each in gone:
            del files[each]


_LOGS = {"logFloats": "floatSeries", "logStrings": "stringSeries", "logImages": "imageSeries"}
_OPERATIONS: dict[str, _Operation] = {
    "assignFloat": partial(_assign, "float"),
    "assignInt": partial(_assign, "int"),
    "assignBool": partial(_assign, "bool"),
    "assignString": partial(_assign, "string"),
    "assignDatetime": _assign_datetime,
    "clearFloatSeries": partial(_clear, "floatSeries"),
    "clearStringSeries": partial(_clear, "stringSeries"),
    "clearImageSeries": partial(_clear, "imageSeries"),
    "configFloatSeries": _configure,
    "insertStrings": _insert_strings,
    "removeStrings": _remove_strings,
    "clearStringSet": _clear_strings,
    "deleteAttribute": _delete,
    "deleteFiles": _delete_files,
}
