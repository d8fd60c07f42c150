"""`read_run`: read a run's journal into Python objects and arrays.

It needs only the run's directory: no tracker, no SDK, no plugin. Metrics are numpy arrays if numpy is installed. An
incomplete last line is ignored; damaged lines are counted and skipped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import RunError, RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import (
    EVENT_TYPES,
    Alert,
    AnyEvent,
    Artifact,
    Checkpoint,
    Console,
    DefineMetric,
    Event,
    Figure,
    Files,
    Finish,
    Graph,
    Histogram,
    Lost,
    Metrics,
    Params,
    Rewind,
    Start,
    Table,
    Tags,
    Text,
    decode,
    decode_after_fragment,
)
from rankzero.files.writing import inside
from rankzero.journal.opening import has_journal
from rankzero.journal.tail import complete_lines
from rankzero.media.encoders import Histogram as HistogramValues
from rankzero.media.store import MediaFile, read_table
from rankzero.reader import frames
from rankzero.reader.series import Series, SeriesCollector
from rankzero.rundir.finding import status_without_end
from rankzero.rundir.layout import JOURNAL, JOURNALS
from rankzero.rundir.positions import Position, load_position, positions

_decode_lines = msgspec.json.Decoder(AnyEvent).decode_lines


@dataclass(frozen=True, slots=True)
class LoggedFile:
    """A logged image, audio, video, figure or point cloud."""

    kind: str
    """``image``, ``audio``, ``video``, ``figure`` or ``pointcloud``."""
    step: int | None
    time: float
    file: MediaFile
    """With an absolute path."""

    @property
    def path(self) -> Path:
        """The path of the file."""
        return Path(self.file.path)

    @property
    def caption(self) -> str | None:
        """The caption that was logged with the file."""
        return self.file.caption


@dataclass(frozen=True, slots=True)
class LoggedTable:
    """A logged table; `read` reads its cells."""

    step: int | None
    time: float
    path: Path

    def read(self) -> tuple[list[str], list[list[Any]]]:
        """Return (columns, rows); a picture in a cell is a `rankzero.media.store.MediaFile`.

        Raises:
            FileNotFoundError: the file was deleted, for example by ``rankzero clean``.
        """
        try:
            return read_table(self.path)
        except FileNotFoundError as error:
            message = "the table's file was deleted, for example by rankzero clean --media"
            raise FileNotFoundError(error.errno, message, str(self.path)) from None


@dataclass(frozen=True, slots=True)
class LoggedText:
    """A logged text, as a table."""

    step: int | None
    time: float
    columns: list[str]
    data: list[list[Any]]


@dataclass(frozen=True, slots=True)
class LoggedHistogram:
    """A logged histogram."""

    step: int | None
    time: float
    values: HistogramValues


@dataclass
class RunData:
    """The content of a run's journal. Each key has a list of what was logged under it, in order."""

    dir: Path
    info: RunInfo
    """Id, name, project, …"""
    status: str = "unknown"
    """``running``, ``success``, ``failed``, ``aborted``, ``crashed`` (its process died), or ``unknown`` (its process
    is on another machine)."""
    finished: float | None = None
    """Unix time in seconds; None if the run did not finish."""
    error: str = ""
    """The exception that ended the run, as ``Type: message``."""
    updated: float = 0.0
    """The time of the last event, Unix time in seconds."""
    paused: float = 0.0
    """The seconds between the end, or the crash, and the next start, if the run was resumed."""
    params: dict[str, Any] = field(default_factory=dict)
    """The hyperparameters of all calls, merged."""
    metrics: Mapping[str, Series] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    media: dict[str, list[LoggedFile]] = field(default_factory=dict)
    tables: dict[str, list[LoggedTable]] = field(default_factory=dict)
    texts: dict[str, list[LoggedText]] = field(default_factory=dict)
    histograms: dict[str, list[LoggedHistogram]] = field(default_factory=dict)
    graphs: list[MediaFile] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    """With absolute paths."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """With absolute paths: of the snapshot, or, if the snapshot was deleted, of the original file, unless that was
    overwritten. Only the newest checkpoint with an alias has it; see `checkpoint`."""
    definitions: dict[str, DefineMetric] = field(default_factory=dict)
    """The ``define_metric`` events, by metric."""
    alerts: list[Alert] = field(default_factory=list)
    console: list[Console] = field(default_factory=list)
    """The output of the training process, if a logger captures it; each event has one or more lines."""
    loggers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key → ``{"plugin": name, "options": {…}}``: the loggers of the run."""
    deliveries: dict[str, Position] = field(default_factory=dict)
    """Key → position: the state of each logger's delivery."""
    lines: int = 0
    """The number of complete lines in the journal; a `Position` counts these lines."""
    damaged: int = 0
    """The number of damaged lines."""
    losses: list[Lost] = field(default_factory=list)
    """Log calls that were lost, e.g. while the disk was full."""
    starts: list[Start] = field(default_factory=list)
    """The ``start`` events: the first one, and one for each time the run was resumed."""
    rewinds: list[Rewind] = field(default_factory=list)

    @property
    def started(self) -> float:
        """When the run started, Unix time in seconds."""
        return self.info.started

    @property
    def took(self) -> float:
        """The seconds that the run has taken so far, without `paused`."""
        return (self.finished or self.updated) - self.started - self.paused

    def checkpoint(self, alias: str) -> Checkpoint:
        """Return the newest checkpoint with an alias (``latest``, ``best``, …).

        Raises:
            RunError: no checkpoint has that alias.
            FileNotFoundError: its file was deleted, for example by ``rankzero clean``; `checkpoints` has its step and
                score.
        """
        for each in self.checkpoints:
            if alias in each.aliases:
                if not os.path.exists(each.path):
                    message = f"the checkpoint {alias!r} was deleted, for example by rankzero clean --checkpoints"
                    raise FileNotFoundError(errno.ENOENT, message, each.path)
                return each
        known = sorted({alias for each in self.checkpoints for alias in each.aliases})
        raise RunError(
            f"no checkpoint of {self.dir} has the alias {alias!r}. Its aliases: {', '.join(known) or 'none'}"
        )

    def to_pandas(self, wide: bool = False) -> Any:
        """Return the metrics as a pandas DataFrame with metric, step, time and value; ``wide``: a column per metric."""
        return frames.to_pandas_wide(self.metrics) if wide else frames.to_pandas(self.metrics)

    def to_arrow(self) -> Any:
        """Return the metrics as an Arrow table with metric, step, time and value."""
        return frames.to_arrow(self.metrics)

    def __repr__(self) -> str:
        points = sum(map(len, self.metrics.values()))
        return (
            f"RunData({self.info.name!r}, {self.status}, {len(self.metrics)} metrics, {points} points, dir={self.dir})"
        )


def read_run(path: str | os.PathLike[str], *, keep_rewound: bool = False) -> RunData:
    """Read a run from its directory.

    If the run was rewound, to resume from an older checkpoint (`Run.rewind`), what was logged before at later steps is
    left out: points of metrics, media, tables, texts and histograms. Checkpoints and artifacts of later steps stay,
    because their files exist, and training can resume from them as well.

    Args:
        path: the run's directory, or its ``journal.jsonl``.
        keep_rewound: whether to keep what would be left out; some steps are then there twice.

    Raises:
        RunNotFoundError: there is no journal, or it contains no event yet.
    """
    reader, metrics = JournalReader(find_journal(path)), SeriesCollector()
    for part in reader.read():
        if not isinstance(part, Rewind):
            metrics.add(part)
        elif not keep_rewound:
            metrics.rewind(part.step)
            reader.rewind(part.step)
    run = reader.finish()
    run.metrics = metrics.finish()
    return run


def find_journal(path: str | os.PathLike[str]) -> Path:
    """Return the resolved path of a run's journal; ``path`` is the run's directory or the journal.

    Raises:
        RunNotFoundError: there is no journal.
    """
    path = Path(path).resolve()
    run_dir = path.parent if path.name in JOURNALS else path
    if not has_journal(run_dir):
        raise RunNotFoundError(f"there is no run in {path}: it has no {JOURNAL}. Find runs with: rankzero ls")
    return run_dir / JOURNAL


class JournalReader:
    """Reads a journal once: `read` yields its metrics, and `finish` returns everything else."""

    def __init__(
        self,
        journal: Path,
        only: Collection[type[Event]] = EVENT_TYPES,
        end: int | None = None,
        run: RunData | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            journal: the file.
            only: the types of events to collect besides metrics.
            end: the number of bytes to read; by default all.
            run: what was read before.
        """
        self._journal = journal
        self._only = frozenset(only)
        self._end = end
        self.run = run or RunData(journal.parent, RunInfo(id="", name="", project="", dir=""))
        """What was read so far."""
        self._is_own = False
        self.is_empty = run is None
        """Whether no event was read so far."""
        self._newest_with_alias: dict[str, int] = {}  # alias → index of its newest checkpoint
        self.size = 0
        """The number of bytes that were read."""

    def read(self) -> Iterator[list[Metrics] | Rewind]:
        """Yield the metrics in lists of a convenient size, and each rewind between those before and after it."""
        for chunk in complete_lines(self._journal, self._end):
            yield from self.take(chunk)

    def take(self, chunk: bytes) -> Iterator[list[Metrics] | Rewind]:
        """Read complete lines; yield as in `read`."""
        self.size += len(chunk)
        self.run.lines += chunk.count(b"\n")
        yield from self._take_chunk(chunk)

    def finish(self) -> RunData:
        """Return the run without its metrics.

        Raises:
            RunNotFoundError: the journal contains no event.
        """
        if self.is_empty:
            raise RunNotFoundError(f"{self.run.dir / JOURNAL} contains no readable event")
        run = completed(self.run)
        for index, each in enumerate(run.checkpoints):
            kept = [alias for alias in each.aliases if self._newest_with_alias[alias] == index]
            run.checkpoints[index] = msgspec.structs.replace(each, aliases=kept)
        run.deliveries = {key: load_position(run.dir, key) for key in run.loggers} | positions(run.dir)
        return run

    def _take_chunk(self, chunk: bytes) -> Iterator[list[Metrics] | Rewind]:
        events = self._decode(chunk)
        if not events:
            return
        self.is_empty = False
        metrics = [event for event in events if event.__class__ is Metrics]
        if len(metrics) < len(events):
            metrics = []
            for event in events:
                if isinstance(event, Metrics):
                    metrics.append(event)
                elif isinstance(event, Rewind):
                    self.run.rewinds.append(event)
                    yield metrics
                    yield event
                    metrics = []
                else:
                    self._take_checked(event)
                self.run.updated = event.time
        self.run.updated = events[-1].time
        yield metrics

    def _decode(self, chunk: bytes) -> list[AnyEvent]:
        try:
            return _decode_lines(chunk)  # many lines at once take half the time
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return [event for line in chunk.split(b"\n") if line and (event := self._decode_line(line))]

    def _decode_line(self, line: bytes) -> AnyEvent | None:
        try:
            return decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.run.damaged += 1
            return decode_after_fragment(line)

    def _take_checked(self, event: Event) -> None:
        try:
            event.check()
            if event.__class__ in self._only:
                self._take(event)
        except ValueError:
            self.run.damaged += 1

    def _take(self, event: Event) -> None:
        run = self.run
        match event:
            case Start():
                self._take_start(event)
            case Finish():
                run.status, run.finished, run.error = event.status, event.time, event.error
            case Params():
                _merge(run.params, event.params())
            case Files():
                kind, step, files = event.media_kind(), event.step, [each.under(run.dir) for each in event.files]
                run.media.setdefault(event.key, []).extend(LoggedFile(kind, step, event.time, file) for file in files)
            case Figure():
                file = LoggedFile("figure", event.step, event.time, event.file.under(run.dir))
                run.media.setdefault(event.key, []).append(file)
            case Table():
                table = LoggedTable(event.step, event.time, inside(run.dir, event.file.path))
                run.tables.setdefault(event.key, []).append(table)
            case Text():
                text = LoggedText(event.step, event.time, event.columns, event.data)
                run.texts.setdefault(event.key, []).append(text)
            case Histogram():
                histogram = LoggedHistogram(event.step, event.time, event.values)
                run.histograms.setdefault(event.key, []).append(histogram)
            case Graph():
                run.graphs.append(event.file.under(run.dir))
            case Artifact():
                run.artifacts.append(msgspec.structs.replace(event, path=str(inside(run.dir, event.path))))
            case Checkpoint():
                self._take_checkpoint(event)
            case DefineMetric():
                run.definitions[event.name] = event
            case Tags():
                run.tags += event.tags
            case Console():
                run.console.append(event)
            case Alert():
                run.alerts.append(event)
            case Lost():
                run.losses.append(event)

    def _take_start(self, start: Start) -> None:
        run = self.run
        run.finished, run.error = None, ""
        if start.resumed and run.updated:
            run.paused += max(0.0, start.time - run.updated)
        run.starts.append(start)
        run.loggers.update(start.loggers)
        if not run.info.id:
            started = start.run.started or start.time
            self._is_own = start.is_own(run.dir)
            run.info = msgspec.structs.replace(start.run, dir=str(run.dir), started=started)

    def rewind(self, step: int) -> None:
        """Leave out the media, tables, texts and histograms with a later step that were read so far."""
        run = self.run
        logged: tuple[dict[str, list[Any]], ...] = (run.media, run.tables, run.texts, run.histograms)
        for by_key in logged:
            for key, items in list(by_key.items()):
                by_key[key] = [each for each in items if each.step is None or each.step <= step]
                if not by_key[key]:
                    del by_key[key]

    def _take_checkpoint(self, checkpoint: Checkpoint) -> None:
        run = self.run
        found = (checkpoint if self._is_own else checkpoint.without_source()).find(run.dir)
        self._newest_with_alias.update(dict.fromkeys(checkpoint.aliases, len(run.checkpoints)))
        path = str(found or run.dir / checkpoint.path)
        run.checkpoints.append(msgspec.structs.replace(checkpoint, path=path))


def completed(run: RunData) -> RunData:
    """Return what was read of a run, with its id, status and tags also if the journal does not contain them."""
    info = known_info(run.info, run.dir)
    status = status_without_end(run.dir) if run.finished is None else run.status
    return replace(run, info=info, status=status, tags=list(dict.fromkeys((*info.tags, *run.tags))))


def known_info(info: RunInfo, run_dir: str | os.PathLike[str]) -> RunInfo:
    """Return the id, name, … of a run; from its directory, if the first line of the journal is damaged."""
    if info.id:
        return info
    path = Path(run_dir)
    return RunInfo(path.name, path.name, path.parent.name, str(path))


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
