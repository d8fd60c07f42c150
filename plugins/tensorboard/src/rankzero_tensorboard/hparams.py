"""Hyperparameters: ``hparams.yaml``, and the event file for TensorBoard's HPARAMS tab.

TensorBoard uses only a run's first record of hyperparameters. So they are in a separate event file, which sorts before
the others and is replaced as a whole. The tab shows every scalar as a metric, unless an experiment summary lists some;
it is written if the user chose metrics. TensorBoard takes the columns of the table from the first run that has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from rankzero.files.directories import Place, replace_file
from rankzero.loggers.csv.hparams import HparamsFile
from rankzero.values import flatten
from rankzero_tensorboard.event_file import read_records, record

EVENTS = "events.out.tfevents.0.hparams"

_LARGEST_INT = 2**53  # the tab stores numbers as float64
_KINDS = {
    "bool_value": "DATA_TYPE_BOOL",
    "number_value": "DATA_TYPE_FLOAT64",
    "string_value": "DATA_TYPE_STRING",
}


def file_header(began: float) -> bytes:
    """Return the first event of an event file, with the file's version."""
    return bytes(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())


class Hparams:
    """The hyperparameters in a directory, including those of earlier processes.

    Args:
        place: the directory.
        began: when the run began, Unix time in seconds.
    """

    def __init__(self, place: Place, began: float) -> None:
        self._place = place
        self._began = began
        self._file = HparamsFile(place)
        self._metrics = self._read_metrics()

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters as JSON values, nested."""
        return self._file.values

    def add(self, values: Mapping[str, Any], metrics: Iterable[str] = ()) -> None:
        """Add hyperparameters.

        Args:
            values: name → value, perhaps nested.
            metrics: names of metrics to show in the table, beside earlier ones; without any it shows all scalars.
        """
        chosen = dict.fromkeys([*self._metrics, *metrics])
        if values or len(chosen) > len(self._metrics):
            self._metrics = list(chosen)
            if values:
                self._file.add(values)
            if self.values:
                self._write_events()

    def end(self, status: str, time: float) -> None:
        """Write the run's status, as TensorBoard names it, and the end time."""
        if self.values:
            self._write_events(SessionEndInfo(status=api_pb2.Status.Value(status), end_time_secs=time))

    def _write_events(self, end: SessionEndInfo | None = None) -> None:
        start = SessionStartInfo(start_time_secs=self._began)
        experiment = api_pb2.Experiment(time_created_secs=self._began)
        for name, value in flatten(self.values):
            _put(start.hparams[name], value)
            kind = _KINDS[start.hparams[name].WhichOneof("kind")]
            experiment.hparam_infos.add(name=name, type=api_pb2.DataType.Value(kind))
        for name in self._metrics:
            experiment.metric_infos.add(name=api_pb2.MetricName(tag=name))
        plugin_data = {metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start)}
        if self._metrics:
            plugin_data[metadata.EXPERIMENT_TAG] = HParamsPluginData(experiment=experiment)
        if end is not None:
            plugin_data[metadata.SESSION_END_INFO_TAG] = HParamsPluginData(session_end_info=end)
        summary = Summary()
        for tag, data in plugin_data.items():
            details = metadata.create_summary_metadata(data)
            summary.value.add(tag=tag, metadata=details, tensor=metadata.NULL_TENSOR)
        event = Event(wall_time=self._began, summary=summary).SerializeToString(deterministic=True)
        replace_file(self._place, EVENTS, record(file_header(self._began)) + record(event))

    def _read_metrics(self) -> list[str]:
        """Return the metrics that earlier processes chose."""
        self._place.pull(EVENTS)
        path = self._place.path / EVENTS
        for _, data in read_records(path) if path.exists() else ():
            for value in Event.FromString(data).summary.value:
                if value.tag == metadata.EXPERIMENT_TAG:
                    experiment = metadata.parse_experiment_plugin_data(value.metadata.plugin_data.content)
                    return [info.name.tag for info in experiment.metric_infos]
        return []


def _put(field: Any, value: Any) -> None:
    """Set a ``google.protobuf.Value`` to a type that the table can show: a bool, a number or a text."""
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST_INT):
        field.number_value = value
    elif isinstance(value, list | dict):
        field.string_value = json.dumps(value, ensure_ascii=False)
    else:
        field.string_value = str(value)
