"""Writes one run's directory: its event file, and its hyperparameters."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from itertools import count, takewhile

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from rankzero.events.run_info import LogContext
from rankzero.files.directories import Place, place_at
from rankzero.values import Number
from rankzero_tensorboard.event_file import EventFile, marked
from rankzero_tensorboard.hparams import Hparams
from rankzero_tensorboard.summaries import file_header, restart

_LARGEST_UPLOAD = 4 << 20  # bytes


class RunWriter:
    """Adds records to the event file ``log_dir/name``.

    Behind a URL, where each upload is a whole file, ``name.0001`` and so on follow after some megabytes.

    Args:
        log_dir: the directory, or an fsspec URL.
        name: the event file's name.
        began: when the run began, Unix time in seconds.
        waits: records wait in memory for `flush`, which a courier calls. Otherwise each is written at once, and
            uploaded every ``flush_secs`` and at the end of the process.
        flush_secs: see ``waits``.
        purge_step: have TensorBoard hide what is at this step and later in files that sort before this one.
    """

    def __init__(
        self,
        log_dir: str,
        name: str,
        began: float,
        *,
        waits: bool,
        flush_secs: float = 120,
        purge_step: int | None = None,
    ) -> None:
        self._place = place_at(log_dir)
        self._name = name
        self._began = began
        self._waits = waits
        self._waiting: list[bytes] = []
        self._flush_secs = flush_secs
        self._purge_step = purge_step
        self._next_upload: float | None = None
        self.lines = 0
        """How many lines of the journal were added."""
        names = takewhile(self._fetch, map(self._numbered, count()))
        self._number = max(sum(1 for _ in names) - 1, 0)
        self._file = self._open()

    @cached_property
    def hparams(self) -> Hparams:
        """The hyperparameters of the directory."""
        return Hparams(self._place, self._began)

    def add_scalars(self, values: Mapping[str, Number], step: int, context: LogContext) -> None:
        """Add numbers, all in one record; in the file they are float32."""
        event = Event(wall_time=context.time, step=step)
        add = event.summary.value.add
        for tag, value in values.items():
            add(tag=tag, simple_value=value)
        self.add(event, context.line)

    def add_summary(self, summary: Summary, step: int, context: LogContext) -> None:
        """Add what is no number."""
        self.add(Event(wall_time=context.time, step=step, summary=summary), context.line)

    def add(self, event: Event, line: int | None = None) -> None:
        """Add a record, unless the file holds this line of the journal already."""
        if line is not None:
            if line < self.lines:
                return
            self.lines = line + 1
        data = marked(event.SerializeToString(), self.lines)
        if self._waits:
            self._waiting.append(data)
            return
        self._write(data)
        if self._place.is_remote and self._next_upload is not None and time.monotonic() > self._next_upload:
            self.flush()

    def flush(self) -> None:
        """Write and upload what was added."""
        if self._waiting:
            self._write(b"".join(self._waiting))
            self._waiting.clear()
        if self._next_upload is not None:
            self._place.push(self._file.path.name)
            self._next_upload = None
        if self._place.is_remote and self._file.size > _LARGEST_UPLOAD:
            self._file.close()
            self._number += 1
            self._file = self._open()

    def close(self) -> None:
        """Write the rest, and let go of everything."""
        try:
            self.flush()
        finally:
            self._file.close()
            self._place.close()

    def _write(self, records: bytes) -> None:
        self._file.append(records)
        self._next_upload = self._next_upload or time.monotonic() + self._flush_secs

    def _numbered(self, number: int) -> str:
        return f"{self._name}.{number:04}" if number else self._name

    def _fetch(self, name: str) -> bool:
        self._place.pull(name)
        return (self._place.path / name).exists()

    def _open(self) -> EventFile:
        file = EventFile(self._place.path / self._numbered(self._number))
        self.lines = file.lines or self.lines
        if not file.size:
            file.append(marked(file_header(self._began), self.lines))
            if self._purge_step is not None:
                file.append(marked(restart(self._began, self._purge_step), self.lines))
                self._purge_step = None
        if self._place.is_remote and not self._waits:
            weakref.finalize(file, _upload, self._place, file.path.name, os.getpid())
        return file


def _upload(place: Place, name: str, pid: int) -> None:
    if os.getpid() == pid:
        with suppress(Exception):  # it is there already, or nobody is left to be told
            place.push(name)
