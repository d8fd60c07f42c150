"""The events of a run and their JSON form.

One event is one line of a journal: a JSON object whose ``type`` is the name of a class below in lower case. Fields that
are None or empty are left out. Paths are relative to the run's directory.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from rankzero.errors import RejectedError, UnsafePathError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.events.seals import is_sealed, seal
from rankzero.events.trust import LATEST, check_depth, check_loggers, check_path, check_run
from rankzero.files.writing import inside
from rankzero.media.encoders import Histogram as HistogramValues
from rankzero.media.encoders import encode_model
from rankzero.media.record import Media
from rankzero.media.store import MediaFile, read_table
from rankzero.values import NonFinite, Number, from_json_number, restore_non_finite, to_jsonable, to_text

if TYPE_CHECKING:
    _Score = float
else:
    _Score = float | NonFinite  # in a line; a float once it is read


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag=str.lower):
    """The base class of events: something that was logged, and its time."""

    time: Annotated[float, msgspec.Meta(ge=-LATEST, lt=LATEST)]
    """Unix time in seconds."""

    is_logged: ClassVar[bool] = True
    """Whether loggers get the event; False for events that only readers of the journal need."""
    has_files: ClassVar[bool] = False
    """Whether the event has files, which take longer to deliver."""

    @property
    def paths(self) -> list[str]:
        """The files and directories that the event refers to, relative to the run's directory."""
        return []

    def check(self) -> None:
        """Raise ValueError if the data is not safe to use: see `rankzero.events.trust`."""
        for path in self.paths:
            check_path(path)

    def is_for(self, captures: Collection[str]) -> bool:
        """Return whether a logger with these `Logger.captures` gets the event."""
        return self.is_logged

    def context(self, line: int) -> LogContext:
        """Return the time of the event, in the form for loggers."""
        return LogContext(self.time, line)


class Start(Event, frozen=True):
    """A process began (or resumed) the run."""

    run: RunInfo
    loggers: dict[str, dict[str, Any]] = {}
    """The loggers: key → ``{"plugin": name, "options": {…}, "left_out": [names of secrets]}``.

    ``{"class": "module:Class"}`` for a logger that the script made and that no plugin provides.
    """
    host: str = ""
    pid: int = 0
    resumed: bool = False
    seal: str = ""
    """Proves that the user who started the run wrote ``loggers`` and the directory: see `rankzero.events.seals`."""

    is_logged = False

    def check(self) -> None:
        check_run(self.run.id, self.run.project)
        check_loggers(self.loggers)
        check_depth(self.loggers)
        if not 0 <= self.run.started < LATEST:
            raise ValueError("the start time of the run is invalid")

    def sealed(self) -> Start:
        """Return the event with the seal of this process's user."""
        as_read = msgspec.json.decode(encode(self), type=Start)
        return msgspec.structs.replace(self, seal=seal(as_read.run.id, as_read.run.dir, as_read.loggers))

    def is_own(self, run_dir: Path) -> bool:
        """Return whether this user started the run in ``run_dir``, and its loggers are unchanged."""
        try:
            is_at_home = os.path.samefile(self.run.dir, run_dir)
        except (OSError, ValueError):
            return False
        return is_at_home and self.is_sealed()

    def is_sealed(self) -> bool:
        """Return whether this user started the run, also if it was moved."""
        return is_sealed(self.run.id, self.run.dir, self.loggers, self.seal)


class Params(Event, frozen=True):
    """Hyperparameters; later events are merged into earlier ones."""

    values: dict[str, Any]
    metrics: dict[str, Number | NonFinite] = {}
    """Initial values to show beside the hyperparameters."""

    def check(self) -> None:
        check_depth(self.values)

    def params(self) -> dict[str, Any]:
        """Return ``values`` with NaN and infinity as floats."""
        params: dict[str, Any] = restore_non_finite(self.values)
        return params

    def initial_metrics(self) -> dict[str, Number]:
        """Return ``metrics`` as Python ints and floats."""
        return {key: from_json_number(value) for key, value in self.metrics.items()}


class Metrics(Event, frozen=True):
    """The numbers of one log call."""

    step: int | None = None
    values: dict[str, Number | bool | NonFinite] = {}
    """Numbers; NaN and ±Infinity are strings."""
    epoch: int | None = None
    stage: str | None = None

    def numbers(self) -> dict[str, Number]:
        """Return ``values`` as Python ints and floats."""
        return {key: value if value.__class__ is float else _number(value) for key, value in self.values.items()}

    def row(self, line: int) -> MetricsRow:
        """Return the event as an item for `Logger.log_metrics_batch`."""
        return MetricsRow(self.numbers(), self.step, self.context(line))

    def context(self, line: int) -> LogContext:
        return LogContext(self.time, line, self.epoch, self.stage)


def _number(value: Number | bool | NonFinite) -> Number:
    return int(value) if isinstance(value, bool) else from_json_number(value)


class MediaEvent(Event, frozen=True):
    """Media logged with a verb ``log_KIND``, with files in the run's directory."""

    @classmethod
    def media_kind(cls) -> str:
        """Return the kind of media: the event's type."""
        return cls.__name__.lower()

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> MediaEvent:
        """Store the files of media in the run's directory, and return their event."""
        raise NotImplementedError

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the positional and keyword arguments for the verb of a logger."""
        raise NotImplementedError


class Files(MediaEvent, frozen=True):
    """Files under one key."""

    key: str
    files: list[MediaFile]
    step: int | None = None
    extra: dict[str, Any] = {}
    """The tracker's own keyword arguments."""

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]

    def check(self) -> None:
        super().check()
        check_depth(self.extra)

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> Files:
        return cls(time, to_text(media.key), media.stored(), step, to_jsonable(media.extra))

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        captions = [file.caption or "" for file in self.files]
        files = [file.under(run_dir) for file in self.files]
        return (self.key, files), {"step": self.step, "caption": captions if any(captions) else None, **self.extra}


class Image(Files, frozen=True):
    """Pictures under one key."""


class Audio(Files, frozen=True):
    """Sounds under one key."""


class Video(Files, frozen=True):
    """Videos under one key."""


class Pointcloud(Files, frozen=True):
    """Clouds of points under one key."""


class _File(MediaEvent, frozen=True):
    """A file under a key."""

    key: str
    file: MediaFile
    step: int | None = None

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [self.file.path]


class Figure(_File, frozen=True):
    """A plot."""

    extra: dict[str, Any] = {}
    """The tracker's own keyword arguments."""

    def check(self) -> None:
        super().check()
        check_depth(self.extra)

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> Figure:
        (file,) = media.stored()
        return cls(time, to_text(media.key), file, step, to_jsonable(media.extra))

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return (self.key, self.file.under(run_dir)), {"step": self.step, **self.extra}


class Table(_File, frozen=True):
    """A table, stored in a file."""

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> Table:
        return cls(time, to_text(media.key), media.open_store().table(*media.table()), step)

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        try:
            columns, rows = read_table(run_dir / self.file.path)
        except UnsafePathError as error:
            raise RejectedError(f"a cell of the table: {error}") from error
        pictures = [cell for row in rows for cell in row if isinstance(cell, MediaFile)]
        if missing := next((each.path for each in pictures if not os.path.exists(each)), None):
            raise RejectedError(f"a cell of the table: {missing} was deleted before it was delivered")
        return (self.key,), {"columns": columns, "data": rows, "step": self.step}


class Text(MediaEvent, frozen=True):
    """A table of texts, stored in the line itself."""

    key: str
    columns: list[str]
    data: list[list[Any]]
    step: int | None = None

    def check(self) -> None:
        check_depth(self.data)

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> Text:
        columns, rows = media.table()
        return cls(time, to_text(media.key), columns, to_jsonable(rows), step)

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return (self.key,), {"columns": self.columns, "data": self.data, "step": self.step}


class Histogram(MediaEvent, frozen=True):
    """Counts per bin."""

    key: str
    values: HistogramValues
    step: int | None = None

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> Histogram:
        return cls(time, to_text(media.key), media.histogram(), step)

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return (self.key, self.values), {"step": self.step}


class Graph(MediaEvent, frozen=True):
    """A model's structure."""

    file: MediaFile

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [self.file.path]

    @classmethod
    def of(cls, media: Media, time: float, step: int | None) -> Graph:
        return cls(time, media.open_store().put_bytes(encode_model(media.items)))

    def arguments(self, run_dir: Path) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return (self.file.under(run_dir),), {}


class _Kept(Event, frozen=True):
    """A file or directory of its own."""

    path: str

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [self.path]


class Artifact(_Kept, frozen=True):
    """A file or directory."""

    name: str
    kind: str | None = None
    aliases: list[str] = []
    metadata: dict[str, Any] = {}

    def check(self) -> None:
        super().check()
        check_depth(self.metadata)


class Checkpoint(_Kept, frozen=True):
    """A saved model; ``path`` is the snapshot in the run's ``checkpoints/``."""

    source: str = ""
    """The absolute path where the training script saved the checkpoint."""
    score: _Score | None = None
    step: int | None = None
    aliases: list[str] = []
    metadata: dict[str, Any] = {}
    automatic: bool = False
    """Whether a framework saved the checkpoint: see `Logger.log_model`."""

    def check(self) -> None:
        super().check()
        check_depth(self.metadata)

    def __post_init__(self) -> None:
        if isinstance(self.score, str):
            msgspec.structs.force_setattr(self, "score", from_json_number(self.score))

    def without_source(self) -> Checkpoint:
        """Return a copy without the source, which in another user's run could name any file of this user."""
        return msgspec.structs.replace(self, source="")

    def find(self, run_dir: Path) -> Path | None:
        """Return the path of the snapshot, or else of the original file, unless it was overwritten.

        Raises:
            UnsafePathError: the snapshot is not in the run's directory.
        """
        snapshot = inside(run_dir, self.path)
        if snapshot.exists():
            return snapshot
        try:
            saved = os.stat(self.source).st_mtime if self.source else math.inf
        except OSError:
            return None
        return Path(self.source) if saved <= self.time else None


class DefineMetric(Event, frozen=True):
    """Which metric is the x-axis of another, and how to summarise it."""

    name: str
    step_metric: str | None = None
    summary: str | None = None
    goal: str | None = None


class Tags(Event, frozen=True):
    """Tags of the run, added to the existing ones."""

    tags: list[str]


class Console(Event, frozen=True):
    """Lines that the training process printed; recorded only if a logger captures them."""

    text: str
    """Lines separated by newlines, without one at the end."""
    stream: str = "stdout"
    """``stdout`` or ``stderr``."""

    def is_for(self, captures: Collection[str]) -> bool:
        return "console" in captures


class Alert(Event, frozen=True):
    """A message for people."""

    title: str
    text: str = ""
    level: str = "INFO"
    """``INFO``, ``WARN`` or ``ERROR``."""


class Rewind(Event, frozen=True):
    """The run went back to a step: what was logged before with a later step is superseded."""

    step: int

    def is_for(self, captures: Collection[str]) -> bool:
        return "rewind" in captures

    def supersedes(self, event: Event) -> bool:
        """Return whether this supersedes an earlier event: metrics or media of a later step, not files."""
        step = getattr(event, "step", None) if isinstance(event, Metrics | MediaEvent) else None
        return step is not None and step > self.step


class Status(Event, frozen=True):
    """A framework's ``finalize(status)``: how the run would end if it ended now."""

    status: str

    is_logged = False


class Lost(Event, frozen=True):
    """Events that could not be written, e.g. while the disk was full."""

    count: int
    since: float
    reason: str

    is_logged = False


class Finish(Event, frozen=True):
    """The run ended; the courier finalizes and closes the logger."""

    status: str
    error: str = ""
    """The exception that ended the run, as ``Type: message``."""

    is_logged = False


AnyEvent = (
    Start | Params | Metrics | Image | Audio | Video | Pointcloud | Figure | Table | Text | Histogram | Graph
    | Artifact | Checkpoint | DefineMetric | Tags | Console | Alert | Rewind | Status | Lost | Finish
)  # fmt: skip

EVENT_TYPES: Sequence[type[Event]] = AnyEvent.__args__
MEDIA_EVENTS = {each.media_kind(): each for each in EVENT_TYPES if issubclass(each, MediaEvent)}
"""Kind of media → its event."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)

_BEGINNING = re.compile(rb'\{"type":"[a-z]+","time":')
_MOST_FRAGMENTS = 3

encode_lines = _encoder.encode_lines
"""Encode a list of events, each as one line with its newline. A NaN or infinity becomes null: see `encode`.

Not a tuple: msgspec 0.22 leaks its iterator.
"""


def encode(event: Event) -> bytes:
    """Encode one event as a line; it may hold NaN, numpy scalars and lone surrogates.

    Raises:
        msgspec.ValidationError: a value has a wrong type, and the line could not be read.
    """
    try:
        line = encode_lines([event])
    except (TypeError, ValueError):
        line = b"null"
    if b"null" in line:  # perhaps a NaN
        plain = msgspec.to_builtins(event, enc_hook=to_jsonable, str_keys=True)
        line = encode_lines([to_jsonable(plain)])
    decode(line)
    return line


def decode(line: bytes) -> AnyEvent:
    """Decode one line.

    Raises:
        msgspec.MsgspecError: the line is not an event of a known type.
        ValueError: the data is not safe to use.
    """
    event: AnyEvent = _decoder.decode(line)
    event.check()
    return event


def decode_after_fragment(line: bytes) -> AnyEvent | None:
    """Return the event at the end of a damaged line, None if there is none.

    If a process dies or the disk is full in the middle of a line, it leaves a fragment, and the next line of another
    process of the run follows directly after it.
    """
    beginnings = [match.start() for match in _BEGINNING.finditer(line, 1)]
    for start in reversed(beginnings[-_MOST_FRAGMENTS:]):
        try:
            return decode(line[start:])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return None
