"""`EventRun`: a run in the event files of a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event as Record
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from rankzero.events.structs import Event, Params
from rankzero.files.writing import open_regular
from rankzero.importers.base import FoundRun, Header, Report, SkipRun
from rankzero.importers.event_lines import MetricsLines
from rankzero.importers.sources.params import read_params
from rankzero.loggers.csv.hparams import NAME as HPARAMS_YAML
from rankzero.media.store import MediaStore
from rankzero.values import flatten
from rankzero_tensorboard.hparams import EVENTS as HPARAMS
from rankzero_tensorboard.importing.records import read_blocks
from rankzero_tensorboard.importing.scalars import ScalarDecoder
from rankzero_tensorboard.importing.translator import Translator

_BATCH = 1000  # so few that they stay in the processor's cache until they are written
_FIRST_RECORDS = 4  # the version, and the three records of add_hparams
_BEGINNING = 64
"""The number of bytes that identify a file: its first record contains the time of its creation."""
_END = 1 << 16
"""The number of bytes at the end of a file that are searched for the status of the run."""


class EventFile(NamedTuple):
    """An event file of a run."""

    path: Path
    top: Path
    """The directory of the run."""
    first_records: Sequence[Record]
    series: str = ""
    """The name that `SummaryWriter.add_scalars` gave to the values in this file."""

    @property
    def key(self) -> str:
        """Its path, relative to the directory of the run."""
        return self.path.relative_to(self.top).as_posix()

    @property
    def began(self) -> float:
        """When it was created, Unix time in seconds; 0 if it has no complete record."""
        return self.first_records[0].wall_time if self.first_records else 0.0

    @property
    def has_data(self) -> bool:
        """Whether it contains logged data."""
        about = ("file_version", "source_metadata", None)
        return any(record.WhichOneof("what") not in about for record in self.first_records)

    def name_of(self, tag: str) -> str:
        """Return the name of the metric with this tag."""
        return f"{tag}/{self.series}" if self.series else tag

    @property
    def is_replaced(self) -> bool:
        """Whether the file is replaced when its data changes; others grow."""
        return self.path.name == HPARAMS


def first_records(path: Path) -> list[Record]:
    """Return the first few undamaged records of an event file.

    Raises:
        OSError: the file cannot be read.
    """
    found = []
    with open_regular(path) as file, suppress(DecodeError):
        for block in islice(read_blocks(file, 0, lambda why: None), 1):
            for content in islice(block.contents(), _FIRST_RECORDS):
                found.append(Record.FromString(content))
    return found


class EventRun(FoundRun):
    """A run; `position` contains the position in each file.

    Args:
        name: the name of the run.
        source: its directory.
        files: its event files.
    """

    def __init__(self, name: str, source: str, files: Iterable[EventFile]) -> None:
        files = sorted(files, key=lambda file: (file.began, file.key))
        first = next((file for file in files if not file.is_replaced), files[0])
        self.identity = f"{first.path.name} {first.began!r}"
        self.source = source
        self.size = sum(file.path.stat().st_size for file in files)
        self.position: dict[str, Any] = {"files": {}, "plugins": {}, "params": {}}
        self._name = name
        self._files = files

    def resume(self, position: Any) -> bool:
        try:
            read = [(file, *position["files"][file.key]) for file in self._files if file.key in position["files"]]
            if not all(file.is_replaced or _is_continued(file.path, *at) for file, *at in read):
                return False
            self.position = {name: dict(position[name]) for name in self.position}
            self.size -= sum(offset for _, offset, _ in read)
        except (LookupError, TypeError, ValueError, OSError):
            return False
        return True

    def header(self) -> Header:
        if not any(file.has_data for file in self._files):
            raise SkipRun("its event files have no data")
        statuses = [status for file in self._files if (status := _status_in(file.path)) is not None]
        return Header(self._name, started=self._files[0].began, status=statuses[-1] if statuses else "success")

    def events(self, files: MediaStore, report: Report) -> Iterator[Event | MetricsLines]:
        params = read_params(self._files[0].top, [HPARAMS_YAML], report)
        if params != self.position["params"]:
            self.position["params"] = params
            yield Params(self._files[0].began, params)
        for file in self._files:
            try:
                opened = open_regular(file.path)
            except OSError as error:
                report.leave_out(file.key, f"it cannot be read: {error.strerror or error}")
                continue
            with opened:
                yield from self._events_of(file, opened, files, report)

    def _events_of(
        self, file: EventFile, opened: BinaryIO, files: MediaStore, report: Report
    ) -> Iterator[Event | MetricsLines]:
        offset, checksum = self.position["files"].get(file.key, (0, 0))
        if file.is_replaced and checksum != _checksum(opened):
            offset = 0

        scalars = ScalarDecoder(file.name_of, self.position["plugins"])
        known_params = {name for name, _ in flatten(self.position["params"])}
        translator = Translator(files, report, file.name_of, self.position["plugins"], known_params)
        for block in read_blocks(opened, offset, lambda why: report.leave_out(file.key, why)):
            columns = scalars.decode(block)
            others = np.flatnonzero(~columns.has_numbers).tolist()
            for start, end in pairwise([-1, *others, len(block.starts)]):
                for first in range(start + 1, end, _BATCH):
                    yield columns.lines(first, min(first + _BATCH, end))
                if end < len(block.starts):
                    yield from translator.translate(block.content(end), file.key)
            report.progress(block.end - offset)
            offset = block.end
        checksum = _checksum(opened) if file.is_replaced else _checksum(opened, min(offset, _BEGINNING))
        self.position["files"][file.key] = offset, checksum


def _checksum(file: BinaryIO, size: int | None = None) -> int:
    """Return the checksum of the first bytes of a file, or of all of it."""
    size = os.fstat(file.fileno()).st_size if size is None else size
    checksum: int = google_crc32c.value(os.pread(file.fileno(), size, 0))
    return checksum


def _is_continued(path: Path, offset: int, checksum: int) -> bool:
    """Return whether a file begins like the one that was read up to ``offset``, and is not shorter."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size >= offset and _checksum(file, min(offset, _BEGINNING)) == checksum


def _status_in(path: Path) -> str | None:
    """Return the status of the run that the end of a file contains; None if it contains none."""
    tag = hparams_metadata.SESSION_END_INFO_TAG
    status = None
    with open_regular(path) as file:
        start = max(0, os.fstat(file.fileno()).st_size - _END)
        if tag.encode() not in os.pread(file.fileno(), _END, start):
            return None
        for block in read_blocks(file, start, lambda why: None):
            for content in block.contents():
                for value in Record.FromString(content).summary.value if tag.encode() in content else ():
                    if value.tag == tag:
                        end = hparams_metadata.parse_session_end_info_plugin_data(value.metadata.plugin_data.content)
                        status = "failed" if end.status == api_pb2.STATUS_FAILURE else "success"
    return status
