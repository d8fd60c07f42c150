"""`CSVLogger`, the built-in logger: ``metrics.csv``, ``hparams.yaml``, and files beside them."""

from __future__ import annotations

import csv
import io
import os
import weakref
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo, TrackedPoint
from rankzero.events.structs import Artifact, Checkpoint
from rankzero.files.directories import check_writable, next_version, place_at
from rankzero.files.writing import open_own
from rankzero.loggers.base import Logger
from rankzero.loggers.csv import hparams
from rankzero.loggers.csv.file import CsvFile, FileChangedError
from rankzero.loggers.csv.hparams import HparamsFile
from rankzero.loggers.csv.media_files import KeptFiles, is_later
from rankzero.loggers.csv.projection import Projection
from rankzero.loggers.csv.system_file import NAME as SYSTEM_FILE
from rankzero.loggers.csv.system_file import SystemFile
from rankzero.loggers.verbs import Record
from rankzero.media.store import MediaFile, MediaStore
from rankzero.messages import OnceWarner
from rankzero.rank import rank_zero_warn_user
from rankzero.values import flatten, parse_number, to_jsonable, to_number

_FIXED = frozenset({"step", "time", "stage"})
"""The columns of a row that are not metrics."""


class CSVLogger(Logger):
    """Writes a run as plain files.

    Used directly, it writes to ``save_dir/name/version_N``. Under a Run, it writes to the run's directory, or to
    ``save_dir/name/<version or run id>`` if ``save_dir`` is given. Existing files are continued, never deleted.

    - ``metrics.csv``: a row for each log call, with the column ``step``; under a Run also ``time`` (Unix time in
      seconds) and, when known, ``epoch`` and ``stage``. A metric with the name of such a column is written to
      ``metric-step`` and so on; a metric ``epoch`` replaces the epoch.
    - ``system_metrics.csv``: a row for each measurement of the system, with the column ``time``; only under a Run.
    - ``hparams.yaml``: the hyperparameters of all calls, merged.
    - ``tables/``, ``images/`` and so on: ``<key>-<step>-<hash>``. ``files.csv`` lists them, and also checkpoints and
      other artifacts, which are not copied.

    Under a Run each value is written exactly once, even after crashes; `Run.rewind` removes the rows of later steps.
    With a given ``version``, where other processes may write, too, no rows are removed, and rows may be duplicated if a
    crash interrupts the adding of a column.

    Args:
        save_dir: a directory, or an fsspec URL such as ``s3://bucket/logs`` (needs ``rankzero[remote]``). An object
            store cannot append, so each flush uploads the whole ``metrics.csv``.
        name: the directory below ``save_dir``; none if empty or None.
        version: a number N for ``version_N``, or the directory's name; the next free number by default.
        prefix: put before the names of metrics, with a ``-``.
        flush_logs_every_n_steps: the number of rows to buffer; under a Run, the courier flushes.
        root_dir: the same as ``save_dir``, for compatibility with Lightning Fabric.
    """

    LOGGER_JOIN_CHAR = "-"
    keeps_files = False
    counts_lines = True
    captures = frozenset(["rewind"])

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
        *,
        root_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        save_dir = root_dir if save_dir is None else save_dir
        self._save_dir = None if save_dir is None else os.fspath(save_dir)
        self._name = name or ""
        self._version = version
        self._next_version: int | None = None
        self._prefix = prefix
        self._rows_in_memory = flush_logs_every_n_steps
        self._writer: ExperimentWriter | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_writer": None}

    # Identity

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> int | str:
        if self._version is not None:
            return self._version
        if self.run_info is not None:
            return self.run_info.id
        if self._next_version is None:
            self._next_version = next_version(self.root_dir)
        return self._next_version

    @property
    def save_dir(self) -> str:
        """The given directory, or else the run's directory or the working directory."""
        if self._save_dir is not None:
            return self._save_dir
        return self.run_info.dir if self.run_info is not None else os.getcwd()

    @property
    def root_dir(self) -> str:
        return os.path.join(self.save_dir, self.name) if self._home is None else os.path.dirname(self._home)

    @property
    def log_dir(self) -> str:
        if self._home is not None:
            return self._home
        version = self.version
        return os.path.join(self.root_dir, version if isinstance(version, str) else f"version_{version}")

    @property
    def _home(self) -> str | None:
        """The run's directory, if the logger writes there."""
        return self.run_info.dir if self.run_info is not None and self._save_dir is None else None

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer of the files."""
        if self._writer is None:
            self._writer = ExperimentWriter(self.log_dir, self.run_info, is_alone=self._version is None)
        return self._writer

    # Delivery

    def check_login(self) -> None:
        check_writable(self._save_dir)

    def attach(self, run: RunInfo) -> None:
        self._writer = None  # events that were not flushed are delivered again
        super().attach(run)

    def watermark(self) -> int | None:
        delivered = self.experiment.delivered
        return None if delivered is None else delivered.lines

    @contextmanager
    def at(self, context: LogContext) -> Iterator[None]:
        with super().at(context):
            yield
            self._note(context)

    def _note(self, context: LogContext) -> None:
        if self.run_info is not None and not self._closed:
            delivered = (self._writer or self.experiment).delivered  # the property reads the rank each time
            if delivered is not None:
                delivered.note(context.line)

    def flush(self) -> None:
        if self._writer is not None:
            with self._translated():
                self._writer.save()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, FileChangedError) as error:
            raise TrackerUnavailableError(f"{self.log_dir} cannot be written: {error}") from error

    def read_metrics(self, names: Collection[str]) -> dict[str, list[TrackedPoint]]:
        place = place_at(self.log_dir)  # not the experiment, which mends the file
        try:
            found: dict[str, list[TrackedPoint]] = {}
            for file, named in ((ExperimentWriter.NAME_METRICS_FILE, self._named), (SYSTEM_FILE, str)):
                place.pull(file)
                _read_points(place.path / file, {name: named(name) for name in names}, found)
            return found
        finally:
            place.close()

    def _named(self, name: str) -> str:
        return f"{self._prefix}{self.LOGGER_JOIN_CHAR}{name}" if self._prefix else name

    # Verbs

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        context = self._context if self.run_info is None else self.context
        if self.run_info is not None and (row := MetricsRow(metrics, step, self.context)).is_system:
            self.experiment.system.add(row)
        else:
            self._log(metrics, step, context)

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        for row in rows:
            if row.is_system:
                self.experiment.system.add(row)
            else:
                self._log(row.values, row.step, row.context)
            self._note(row.context)

    def _log(self, metrics: Mapping[str, Any], step: int | None, context: LogContext | None) -> None:
        writer = self._writer or self.experiment
        if context is not None and writer.delivered is not None and writer.delivered.holds(context.line):
            return
        if self._prefix:
            metrics = {self._named(key): value for key, value in metrics.items()}
        writer.log_metrics(metrics, step, context)
        if self.run_info is None and len(writer.metrics) >= self._rows_in_memory:
            self.flush()

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace | None = None, metrics: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        params = vars(params) if isinstance(params, Namespace) else params
        self.experiment.log_hparams(params or {})
        if metrics:
            self.log_metrics(dict(metrics) if isinstance(metrics, Mapping) else {"hp_metric": metrics}, step=0)

    def log_record(self, record: Record) -> None:
        match record:
            case Artifact():
                details: dict[str, Any] = {"type": record.kind, "aliases": record.aliases, "metadata": record.metadata}
                self._list("artifact", record.name, record.path, None, details)
            case Checkpoint():
                details = {"score": record.score, "aliases": record.aliases, "metadata": record.metadata}
                self._list("checkpoint", Path(record.path).name, record.path, record.step, details)
            case _:
                super().log_record(record)

    def keep_file(self, key: str, file: MediaFile, kind: str, step: int | None) -> None:
        path = self.experiment.files.keep(self.media_store.directory / file.path, kind, key, step)
        self._list(kind, key, path, step, {"caption": file.caption})

    def _list(
        self, kind: str, key: str, path: str | os.PathLike[str], step: int | None, details: Mapping[str, Any]
    ) -> None:
        text = os.fspath(path)
        with suppress(ValueError):
            text = Path(text).relative_to(os.path.abspath(self.log_dir)).as_posix()
        context = self._context if self.run_info is None else self.context
        self.experiment.files.list(kind, key, text, step, context.time if context else None, details)

    def rewind(self, step: int) -> None:
        writer = self.experiment
        if writer.delivered is not None and not writer.delivered.is_alone:  # whose rows they are is unknown
            super().rewind(step)
        elif writer.delivered is None or not writer.delivered.holds(self.context.line):
            with self._translated():
                writer.rewind(step)

    @property
    def media_store(self) -> MediaStore:
        return MediaStore(self.experiment.local_dir, self.warner)

    # Endings

    def save(self) -> None:
        # Frameworks call this after every step, and an upload is slow.
        if self._writer is not None and self.run_info is None and not self._writer.is_remote:
            self.flush()

    def finalize(self, status: str) -> None:
        self._note(self.context)  # the courier closes the logger before the ``with`` block of `at` ends
        self.flush()

    def close(self) -> None:
        if self._writer is not None:
            self.flush()
            self._writer.close()
            self._writer = None


class ExperimentWriter:
    """Writes ``metrics.csv`` and ``hparams.yaml`` in one directory.

    Args:
        log_dir: the directory, or an fsspec URL.
        run: the run whose journal is delivered, if any.
        is_alone: whether no other run writes to the directory.
    """

    NAME_METRICS_FILE = "metrics.csv"
    NAME_HPARAMS_FILE = hparams.NAME

    def __init__(self, log_dir: str, run: RunInfo | None = None, *, is_alone: bool = False) -> None:
        self.log_dir = log_dir
        self.metrics_file_path = os.path.join(log_dir, self.NAME_METRICS_FILE)
        self.metrics: list[dict[str, Any]] = []
        """The buffered rows."""
        self._warner = OnceWarner(rank_zero_warn_user)
        self._files: KeptFiles | None = None
        self._system: SystemFile | None = None
        self._place = place_at(log_dir)
        self._hparams = HparamsFile(self._place)
        self.delivered: Projection | None = None
        """The delivered part of the run's journal, if there is a run."""
        if run is None:
            self._file = CsvFile(self._place, self.NAME_METRICS_FILE)
            # A process that ends without finalize() must not lose its last rows.
            weakref.finalize(self, _write_rest, self._file, self.metrics, os.getpid())
        else:
            self._file = self.delivered = Projection(self._place, self.NAME_METRICS_FILE, run.id, is_alone=is_alone)

    @property
    def hparams(self) -> dict[str, Any]:
        """The hyperparameters of all calls, merged."""
        return self._hparams.values

    @property
    def local_dir(self) -> Path:
        """``log_dir``, or its local copy if it is remote."""
        return self._place.path

    @property
    def is_remote(self) -> bool:
        """Whether ``log_dir`` is in an object store."""
        return self._place.is_remote

    @property
    def metrics_keys(self) -> list[str]:
        """The columns of ``metrics.csv``."""
        return self._file.columns

    @property
    def files(self) -> KeptFiles:
        """The media files and the list of files."""
        if self._files is None:
            self._files = KeptFiles(self._place)
        return self._files

    @property
    def system(self) -> SystemFile:
        """The file with system metrics."""
        if self._system is None:
            self._system = SystemFile(self._place)
        return self._system

    # Writing

    def log_metrics(
        self, metrics_dict: Mapping[str, Any], step: int | None = None, context: LogContext | None = None
    ) -> None:
        """Buffer a row, which `save` writes.

        Args:
            metrics_dict: name → number; other values are written as text.
            step: by default the metric ``step``, or else the number of rows so far.
            context: adds the columns ``time``, ``epoch`` and ``stage``.
        """
        row = {key: _cell(value) for key, value in flatten(metrics_dict)}
        if step is None:
            step = row.pop("step", None)
        if step is None:
            step = self._file.rows + len(self.metrics)
        fixed = {"step": _cell(step)}
        if context is not None:
            fixed["time"] = context.time
            fixed["stage"] = context.stage
            if context.epoch is not None:
                row.setdefault("epoch", context.epoch)
        for name in fixed.keys() & row.keys():
            if row[name] != fixed[name]:
                self._move_to_free_column(row, name)
        if fixed.get("stage", "") is None:
            del fixed["stage"]
        self.metrics.append(row | fixed)

    def _move_to_free_column(self, row: dict[str, Any], name: str) -> None:
        value = row.pop(name)
        column = f"metric-{name}"
        while column in row:
            column = f"metric-{column}"
        row[column] = value
        self._warner.warn(name, f"the metric {name!r} is in the column {column!r}: {name!r} is the {name} of the row")

    def log_hparams(self, params: Mapping[str, Any]) -> None:
        """Add hyperparameters, and write all to ``hparams.yaml``."""
        self._hparams.add(params)

    def rewind(self, step: int) -> None:
        """Remove the rows with a later step; files of media stay."""
        self.save()
        self._file.remove_rows(lambda row: is_later(row, step))
        self.files.rewind(step)

    def save(self) -> None:
        """Write the buffered rows."""
        if self._system is not None:
            self._system.save()
        if self.metrics:
            self._file.append(self.metrics)
            self.metrics.clear()
        self._file.save()

    def close(self) -> None:
        """Remove the local copy of a remote directory."""
        self._place.close()


def _read_points(path: Path, columns: Mapping[str, str], found: dict[str, list[TrackedPoint]]) -> None:
    """Add name → its points in a file, for name → column."""
    with (
        suppress(FileNotFoundError),
        io.TextIOWrapper(open_own(path), "utf-8-sig", "surrogateescape", newline="") as file,
    ):
        for row in csv.DictReader(file):
            step = parse_number(row.get("step"))
            for name, column in columns.items():
                moved = row.get(f"metric-{column}") if column in _FIXED else None
                if (value := parse_number(moved or row.get(column))) is not None:
                    found.setdefault(name, []).append((None if step is None else int(step), value))


def _write_rest(file: CsvFile, rows: list[dict[str, Any]], pid: int) -> None:
    if rows and os.getpid() == pid:
        with suppress(Exception):  # the process is ending
            file.append(rows)
            file.save()


def _cell(value: Any) -> Any:
    if value.__class__ is float or value.__class__ is int or value is None or isinstance(value, str):
        return value
    number = to_number(value)
    return msgspec.json.encode(to_jsonable(value)).decode() if number is None else number
