"""Translate the messages of Comet's client to events.

Successive values with the same step and time become one event, and so do successive parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec

from rankzero.errors import RankzeroError
from rankzero.events.structs import Artifact, Event, Figure, Graph, Metrics, Params, Text, encode
from rankzero.events.trust import LATEST, check_depth
from rankzero.importers.base import Report
from rankzero.importers.console_lines import ConsoleLines
from rankzero.importers.nested_params import NestedParams
from rankzero.media.encoders import encode_image, encode_model
from rankzero.media.store import MediaStore
from rankzero.values import NON_FINITE
from rankzero_comet.importing.archive import DAMAGE, Archive, reason
from rankzero_comet.importing.assets import CODE, CONFUSION_MATRIX, MODEL, Asset, converter_of, event_of
from rankzero_comet.options import load_sdk
from rankzero_comet.server import IMAGE

INVALID = (
    AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, RankzeroError,
    msgspec.MsgspecError,
)  # fmt: skip
"""The exceptions that data of an unexpected form raises."""
_IGNORED_PARAMS = frozenset({"curr_step", "curr_epoch"})
_IGNORED_OTHERS = frozenset({"Name", "offline_experiment", "hasNestedParams", "Created from"})
_DESCRIPTIONS = frozenset({"file_name", "git_metadata", "gpu_static_info", "installed_packages"})
"""Types of messages that `rankzero_comet.importing.environment` reads."""
_REST_OF_SYSTEM = ("ip", "machine", "os", "os_release", "os_type")
"""Details that `rankzero.capture.environment.Environment` does not have."""
_SYSTEM, _DURATION = "sys.", "process duration"
_LARGEST_INT = 1 << 63
_LARGEST_CONVERTED = 1 << 26


class _Metric(msgspec.Struct, gc=False):
    metricName: str
    metricValue: Any = None
    step: Any = None
    epoch: Any = None


class _MetricPayload(msgspec.Struct, gc=False):
    metric: _Metric
    local_timestamp: Any = None
    context: str | None = None


class _MetricMessage(msgspec.Struct, tag_field="type", tag="metric_msg", gc=False):
    payload: _MetricPayload


_decode_metric = msgspec.json.Decoder(_MetricMessage).decode
_decode_any = msgspec.json.Decoder().decode


def decoded(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the type and payload of a message.

    Raises:
        ValueError, TypeError, LookupError, RecursionError, MsgspecError: it is damaged.
    """
    try:
        message = _decode_any(line)
    except msgspec.MsgspecError:  # perhaps a NaN, which Comet's client writes in metadata
        message = json.loads(line, parse_int=float)
    type, payload = message["type"], message["payload"]
    if not isinstance(type, str) or not isinstance(payload, dict):
        raise TypeError("not a message")
    check_depth(payload)
    return type, payload


class Translator:
    """Translates the messages of an archive.

    Args:
        archive: the archive.
        files: stores files in the run's directory.
        report: records what cannot be imported.
        time: the time of messages before the first message with a time, Unix time in seconds.
    """

    def __init__(self, archive: Archive, files: MediaStore, report: Report, time: float) -> None:
        self._archive = archive
        self._files = files
        self._report = report
        self._time = time
        self._ready: list[Event] = []
        self._pending: Metrics | Params | None = None
        self._params = NestedParams("|")
        self._names: set[str] = set()
        self._console = ConsoleLines()

    def events(self, offset: int = 0) -> Iterator[Event]:
        """Yield the events of the messages after ``offset``."""
        for line in self._archive.lines(self._report, offset):
            try:
                self._metric(_decode_metric(line).payload)
            except (msgspec.MsgspecError, ValueError):  # ValueError: not UTF-8
                self._other(line)
            if self._ready:
                yield from self._take()
        for event in self._console.partial():
            self._put(event)
        self._flush()
        yield from self._take()

    def finish(self, others: dict[str, Any]) -> Iterator[Event]:
        """Yield ``others`` as params, at the time of the last message."""
        self._describe("other", others)
        self._flush()
        yield from self._take()

    # Values

    def _metric(self, message: _MetricPayload) -> None:
        metric, stage = message.metric, message.context
        time = self._time_of(message.local_timestamp)
        name, value = metric.metricName, metric.metricValue
        if stage:
            name = f"{stage}_{name}"  # as Comet names it
        elif name.startswith(_SYSTEM) or name == _DURATION:
            name = f"system/{name.removeprefix(_SYSTEM)}"
        step = self._whole_step(name, metric.step, time)
        if isinstance(value, str):
            if value not in NON_FINITE:
                self._put(Text(time, name, ["value"], [[value]], step))
                return
        elif not isinstance(value, int | float):
            self._report.leave_out(name, "the value is not a number")
            return
        self._number(time, step, _whole(metric.epoch), stage, name, value)

    def _number(
        self, time: float, step: int | None, epoch: int | None, stage: str | None, name: str, value: Any
    ) -> None:
        row = self._pending
        if (
            row.__class__ is Metrics
            and (row.time, row.step, row.epoch, row.stage) == (time, step, epoch, stage)
            and name not in row.values
        ):
            row.values[name] = value
            return
        self._flush()
        self._pending = Metrics(time, step, {name: value}, epoch, stage)

    def _whole_step(self, name: str, step: Any, time: float) -> int | None:
        """Return the step as an int. A step with a fraction is rounded down, and also becomes a metric."""
        whole = _whole(step)
        if whole is not None and whole != step:
            self._number(time, whole, None, None, f"{name}/step", step)
        return whole

    def _param(self, name: str, value: Any) -> None:
        if self._params.has(name, value):
            return
        params = self._pending
        if not isinstance(params, Params) or name in self._names:
            self._flush()
            self._names.clear()
            self._pending = params = Params(self._time, {})
        self._names.add(name)
        self._params.set(params.values, name, value)

    def _time_of(self, milliseconds: Any) -> float:
        self._time = seconds(milliseconds) or self._time
        return self._time

    # Other messages

    def _other(self, line: bytes) -> None:
        if not line.strip():
            return
        type = "unknown"
        try:
            type, payload = decoded(line)
            self._time_of(payload.get("local_timestamp"))
            self._translate(type, payload)
        except DAMAGE as error:
            self._report.leave_out(type, reason(error))
        except INVALID:
            self._report.leave_out(f"a message of the type {type}", "it is damaged")

    def _translate(self, type: str, message: dict[str, Any]) -> None:
        match type:
            case "metric_msg":
                self._metric(msgspec.convert(message, _MetricPayload))
            case "parameter_msg":
                about = message.get("param") or message["params"]
                if (name := about["paramName"]) not in _IGNORED_PARAMS:
                    self._param(f"{message['context']}_{name}" if message.get("context") else name, about["paramValue"])
            case "standard_output":
                stream = "stderr" if message.get("stderr") else "stdout"
                if (lines := self._console.add(stream, str(message["output"]), self._time)) is not None:
                    self._put(lines)
            case "log_other":
                key = message["key"]
                if key not in _IGNORED_OTHERS and not key.startswith("rankzero."):
                    self._param(f"other|{key}", message["value"])
            case "file_upload":
                self._upload(message)
            case "3d-image":
                for item in message["items"]:
                    name = f"{message['name']}/{item['file_name']}" if item["type"] != "points" else message["name"]
                    self._asset(Asset(item["type"], name, item["file_path"], self._time, _whole(message["step"]), {}))
            case "remote_file" | "remote_model":
                assets = message.get("remote_assets", [message])
                names = [(each.get("additional_params") or each).get("fileName") for each in assets]
                rows = [[name, each["remote_uri"]] for name, each in zip(names, assets, strict=True)]
                self._put(Text(self._time, "remote assets", ["name", "uri"], rows))
            case "html" | "htmlOverride":
                file = self._files.put_bytes((message[type].encode(errors="replace"), ".html"))
                self._put(Figure(self._time, "html", file))
            case "graph":
                self._put(Graph(self._time, self._files.put_bytes(encode_model(message["graph"]))))
            case "os_packages":
                stored = self._files.put_bytes(("\n".join(message[type]).encode(errors="replace"), ".txt"))
                self._put(Artifact(self._time, stored.path, "os_packages.txt"))
            case "ws_msg":
                self._translate(*_of_old_client(message))
            case "system_info":
                self._param(f"system|{message[type]['key']}", message[type]["value"])
            case "log_dependency":
                self._param(f"dependencies|{message['name']}", message["version"])
            case "register_model":
                self._param(f"registered_models|{message['registry_name']}", message["version"])
            case "cloud_details":
                self._describe("system", message)
            case "system_details":
                self._describe("system", {name: message.get(name) for name in _REST_OF_SYSTEM})
                if environment := message.get("env"):
                    self._report.leave_out("environment variables", "they may contain secrets", len(environment))
            case _ if type in _DESCRIPTIONS:
                pass
            case _:
                self._report.leave_out(f"messages of the type {type}", "this version of rankzero does not know them")

    def _describe(self, namespace: str, values: dict[str, Any]) -> None:
        """Add the values that are not empty to the params."""
        for name, value in values.items():
            if value and name != "message_id":
                self._param(f"{namespace}|{name}", value)

    # Files

    def _upload(self, message: dict[str, Any]) -> None:
        about = message.get("additional_params") or {}
        kind, path = message["upload_type"], message["file_path"]
        name = about.get("fileName") or about.get("figName") or kind + PurePosixPath(path).suffix.replace("..", ".")
        if not PurePosixPath(name).suffix and about.get("extension"):
            name = f"{name}.{about['extension']}"
        if kind in (MODEL, CODE):
            folder = about["groupingName"] if kind == MODEL else "code"
            name = f"{folder}/{name}"
        step = _whole(about.get("step"))
        asset = Asset(
            kind, _relative(name), path, self._time, step, message.get("metadata") or {}, not message["clean"]
        )
        self._asset(asset)

    def _asset(self, asset: Asset) -> None:
        for name in asset.ignored_metadata:
            self._report.leave_out(f"{asset.name}: {name}", "media in rankzero have no such metadata")
        try:
            self._archive.open(asset.path).close()
        except OSError as error:
            self._report.leave_out(asset.name, reason(error))
            return
        if not self._convert(asset) or asset.kind == CONFUSION_MATRIX:
            with self._archive.open(asset.path) as file:
                suffix = asset.suffix or (encode_image(file.read(16))[1] if asset.kind == IMAGE else "")
            with self._archive.open(asset.path) as file:
                stored = self._files.put_open(file, asset.key + suffix)
            self._put(event_of(asset, msgspec.structs.replace(stored, name=PurePosixPath(stored.name).name)))
        self._report.progress(self._archive.size(asset.path))

    def _convert(self, asset: Asset) -> bool:
        """Convert a file to an event; return False if it stays a file."""
        convert = converter_of(asset)
        if convert is None or self._archive.size(asset.path) > _LARGEST_CONVERTED:
            return False
        with self._archive.open(asset.path) as file:
            content = file.read()
        try:
            self._put(convert(asset, content, self._files))
        except INVALID:
            return False
        return True

    # Collecting

    def _put(self, event: Event) -> None:
        encode(event)  # raises an error if the journal could not be read again
        self._flush()
        self._ready.append(event)

    def _flush(self) -> None:
        if self._pending is not None:
            self._ready.append(self._pending)
            self._pending = None

    def _take(self) -> list[Event]:
        ready, self._ready = self._ready, []
        return ready


def seconds(milliseconds: Any) -> float | None:
    """Return a time of Comet's client as Unix time in seconds; None if it is invalid."""
    is_valid = isinstance(milliseconds, int | float) and 0 < milliseconds < LATEST * 1000
    return milliseconds / 1000 if is_valid else None


def _whole(value: Any) -> int | None:
    """Round a number down to an int; return None for other values."""
    if not isinstance(value, int | float) or not math.isfinite(value) or abs(value) >= _LARGEST_INT:
        return None
    return math.floor(value)


def _relative(name: str) -> str:
    """Return a name without a leading slash and ``..``."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", "..", "//")) or "asset"


def _of_old_client(message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the type and payload of a message of an old client, which used one type for several kinds of data."""
    if "metric" in message:
        return "metric_msg", message
    if "param" in message or "params" in message:
        return "parameter_msg", message
    load_sdk()
    from comet_ml.messages import WebSocketMessage

    new = WebSocketMessage.from_message_dict_to_http_message(message)
    return new.type, new.to_message_dict()
