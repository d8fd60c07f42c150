"""Hyperparameters: ``hparams.yaml``, and the event file that TensorBoard's HPARAMS tab reads.

Of several statements about a run's hyperparameters TensorBoard believes the first. So they have an event file of
their own, which sorts before the others and is replaced as a whole. What its table shows as metrics are the scalars of
the runs: TensorBoard looks for them itself unless an experiment summary names some, so there is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from rankzero.places import Place, set_aside
from rankzero.values import flatten, to_jsonable
from rankzero_tensorboard.records import record
from rankzero_tensorboard.summaries import file_header

YAML = "hparams.yaml"
EVENTS = "events.out.tfevents.0.hparams"

_LARGEST_INT = 2**53  # in the table numbers are float64
_GOOD = ("success", "finished")


class Hparams:
    """The hyperparameters of a directory, those of former processes included.

    Args:
        place: the directory.
        began: when the run began, Unix time in seconds.
    """

    def __init__(self, place: Place, began: float) -> None:
        self._place = place
        self._began = began
        self.values: dict[str, Any] = self._read()
        """What JSON can hold, nested."""

    def add(self, values: Mapping[str, Any]) -> None:
        """Add to what is there."""
        if values:
            self.values.update(to_jsonable(values))
            text = yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)
            self._replace(YAML, text.encode())
            self._write_events()

    def end(self, status: str, time: float) -> None:
        """Say how the run ended, and when."""
        if self.values:
            name = "STATUS_SUCCESS" if status in _GOOD else "STATUS_FAILURE"
            self._write_events(SessionEndInfo(status=api_pb2.Status.Value(name), end_time_secs=time))

    def _write_events(self, end: SessionEndInfo | None = None) -> None:
        start = SessionStartInfo(start_time_secs=self._began)
        for name, value in flatten(self.values):
            _put(start.hparams[name], value)
        told = {metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start)}
        if end is not None:
            told[metadata.SESSION_END_INFO_TAG] = HParamsPluginData(session_end_info=end)
        summary = Summary()
        for tag, data in told.items():
            details = metadata.create_summary_metadata(data)
            summary.value.add(tag=tag, metadata=details, tensor=metadata.NULL_TENSOR)
        event = Event(wall_time=self._began, summary=summary).SerializeToString(deterministic=True)
        self._replace(EVENTS, record(file_header(self._began)) + record(event))

    def _replace(self, name: str, content: bytes) -> None:
        path = self._place.path / name
        part = path.with_name(f".{YAML}.part")  # nothing that TensorBoard takes for an event file
        part.write_bytes(content)
        os.replace(part, path)
        self._place.push(name)

    def _read(self) -> dict[str, Any]:
        self._place.pull(YAML)
        path = self._place.path / YAML
        if not path.exists():
            return {}
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            read = None
        if isinstance(read, dict):
            return read
        self._place.push(set_aside(path).name)
        return {}


def _put(field: Any, value: Any) -> None:
    """Set a ``google.protobuf.Value`` to what the table can show: a bool, a number or a text."""
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST_INT):
        field.number_value = value
    elif isinstance(value, list | dict):
        field.string_value = json.dumps(value, ensure_ascii=False)
    else:
        field.string_value = str(value)
