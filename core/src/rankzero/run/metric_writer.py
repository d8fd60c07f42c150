"""`MetricWriter`: writes metrics that are not plain Python numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rankzero.capture.device_values import DeviceCopy, DeviceRows
from rankzero.events.structs import Artifact, Metrics, Text
from rankzero.media.encoders import encode_raw
from rankzero.media.store import MediaStore
from rankzero.messages import OnceWarner, describe
from rankzero.run.event_writer import EventWriter
from rankzero.values import (
    Number,
    SplitMetrics,
    is_sharded,
    size_of,
    split_metrics,
    to_int,
    to_json_number,
    to_jsonable,
    to_number,
    to_text,
)

_DEVICE_TIMEOUT = 30.0  # seconds
_LARGEST_INLINE_ARRAY = 1000


class MetricWriter:
    """Converts metrics of any type, and writes them; what cannot be converted causes a warning."""

    def __init__(self, writer: EventWriter, media: MediaStore, warner: OnceWarner) -> None:
        self._device_rows = DeviceRows()
        self._writer = writer
        self._media = media
        self._warner = warner

    def write(self, now: float, metrics: Mapping[str, Any], step: int, epoch: Any, stage: Any) -> None:
        """Write metrics; values on a GPU are written when they are computed. The arguments are those of log_metrics."""
        if to_int(epoch) is not None and to_int(epoch) != to_number(epoch):
            self._warner.warn("epoch", "an epoch of run.log_metrics() is not a whole number: it is left out")
            epoch = None
        try:
            if not isinstance(metrics, Mapping):
                raise TypeError(f"metrics are a mapping from name to number, not {type(metrics).__name__}")
            named = None if stage is None else to_text(stage)
            self._write_split(now, split_metrics(metrics), step, to_int(epoch), named)
        except Exception as error:
            self._warner.warn(
                f"log_metrics {describe(error)}",
                f"run.log_metrics() at step {step} could not be recorded: {describe(error)}",
            )

    def drain(self, timeout: float = _DEVICE_TIMEOUT) -> bool:
        """Wait at most ``timeout`` and 30 seconds for values on a GPU; return whether all are written."""
        return self._device_rows.drain(min(timeout, _DEVICE_TIMEOUT))

    def after_fork(self) -> None:
        """Leave the values that are being computed to the parent process."""
        self._device_rows = DeviceRows()

    def _write_split(self, now: float, split: SplitMetrics, step: int, epoch: int | None, stage: str | None) -> None:
        def write(from_device: Mapping[str, Number]) -> None:
            values = {key: to_json_number(number) for key, number in {**split.numbers, **from_device}.items()}
            if values:
                self._writer.write(Metrics(now, step, values, epoch, stage))

        if split.on_device:
            self._device_rows.put(DeviceCopy(split.on_device), write)
        else:
            write({})
        for key in split.repeated:
            self._warner.warn(f"twice {key}", f"one call has several values for the metric {key!r}; the last is kept")
        for key, value in split.rest.items():
            try:
                self._write_other(key, value, step)
            except Exception as error:
                self._warner.warn(f"lost {key}", f"the metric {key!r} could not be recorded: {describe(error)}")

    def _write_other(self, key: str, value: Any, step: int) -> None:
        if value is None:
            self._warner.warn(f"None {key}", f"the metric {key!r} was None; there is nothing to record")
            return
        if is_sharded(value):
            self._warner.warn(
                f"spread {key}",
                f"the metric {key!r} is a DTensor that is sharded over the ranks, and is not recorded. Log "
                "value.full_tensor(), which all ranks must call",
            )
            return
        if (size_of(value) or 0) > _LARGEST_INLINE_ARRAY:
            kept, file = "an .npy file", self._media.put_bytes(encode_raw(value))
            self._writer.write(Artifact(time.time(), file.path, key, "array", [], {"step": step}))
        else:
            kept = "text"
            self._writer.write(Text(time.time(), key, ["value"], to_jsonable([[value]]), step))
        self._warner.warn(
            f"not a number {key}",
            f"the metric {key!r} is not a single number but {type(value).__name__}; it is kept as {kept}. "
            "Log a number (loss.mean()), or use log_text or log_histogram.",
        )
