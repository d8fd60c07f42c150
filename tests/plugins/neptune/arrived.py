"""The stored data of a run as `Tracked`."""

import csv
import io
import json
import math
import re

from servers.neptune_mock.attributes import File, Series, StringSet, Value

from rankzero.testing import Tracked

AS_TEXT = "_as_text"
_TEXT = re.compile(r"(?:step (\S+): )?(.*)", re.DOTALL)
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def arrived(run, prefix="training"):
    """Return the `Tracked` of a stored run.

    Args:
        run: the server's run.
        prefix: the logger's.
    """
    tracked = Tracked(tags=sorted(run.tags))
    begin = f"{prefix}/" if prefix else ""
    held = {path.removeprefix(begin): each for path, each in run.logged.items() if path.startswith(begin)}
    for path, each in held.items():
        if path.startswith(("hyperparams/", "model/", "artifacts/", "status")):
            continue
        if each.type == "floatSeries":
            for point in each.points:
                tracked.add_metric(path, int(point.step), point.value, point.time / 1000)
        elif path.endswith(AS_TEXT):
            for point in each.points:
                step, value = read_text(point.value)
                if isinstance(value, str):
                    tracked.add_item("text", path.removesuffix(AS_TEXT), step, read_table(value))
                else:
                    tracked.add_metric(path.removesuffix(AS_TEXT), step, value, point.time / 1000)
        else:
            _add_item(tracked, path, each)
    tracked.params = {
        path.removeprefix("hyperparams/"): each.value
        for path, each in held.items()
        if path.startswith("hyperparams/") and isinstance(each, Value)
    }
    tracked.status = held["status"].value if "status" in held else None
    _add_artifacts(tracked, held)
    _add_checkpoints(tracked, held)
    if "model/graph" in held:
        tracked.add_item("graph", "graph", None, held["model/graph"].content)
    return tracked


def read_text(text):
    """Return (step, value) of a text beside a series."""
    step, value = _TEXT.fullmatch(text).groups()
    try:
        number = _NUMBERS.get(value) or float(value)
    except ValueError:
        number = value
    return None if step is None else int(step), number


def _add_item(tracked, path, each):
    if isinstance(each, Series):
        for point in each.points:
            if each.type == "imageSeries":
                kind = "figure" if "figure" in path else "image"
                tracked.add_item(kind, path, int(point.step), point.value.content, caption=point.value.description)
            else:
                tracked.add_item("text", path, int(point.step), read_table(point.value))
    elif isinstance(each, File):
        key, _, at = path.rpartition("/")
        step = int(at.split("_")[1]) if at.startswith("step_") else None
        kind = {"wav": "audio", "gif": "video", "mp4": "video"}.get(each.ext)
        if kind is not None:
            tracked.add_item(kind, key, step, each.content)
        elif each.ext == "csv":
            columns, rows = read_table(each.content.decode())
            kind = "histogram" if columns == ["from", "to", "count"] else "table"
            tracked.add_item(kind, key, step, (columns, rows))


def read_table(text):
    """Return (columns, rows) of CSV."""
    columns, *rows = csv.reader(io.StringIO(text, newline=""))
    return columns, rows


def _add_artifacts(tracked, held):
    for path, each in held.items():
        if path.startswith("artifacts/") and path.endswith("/file"):
            name = path.split("/")[1]
            aliases = held.get(f"artifacts/{name}/aliases", StringSet()).values
            tracked.add_item("artifact", name, None, each.content, aliases=sorted(aliases))


def _add_checkpoints(tracked, held):
    begin = "model/checkpoint_details/"
    aliases = {path.removeprefix("model/aliases/"): each for path, each in held.items() if "model/aliases/" in path}
    for path, each in held.items():
        if path.startswith(begin):
            name, details = path.removeprefix(begin), json.loads(each.value)
            file = held[f"model/checkpoints/{name}"]
            tracked.add_item(
                "checkpoint",
                details["file"],
                details["step"],
                file.content,
                aliases=[alias for alias, holder in aliases.items() if holder.value == name],
                score=details["score"],
            )
