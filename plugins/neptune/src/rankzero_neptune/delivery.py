"""The sessions that send data to Neptune: with Neptune's client in direct use, with confirmed requests in a courier.

Neptune's client has a queue, and a thread that dies silently. So `CourierSession` collects operations, and sends them
in a few requests when it is flushed. After a failure it reads the run, and does not send what the run has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import neptune
from neptune.attributes.utils import _attribute_type_to_attr_class_map as attribute_classes
from neptune.internal.backends.api_model import AttributeType
from neptune.internal.operation import DeleteAttribute, UploadFile
from neptune.types import File

from rankzero.capture.environment import Environment, read_environment
from rankzero.errors import AccessError, ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.adapter import TrackerLogger
from rankzero_neptune.client import RunClient
from rankzero_neptune.fields import Point, milliseconds
from rankzero_neptune.options import NeptuneOptions
from rankzero_neptune.session import MOST_POINTS, NeptuneSession

_OFFLINE_NAME, _OFFLINE_ID = "offline-name", "OFFLINE"
_RUN_ID = "rankzero/run_id"
_NAME, _FAILED = "sys/name", "sys/failed"
_GOOD = ("success", "finished")
_ENVIRONMENT_TIMEOUT = 10.0  # seconds
_BYTES_PER_POINT = 100


# Direct use


def init_run(options: NeptuneOptions) -> Any:
    """Open a run with Neptune's client."""
    arguments = options.init_arguments()
    if options["with_id"] and not options["name"] and options.mode in ("async", "sync"):
        arguments["name"] = _name_in(connect(options, custom_id=""))
    return neptune.init_run(**arguments)


def _name_in(client: RunClient) -> str | None:
    """Return a run's name in Neptune; without it, the client would rename the run to Untitled."""
    field = client.fields().get(_NAME)
    return None if field is None else field.value


class DirectSession(NeptuneSession):
    """Writes with Neptune's client.

    Args:
        logger: its logger.
        run: a ``neptune.Run``, or a namespace of one.
        is_given: whether the user opened the run, and will stop it.
    """

    def __init__(self, logger: TrackerLogger, run: Any, *, is_given: bool) -> None:
        root = run.get_root_object()
        super().__init__(logger, dict(_types(root.get_structure())), "" if root is run else run._path)
        self._run, self._root, self._is_given = run, root, is_given
        with suppress(Exception):  # an offline run has no URL
            self.url = root.get_url()
        root.wait(disk_only=not root.exists("sys/id"))
        self.name, self.short_id = _OFFLINE_NAME, _OFFLINE_ID
        if root.exists("sys/id"):
            self.name, self.short_id = root[_NAME].fetch(), root["sys/id"].fetch()

    @property
    def has_ended(self) -> bool:  # type: ignore[override]
        return bool(self._root.get_state() == "stopped")

    @property
    def experiment(self) -> Any:
        if self.has_ended:
            raise given_run_ended(self.short_id)
        return self._run

    def resume(self, time: float) -> None:
        if self.has_ended:
            self.warner.warn(
                "ended",
                f"{self.short_id}, which was passed to NeptuneLogger as run=..., has been stopped: data logged from "
                "now on is lost. Stop it later, or create a logger with project=... and with_id=...",
            )

    def send(self, operation: Any) -> None:
        root, path = self._root, "/".join(operation.path)
        if self.has_ended:
            return
        with root.lock():
            if isinstance(operation, DeleteAttribute):
                root.pop(path)
                return
            if root.get_attribute(path) is None:  # so that the user can read it, or add to it
                attribute = attribute_classes[AttributeType(self._paths.type_of(path))]
                root.set_attribute(path, attribute(root, operation.path))
            root._op_processor.enqueue_operation(operation, wait=False)

    def write_points(self, path: str, points: list[Point]) -> None:
        self.send_points(path, points)

    def upload(self, path: str, file: str) -> None:
        """Store a copy of a file: the client uploads it later, when the original may be changed or deleted."""
        if self.has_ended:
            return
        destination, storage = self._paths.claim(path, "file").split("/"), self._root._op_processor.operation_storage
        with open(file, "rb") as stream:
            copied = File.from_stream(stream, extension=Path(file).suffix.removeprefix("."))
            self.send(UploadFile.of_file(copied, destination, storage))

    def read_points(self, path: str, kind: str, since: int) -> Iterable[Point]:
        with suppress(Exception):  # an offline run cannot be read
            newest = self._root[path].fetch_values(progress_bar=False).iloc[-1]
            time = (
                newest["timestamp"].to_pydatetime().timestamp()
            )  # a naive local time, which pandas would treat as UTC
            return [Point(newest["value"], float(newest["step"]), milliseconds(time))]
        return ()

    def texts_below(self, path: str) -> dict[str, str]:
        found = {}
        for each in () if self.has_ended else self.paths_at(path):
            with suppress(Exception):  # an offline run cannot be read
                found[each.removeprefix(f"{path}/")] = self._root[each].fetch()
        return found

    def download(self, path: str, destination: str) -> None:
        self._root[path].download(destination, progress_bar=False)

    def flush(self) -> None:
        if not self.has_ended:
            self._root.wait(disk_only=self._options.mode == "offline")

    def close(self) -> None:
        """Stop the run, unless the user opened it; the client then sends pending data, or prints what failed."""
        if not (self._is_given or self.has_ended):
            self._root.stop()


def given_run_ended(short_id: str | None) -> ConfigError:
    """Return the error for a logger whose run=... has been stopped, or is in another process."""
    return ConfigError(
        f"the run {short_id}, which was passed to NeptuneLogger as run=..., has been stopped, or this is a copy of the "
        "logger; to continue the run, create a logger with project=... and with_id=..."
    )


def _types(structure: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, Neptune's type) of a run's fields."""
    types = {attribute: kind.value for kind, attribute in attribute_classes.items()}
    for name, each in structure.items():
        if isinstance(each, Mapping):
            yield from _types(each, f"{above}{name}/")
        else:
            yield f"{above}{name}", types[type(each)]


# Under a courier


class CourierSession(NeptuneSession):
    """Creates or continues the Neptune run of a rankzero run.

    Args:
        logger: its logger.
        run: the rankzero run.
        is_known: whether the logger has opened the run before.
    """

    def __init__(self, logger: TrackerLogger, run: RunInfo, *, is_known: bool) -> None:
        options: Any = logger.options
        self._client = connect(options, options.custom_id(run))
        fields = self._client.fields()
        super().__init__(logger, {path: field.type for path, field in fields.items()})
        self.name = options["name"] or run.name
        self.short_id, self.url = self._client.short_id, self._client.url
        steps = {path: field.last_step for path, field in fields.items() if field.type == "imageSeries"}
        self._picture_steps = {path: step for path, step in steps.items() if step is not None}
        self._operations: list[Any] = []
        self._points: dict[tuple[str, type], list[Point]] = {}
        mark = fields.get(_RUN_ID)
        if mark is None and is_known:
            raise AccessError(
                f"{self.url}: the run was deleted in Neptune; to deliver all of it again: "
                f"rankzero sync {run.id} --to neptune --again"
            )
        if mark is None or mark.value != run.id:  # another rankzero run continued it
            self._begin(run)
            self.flush()

    def _begin(self, run: RunInfo) -> None:
        """Write the run's id, name and tags, and the environment of the training process.

        As with Neptune's client, ``source_files=[]`` leaves out the script and ``git_ref=False`` the state of the
        repository; the list of packages is stored only if ``dependencies`` is given.
        """
        options, is_ours = self._options, not self._options["with_id"]
        texts: dict[str, str | None] = {
            _RUN_ID: run.id,
            "rankzero/parent": run.parent,
            _NAME: options["name"] or (run.name if is_ours else None),
            "sys/description": options["description"] or run.notes,
        }
        files: dict[str, str | None] = {}
        environment = read_environment(run.dir, _ENVIRONMENT_TIMEOUT) or Environment()
        texts["sys/hostname"] = environment.host
        if options["source_files"] != []:
            texts["source_code/entrypoint"] = os.path.basename(environment.program)
            files["source_code/script"] = environment.code
        if (git := environment.git) is not None and options["git_ref"] is not False:
            for name in ("commit", "branch", "remote"):
                texts[f"source_code/{name}"] = getattr(git, name)
            files["source_code/diff"] = git.diff
        if options["dependencies"]:
            files["source_code/requirements"] = environment.packages
        for path, text in texts.items():
            if text:
                self.assign(path, text)
        for path, file in files.items():
            if file is not None and os.path.isfile(source := os.path.join(run.dir, file)):
                self.upload(path, source)
        if is_ours:
            self.assign(_FAILED, False)
        self.add_strings("sys/tags", [*(options["tags"] or ()), *run.tags])
        self.add_strings("sys/group_tags", filter(None, [run.group]))

    def join(self) -> Any:
        """Open a ``neptune.Run`` of the same run that captures nothing by itself."""
        quiet = ("capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback", "git_ref")
        first_time_only = dict.fromkeys(("custom_run_id", "tags", "description", "mode"))
        name = _name_in(self._client) or self.name
        options = self._options.replace(
            **first_time_only, with_id=self.short_id, project=self._client.project, name=name
        )
        return neptune.init_run(**{**dict.fromkeys(quiet, False), **options.init_arguments()})

    def send(self, operation: Any) -> None:
        self._operations.append(operation)

    def write_points(self, path: str, points: list[Point]) -> None:
        self._points.setdefault((path, type(points[0].value)), []).extend(points)

    def read_points(self, path: str, kind: str, since: int) -> Iterable[Point]:
        return self._client.newest_points(path, kind, since)

    def texts_below(self, path: str) -> dict[str, str]:
        begin = f"{path}/"
        return {
            each.removeprefix(begin): field.value
            for each, field in self._client.fields().items()
            if each.startswith(begin) and field.type == "string"
        }

    def download(self, path: str, destination: str) -> None:
        self._client.download(path, destination)

    def flush(self) -> None:
        points, self._points = self._points, {}
        for (path, _), logged in points.items():
            self.send_points(path, logged)
        operations, self._operations = self._operations, []
        for batch in _batches(operations):
            self._client.execute(batch)

    def finish(self, status: str, time: float) -> None:
        super().finish(status, time)
        self.assign(_FAILED, status not in _GOOD)

    def close(self) -> None:
        self.flush()


def connect(options: NeptuneOptions, custom_id: str) -> RunClient:
    """Find the run in Neptune, or create it with a custom id."""
    destination = options.token, options.project, options["proxies"]
    return RunClient(*destination, with_id=options["with_id"], custom_id=custom_id)


def _batches(operations: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield operations in batches, each of the size of one request."""
    batch: list[Any] = []
    size = 0
    for operation in operations:
        more = _size(operation)
        if batch and size + more > MOST_POINTS:
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += more
    if batch:
        yield batch


def _size(operation: Any) -> int:
    """Return the size of an operation in points."""
    values = getattr(operation, "values", ())
    data = sum(len(getattr(each.value, "data", "")) for each in values if hasattr(each, "value"))
    return len(values) + data // _BYTES_PER_POINT + 1
