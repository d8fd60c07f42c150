"""`EventSession`: writes a run's data to its event file."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count, takewhile

from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.events.structs import Metrics, Rewind
from rankzero.files.directories import Place, place_at
from rankzero.loggers.adapter import Session
from rankzero.media.record import Media
from rankzero_tensorboard.event_file import EventFile, marked
from rankzero_tensorboard.hparams import Hparams, file_header
from rankzero_tensorboard.media import event_of

_LARGEST_FLOAT32 = 3.4028234663852886e38
_LARGEST_UPLOAD = 4 << 20  # bytes


class EventSession(Session):
    """Writes records to the event file ``log_dir/name``, which is opened on first use, also after `close`.

    With a URL, where each upload is a whole file, a new file (``name.0001``, …) begins every four megabytes.

    Args:
        log_dir: the directory, or an fsspec URL.
        name: the event file's name.
        began: when the run began, Unix time in seconds.
        buffers: keep records in memory until `flush`, as for a courier. Otherwise each is written at once, and
            uploaded every ``flush_secs`` seconds and at the end of the process.
        flush_secs: see ``buffers``.
        purge_step: make TensorBoard hide data at this step and later in files that sort before this one.
    """

    def __init__(
        self,
        log_dir: str,
        name: str,
        began: float,
        *,
        buffers: bool,
        flush_secs: float = 120,
        purge_step: int | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._name = name
        self._began = began
        self._buffers = buffers
        self._flush_secs = flush_secs
        self._purge_step = purge_step
        self._stepless = 0
        self._file: EventFile | None = None
        self._reset()

    def _reset(self) -> None:
        self._buffered: list[bytes] = []
        self._next_upload: float | None = None
        self._hparams: Hparams | None = None
        self._lines = 0

    # The files

    _place: Place
    _number: int

    def _open(self) -> EventFile:
        if self._file is None:
            self._place = place_at(self._log_dir)
            self._number = max(sum(1 for _ in self._names()) - 1, 0)
            self._file = self._open_file()
        return self._file

    def _names(self) -> Iterator[str]:
        return takewhile(self._fetch, map(self._numbered, count()))

    def _fetch(self, name: str) -> bool:
        self._place.pull(name)
        return (self._place.path / name).exists()

    def _numbered(self, number: int) -> str:
        return f"{self._name}.{number:04}" if number else self._name

    def _open_file(self) -> EventFile:
        file = EventFile(self._place.path / self._numbered(self._number))
        self._lines = file.lines or self._lines
        if not file.size:
            file.append(marked(file_header(self._began), self._lines))
            if self._purge_step is not None:
                restart = _restart(self._began, self._purge_step)
                file.append(marked(restart.SerializeToString(), self._lines))
                self._purge_step = None
        if self._place.is_remote and not self._buffers:
            weakref.finalize(file, _upload, self._place, file.path.name, os.getpid())
        return file

    def read_numbers(self) -> Iterator[Metrics | Rewind]:
        """Yield the numbers and rewinds in the files, without opening them for writing."""
        from rankzero_tensorboard.importing.scalars import read_numbers

        self._place = place_at(self._log_dir)
        try:
            for name in self._names():
                yield from read_numbers(self._place.path / name)
        finally:
            self._place.close()

    # Writing

    @property
    def lines(self) -> int:
        """The number of journal lines that were added."""
        self._open()
        return self._lines

    @property
    def hparams(self) -> Hparams:
        """The hyperparameters in the directory."""
        if self._hparams is None:
            self._open()
            self._hparams = Hparams(self._place, self._began)
        return self._hparams

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        """Add numbers as float32, one record for each row."""
        for row in rows:
            event = Event(wall_time=row.context.time, step=self._step(row.step_or_seconds(self._began), row.context))
            add = event.summary.value.add
            for tag, value in row.values.items():
                if abs(value) > _LARGEST_FLOAT32:
                    value = self._as_infinity(tag, value)
                add(tag=tag, simple_value=value)
            self.add_event(event, row.context.line)

    def _as_infinity(self, tag: str, value: float) -> float:
        if abs(value) < math.inf:
            self.warner.warn("float32", f"TensorBoard stores numbers as float32, in which {tag!r} is infinite")
        return math.inf if value > 0 else -math.inf

    def write_media(self, media: Media, context: LogContext) -> None:
        event = event_of(media, self.warner)
        if event is not None:
            event.wall_time = context.time
            if media.kind != "graph":  # a run has only one
                event.step = self._step(media.step, context)
            self.add_event(event, context.line)

    def rewind(self, step: int, context: LogContext) -> None:
        """Make readers discard the data so far of later steps."""
        self.add_event(_restart(context.time, step + 1), context.line)

    def _step(self, step: int | None, context: LogContext) -> int:
        """Return the step; without one, the event's line in the journal, or in direct use a counter."""
        if step is not None:
            return int(step)
        if context.line is not None:
            return context.line
        self._stepless += 1
        return self._stepless - 1

    def add_event(self, event: Event, line: int | None = None) -> None:
        """Add a record, unless the file has this journal line already."""
        file = self._open()
        if line is not None:
            if line < self._lines:
                return
            self._lines = line + 1
        data = marked(event.SerializeToString(), self._lines)
        if self._buffers:
            self._buffered.append(data)
            return
        self._write(file, data)
        if self._place.is_remote and self._next_upload is not None and time.monotonic() > self._next_upload:
            self.flush()

    def _write(self, file: EventFile, records: bytes) -> None:
        file.append(records)
        self._next_upload = self._next_upload or time.monotonic() + self._flush_secs

    def flush(self) -> None:
        """Write and upload the added records."""
        file = self._file
        if file is None:
            return
        if self._buffered:
            self._write(file, b"".join(self._buffered))
            self._buffered.clear()
        if self._next_upload is not None:
            self._place.push(file.path.name)
            self._next_upload = None
        if self._place.is_remote and file.size > _LARGEST_UPLOAD:
            file.close()
            self._number += 1
            self._file = self._open_file()

    def finish(self, status: str, time: float) -> None:
        """Write the run's status beside its hyperparameters; in direct use only if something was logged."""
        if self._file is not None or self._buffers:
            self.hparams.end(status, time)
        self.flush()

    def close(self) -> None:
        """Write the rest and close the file; the next use continues it."""
        if self._file is None:
            return
        try:
            self.flush()
        finally:
            self._file.close()
            self._file = None
            self._place.close()
            self._reset()


def _restart(time: float, step: int) -> Event:
    """Return a record at which readers discard the data so far of this step and later ones."""
    return Event(wall_time=time, step=step, session_log=SessionLog(status=SessionLog.START))


def _upload(place: Place, name: str, pid: int) -> None:
    if os.getpid() == pid:
        with suppress(Exception):  # the process ends: nothing can handle the error
            place.push(name)
