"""The events of a run: their JSON form, and the Logger verb that each is handed to.

One event is one line of a journal: a JSON object whose ``type`` names the class below in lower case. What is
None or empty is left out. Paths are relative to the run's directory.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from rankzero.errors import RejectedError, UnsafePathError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.events.seals import is_sealed, seal
from rankzero.events.trust import LATEST, check_depth, check_loggers, check_path, check_run
from rankzero.files.writing import inside
from rankzero.loggers.base import Logger
from rankzero.media.encoders import Histogram as HistogramValues
from rankzero.media.store import MediaFile, read_table
from rankzero.values import NonFinite, Number, from_json_number, restore_non_finite, to_jsonable

if TYPE_CHECKING:
    _Score = float
else:
    _Score = float | NonFinite  # in a line; a float once it is read


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag=str.lower):
    """What was logged, and when."""

    time: Annotated[float, msgspec.Meta(ge=-LATEST, lt=LATEST)]
    """Unix time in seconds."""

    is_logged: ClassVar[bool] = True
    """Whether a logger is told; False for what only the journal's readers need."""
    has_files: ClassVar[bool] = False
    """Whether a logger is given files, which take longer than lines."""

    @property
    def paths(self) -> list[str]:
        """The files and directories that it names, relative to the run's directory."""
        return []

    def check(self) -> None:
        """Raise ValueError if a journal may not say this: see `rankzero.events.trust`."""
        for path in self.paths:
            check_path(path)

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        """Call the verb of ``logger`` that this event stands for."""

    def is_for(self, logger: Logger) -> bool:
        """Return whether ``logger`` is told."""
        return self.is_logged

    def context(self, line: int) -> LogContext:
        """Return when this event took place, as loggers are told it."""
        return LogContext(self.time, line)


class Start(Event, frozen=True):
    """A process began (or resumed) the run."""

    run: RunInfo
    loggers: dict[str, dict[str, Any]] = {}
    """Key → ``{"plugin": name, "options": {…}, "left_out": [names of secrets]}``: who is to get the run.

    ``{"class": "module:Class"}`` for a logger that was made by the script and that no plugin provides.
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
            raise ValueError("the run's start is no time")

    def sealed(self) -> Start:
        """Return the event with the seal of the user whom this process belongs to."""
        as_read = msgspec.json.decode(encode(self), type=Start)
        return msgspec.structs.replace(self, seal=seal(as_read.run.id, as_read.run.dir, as_read.loggers))

    def is_own(self, run_dir: Path) -> bool:
        """Return whether this user started the run, in ``run_dir``, and nobody changed where it goes."""
        try:
            is_at_home = os.path.samefile(self.run.dir, run_dir)
        except (OSError, ValueError):
            return False
        return is_at_home and self.is_sealed()

    def is_sealed(self) -> bool:
        """Return whether this user started the run, wherever it lies now."""
        return is_sealed(self.run.id, self.run.dir, self.loggers, self.seal)


class Params(Event, frozen=True):
    """Hyperparameters; those of later events are added to those of earlier ones."""

    values: dict[str, Any]
    metrics: dict[str, Number | NonFinite] = {}
    """Initial values to show beside the hyperparameters."""

    def check(self) -> None:
        check_depth(self.values)

    def params(self) -> dict[str, Any]:
        """Return ``values`` with NaN and infinity as the numbers that they are."""
        params: dict[str, Any] = restore_non_finite(self.values)
        return params

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        metrics = {key: from_json_number(value) for key, value in self.metrics.items()}
        if metrics and _takes_metrics(logger):
            logger.log_hyperparams(self.params(), metrics=metrics)
            return
        logger.log_hyperparams(self.params())
        if metrics:
            logger.log_metrics(metrics=metrics, step=0)


def _takes_metrics(logger: Logger) -> bool:
    import inspect

    parameters = inspect.signature(logger.log_hyperparams).parameters
    return "metrics" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


class Metrics(Event, frozen=True):
    """The numbers of one log call."""

    step: int | None = None
    values: dict[str, Number | bool | NonFinite] = {}
    """Numbers; NaN and ±Infinity as those strings."""
    epoch: int | None = None
    stage: str | None = None

    def numbers(self) -> dict[str, Number]:
        """Return ``values`` as Python ints and floats."""
        return {key: value if value.__class__ is float else _number(value) for key, value in self.values.items()}

    def row(self, line: int) -> MetricsRow:
        """Return the event as `Logger.log_metrics_batch` takes it."""
        return MetricsRow(self.numbers(), self.step, self.context(line))

    def context(self, line: int) -> LogContext:
        return LogContext(self.time, line, self.epoch, self.stage)

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_metrics(metrics=self.numbers(), step=self.step)


def _number(value: Number | bool | NonFinite) -> Number:
    return int(value) if isinstance(value, bool) else from_json_number(value)


class _Files(Event, frozen=True):
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

    def _hand(self, verb: Callable[..., None], run_dir: Path) -> None:
        captions = [file.caption or "" for file in self.files]
        files = [file.under(run_dir) for file in self.files]
        verb(self.key, files, step=self.step, caption=captions if any(captions) else None, **self.extra)


class Image(_Files, frozen=True):
    """Pictures under one key."""

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        self._hand(logger.log_image, run_dir)


class Audio(_Files, frozen=True):
    """Sounds under one key."""

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        self._hand(logger.log_audio, run_dir)


class Video(_Files, frozen=True):
    """Videos under one key."""

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        self._hand(logger.log_video, run_dir)


class Figure(Event, frozen=True):
    """A plot."""

    key: str
    file: MediaFile
    step: int | None = None

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [self.file.path]

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_figure(self.key, self.file.under(run_dir), step=self.step)


class Table(Event, frozen=True):
    """A table, kept in a file."""

    key: str
    file: MediaFile
    step: int | None = None

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [self.file.path]

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        try:
            columns, rows = read_table(run_dir / self.file.path)
        except UnsafePathError as error:
            raise RejectedError(f"a cell of the table: {error}") from error
        logger.log_table(self.key, columns=columns, data=rows, step=self.step)


class Text(Event, frozen=True):
    """A table of texts, kept in the line itself."""

    key: str
    columns: list[str]
    data: list[list[Any]]
    step: int | None = None

    def check(self) -> None:
        check_depth(self.data)

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_text(self.key, columns=self.columns, data=self.data, step=self.step)


class Histogram(Event, frozen=True):
    """Counts per bin."""

    key: str
    values: HistogramValues
    step: int | None = None

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_histogram(self.key, self.values, step=self.step)


class Graph(Event, frozen=True):
    """A model's structure."""

    file: MediaFile

    has_files = True

    @property
    def paths(self) -> list[str]:
        return [self.file.path]

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_graph(self.file.under(run_dir))


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

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_artifact(
            str(run_dir / self.path),
            name=self.name,
            type=self.kind,
            aliases=self.aliases,
            metadata=self.metadata,
        )


class Checkpoint(_Kept, frozen=True):
    """A saved model; ``path`` is the snapshot in the run's ``checkpoints/``."""

    source: str = ""
    """Where the training script saved it, absolute."""
    score: _Score | None = None
    step: int | None = None
    aliases: list[str] = []
    metadata: dict[str, Any] = {}
    automatic: bool = False
    """Whether a ModelCheckpoint saved it: see `Logger.log_model`."""

    def check(self) -> None:
        super().check()
        check_depth(self.metadata)

    def __post_init__(self) -> None:
        if isinstance(self.score, str):
            msgspec.structs.force_setattr(self, "score", from_json_number(self.score))

    def without_source(self) -> Checkpoint:
        """Return the checkpoint of a run that somebody else may have written, whose word gives no right to a file."""
        return msgspec.structs.replace(self, source="")

    def find(self, run_dir: Path) -> Path | None:
        """Return where the checkpoint is: its snapshot, or else what the script saved, unless that was overwritten.

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

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        if not self.automatic or logger.log_model in (None, "all"):
            self.upload(logger, run_dir)

    def upload(self, logger: Logger, run_dir: Path) -> None:
        """Call the verb, whether or not the logger wants what a ModelCheckpoint saved."""
        path = self.find(run_dir)
        if path is None:
            raise RejectedError(
                f"the checkpoint {self.path} is no longer kept: the loggers of the run had it, and the script has "
                "deleted or overwritten the original"
            )
        logger.log_checkpoint(
            str(path),
            score=self.score,
            step=self.step,
            aliases=self.aliases,
            metadata=self.metadata,
        )


class DefineMetric(Event, frozen=True):
    """Which metric is the x-axis of another, and how to summarise it."""

    name: str
    step_metric: str | None = None
    summary: str | None = None
    goal: str | None = None

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.define_metric(self.name, self.step_metric, self.summary, self.goal)


class Tags(Event, frozen=True):
    """Words to find the run by, added to those it has."""

    tags: list[str]

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.log_tags(self.tags)


class Console(Event, frozen=True):
    """Lines that the training process printed; recorded only if a logger wants them."""

    text: str
    """With a newline between lines, and none at the end."""
    stream: str = "stdout"
    """``stdout`` or ``stderr``."""

    def is_for(self, logger: Logger) -> bool:
        return "console" in logger.captures

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        if self.is_for(logger):
            logger.log_console(self.text, self.stream)


class Alert(Event, frozen=True):
    """Something that people are to be told."""

    title: str
    text: str = ""
    level: str = "INFO"
    """``INFO``, ``WARN`` or ``ERROR``."""

    def hand_to(self, logger: Logger, run_dir: Path) -> None:
        logger.alert(self.title, self.text, self.level)


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

    is_logged = False


AnyEvent = (
    Start | Params | Metrics | Image | Audio | Video | Figure | Table | Text | Histogram | Graph | Artifact
    | Checkpoint | DefineMetric | Tags | Console | Alert | Status | Lost | Finish
)  # fmt: skip

EVENT_TYPES: Sequence[type[Event]] = AnyEvent.__args__

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)

_BEGINNING = re.compile(rb'\{"type":"[a-z]+","time":')
_MOST_FRAGMENTS = 3

encode_lines = _encoder.encode_lines
"""Encode a list of events, each as one line with its newline. A NaN or infinity becomes null: see `encode`.

Not a tuple: msgspec 0.22 leaks its iterator.
"""


def encode(event: Event) -> bytes:
    """Encode one event as a line, whatever numbers and texts it holds: NaN, numpy's, lone surrogates.

    Raises:
        msgspec.ValidationError: something in it has a wrong type, and nobody could read the line.
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
        msgspec.MsgspecError: the line is no event of a known type.
        ValueError: it says what a journal may not say.
    """
    event: AnyEvent = _decoder.decode(line)
    event.check()
    return event


def decode_after_fragment(line: bytes) -> AnyEvent | None:
    """Return the event at the end of a damaged line, None if there is none.

    A process that dies, or meets a full disk, in the middle of a line leaves a fragment, and the next line of
    another process of the run stands right behind it.
    """
    beginnings = [match.start() for match in _BEGINNING.finditer(line, 1)]
    for start in reversed(beginnings[-_MOST_FRAGMENTS:]):
        try:
            return decode(line[start:])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return None
