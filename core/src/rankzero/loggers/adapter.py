"""`TrackerLogger`, the base class of loggers for SDKs: an adapter declares tables and implements a `Session`.

The logger is the object that a user makes and calls; it may be copied, pickled and closed. The session is one open run
in the tracker. The base class implements what all adapters need:

- checks that the SDK is installed and the options are valid: `Options`;
- opening on first use, by one thread, once; opening the same run again after `close`;
- prefix, epoch, metrics that are not numbers, nested hyperparameters, images in tables, temporary files for uploads;
- an offline session, because the journal has everything;
- the meaning of an SDK's error for a courier: `Rule`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from rankzero.errors import (
    AccessError,
    ConfigError,
    DeliveryError,
    ExperimentUnavailableError,
    PluginNotInstalledError,
    PossiblyRejectedError,
    RejectedError,
    TrackerUnavailableError,
)
from rankzero.events.run_info import SYSTEM, LogContext, MetricsRow, RunInfo, TrackedMetrics
from rankzero.events.structs import Alert, Artifact, Checkpoint, DefineMetric, Tags
from rankzero.loggers.base import Logger
from rankzero.loggers.options import Option, Options, check_option
from rankzero.loggers.sdk_errors import Failure, Rule, read_failure, translated
from rankzero.loggers.verbs import Record
from rankzero.media.encoders import is_picture
from rankzero.media.record import Media
from rankzero.media.store import MediaFile, MediaStore
from rankzero.messages import OnceWarner
from rankzero.plugins.entry_points import is_installed
from rankzero.values import to_jsonable

_LOG_MODEL = Option("log_model", choices=(True, False, "all"))
_STATUSES = {"finished": "success", "killed": "aborted"}
"""The status words of frameworks → those of rankzero."""
_PLURALS = {"image": "pictures", "audio": "sounds", "video": "videos", "figure": "figures"}


class Unsupported(Exception):
    """The session does not support this kind of data: the fallback of `Logger` keeps it, or warns that it is lost."""


class Session:
    """One open run in a tracker.

    An adapter implements the methods that its tracker supports; the others raise `Unsupported`. `TrackerLogger` calls
    them and translates the SDK's errors. ``context`` has the time of the event, which may be hours ago.
    """

    warner: OnceWarner
    """Warns the user of each topic once, also if the run is opened again; set before anything is written."""
    url: str | None = None
    """How to view the run: a URL or a shell command."""

    @property
    def experiment(self) -> Any:
        """The SDK's own object."""
        raise ExperimentUnavailableError("this tracker has no object for a run")

    def resume(self, time: float) -> None:
        """Prepare to write an event of the Unix time ``time``; not called before reading."""

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        """Write numbers; names have the prefix, and the epoch is included."""
        raise Unsupported

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        """Write hyperparameters as nested JSON values. Repeated calls merge."""
        raise Unsupported

    def write_media(self, media: Media, context: LogContext) -> None:
        """Write media; see `Media`, which makes its files on demand."""
        raise Unsupported

    def write_artifact(self, artifact: Artifact, context: LogContext) -> None:
        """Write a file or directory."""
        raise Unsupported

    def write_checkpoint(self, checkpoint: Checkpoint, context: LogContext) -> None:
        """Write a checkpoint, a file or directory; by default as an artifact."""
        raise Unsupported

    def read_checkpoint(self, alias: str, directory: Path) -> Path:
        """Download the checkpoint with an alias into a directory, and return its path.

        Raises:
            LookupError: no checkpoint of the run has this alias.
        """
        raise LookupError(f"the tracker keeps no checkpoints, so none has the alias {alias!r}")

    def write_tags(self, tags: Sequence[str], context: LogContext) -> None:
        """Add tags to the run."""
        raise Unsupported

    def write_console(self, text: str, stream: str, context: LogContext) -> None:
        """Write lines that the training process printed."""
        raise Unsupported

    def alert(self, alert: Alert, context: LogContext) -> None:
        """Send an alert."""
        raise Unsupported

    def define_metric(self, definition: DefineMetric, context: LogContext) -> None:
        """Define the x-axis and the summary of a metric, whose name has the prefix."""
        raise Unsupported

    def rewind(self, step: int, context: LogContext) -> int | None:
        """Take back earlier data of later steps, because the option ``rewind`` is set; see `Logger.rewind`."""
        raise Unsupported

    def flush(self) -> None:
        """Return only when the tracker has acknowledged everything that was written; raise otherwise."""

    def finish(self, status: Any, time: float) -> None:
        """Set the final status, translated by `TrackerLogger.statuses`, and the end time of the run."""

    def close(self) -> None:
        """Release all resources; in direct use this ends the run."""


class OfflineSession(Session):
    """Writes nothing: for a Run that is offline, because its journal has everything, or a tracker that is disabled."""

    @property
    def experiment(self) -> Any:
        raise ExperimentUnavailableError("the run is offline or switched off: the tracker has no experiment of it")

    def _write_nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    write_metrics = write_params = write_media = write_artifact = write_checkpoint = _write_nothing
    write_tags = write_console = alert = define_metric = rewind = _write_nothing

    def read_checkpoint(self, alias: str, directory: Path) -> Path:
        raise LookupError(f"nothing was sent to the tracker, so no checkpoint has the alias {alias!r} there")


class TrackerLogger(Logger):
    """Writes to a tracker with its SDK. An adapter implements `open`, ``name`` and ``version``, and a `Session`.

    Args:
        prefix: put before the names of metrics, with ``LOGGER_JOIN_CHAR``.
        log_model: see `Logger.log_model`.
        **given: the other options, which the constructor of a subclass names and passes on.

    Raises:
        PluginNotInstalledError: the SDK is not installed.
        ConfigError: an option is unknown or has a wrong value.
    """

    LOGGER_JOIN_CHAR = "-"

    sdk: ClassVar[str]
    """The module of the SDK; its distribution has the same name, with ``-`` for ``_``."""
    tracker: ClassVar[str]
    """The name of the tracker, for messages."""
    options_class: ClassVar[type[Options]] = Options
    """The table of options. ``secret_options`` comes from it."""
    errors: ClassVar[tuple[Rule, ...]] = ()
    """The meaning of the SDK's errors. An exception without a matching rule is raised unchanged."""
    statuses: ClassVar[Mapping[str, Any]] = {}
    """``success``, ``aborted`` and ``failed`` (any other status) → the tracker's word; empty: no translation."""
    epoch_metric: ClassVar[str | None] = "epoch"
    """The name of the metric for the epoch of a row, unless the row has a metric of this name; None for no metric."""
    prefixes_epoch: ClassVar[bool] = True
    """Whether the prefix is added to the metric for the epoch, too."""
    media_options: ClassVar[Mapping[str, frozenset[str]] | None] = {}
    """Kind of media → supported keyword arguments; a warning names others. None if all are supported."""
    draws_models: ClassVar[bool] = False
    """Whether ``log_graph`` in direct use accepts a model."""
    scratch: ClassVar[Literal["written", "flushed"]] = "written"
    """How long the files of media logged in direct use are needed."""
    writes_offline: ClassVar[bool] = False
    """Whether the adapter writes offline runs itself."""
    reopens_after_failed_flush: ClassVar[bool] = False
    """Whether to discard a session after a failed flush, because it would skip events that are written again."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "options_class" in vars(cls):
            cls.secret_options = cls.options_class.secrets()

    def __init__(
        self, *, prefix: str | None = "", log_model: bool | Literal["all"] | None = None, **given: Any
    ) -> None:
        super().__init__()
        if not is_installed(self.sdk):
            name = self.sdk.replace("_", "-")
            raise PluginNotInstalledError(f"{type(self).__name__} needs {self.sdk}: pip install {name}")
        if log_model is not None:
            check_option(_LOG_MODEL, log_model)
        check_option(Option("prefix", str), prefix or "")
        self.log_model = log_model
        self.prefix = prefix + self.LOGGER_JOIN_CHAR if prefix else ""
        """The prefix of the names of metrics, with ``LOGGER_JOIN_CHAR``."""
        self.options = self.options_class(given)
        """The options that the user gave."""
        self.options.check(type(self).__name__, ("prefix", "log_model"))
        self._session: Session | None = None
        self._begin()

    def _begin(self) -> None:
        self._opening = threading.RLock()  # the training loop and a courier thread may open the session at once
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._users = 0  # the number of calls that use files in it

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_session": None, "_opening": None, "_scratch": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    # The session

    def open(self, run: RunInfo | None) -> Session:
        """Open the run in the tracker; called on first use, and again after `close`.

        Args:
            run: the rankzero run, whose id identifies the run in the tracker; None in direct use.

        Raises:
            ConfigError: the tracker does not accept the user's options. Under a Run this and a `RejectedError` become
                an `AccessError`, because no event is the cause.
        """
        raise NotImplementedError

    @property
    def session(self) -> Any:
        """The open session; calls `open` if necessary."""
        with self._opening:
            if self._session is None:
                self._session = self._opened()
                self._session.warner = self.warner
            return self._session

    def _opened(self) -> Session:
        run = self.run_info
        if run is not None and (self.is_offline or self.is_disabled) and not self.writes_offline:
            return OfflineSession()
        what = f"the run cannot be opened in {self.tracker}"
        try:
            self._check_that_sdk_is_real()
            with self.translated(what):
                return self.open(run)
        except RejectedError as error:
            raise AccessError(_said_once(what, error)) from error
        except PossiblyRejectedError as error:
            raise TrackerUnavailableError(_said_once(what, error)) from error
        except ConfigError as error:
            if run is None:
                raise
            raise AccessError(_said_once(what, error)) from error

    def _check_that_sdk_is_real(self) -> None:
        name = getattr(sys.modules.get(self.sdk), "__name__", self.sdk)
        if name.startswith("rankzero.compat."):
            raise ConfigError(
                f"{name} replaces {self.sdk} in this process, so that only a separate process can deliver: start the "
                'run with delivery="process"'
            )

    def discard(self) -> None:
        """Drop the session without closing it; the courier writes the events that were not flushed again."""
        self._session = None

    def read_failure(self, error: BaseException) -> Failure:
        """Return the details of an exception of the SDK, for `errors`."""
        return read_failure(error)

    def translated(self, what: str = "", *, is_event: bool = False) -> Any:
        """Return a context manager that translates the SDK's errors by `errors`; see `sdk_errors.translated`."""
        return translated(self.errors, what, read=self.read_failure, is_event=is_event)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Yield the session for writing, and translate errors. Verbs of a subclass may use it, too."""
        with self._using_files():
            session = self.session
            with self.translated(is_event=True):
                session.resume(self.context.time)
                yield session

    @contextmanager
    def _using_files(self) -> Iterator[None]:
        """Delete the files of `media_store` at the end of the outermost of these contexts, if they are not needed."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self.scratch == "written":
                self._clear_scratch()

    # Delivery

    def attach(self, run: RunInfo) -> None:
        self.discard()
        super().attach(run)

    def read_metrics(self, names: Collection[str]) -> TrackedMetrics:
        if self.run_info is None or self.is_offline or self.is_disabled:
            raise ConfigError(f"nothing of the run is sent to {self.tracker}, so that nothing can be read back")
        self._check_that_sdk_is_real()
        wanted = {self._prefixed(name): name for name in names}
        with self.translated(f"metrics cannot be read back from {self.tracker}"):
            found = self.read_points(self.run_info, list(wanted))
        return {wanted.get(name, name): points for name, points in found.items()}

    def read_points(self, run: RunInfo, names: Sequence[str]) -> TrackedMetrics:
        """Read metrics of a run back; see `Logger.read_metrics`. Must change nothing in the tracker or on disk.

        Args:
            run: the rankzero run, which has no open session.
            names: the names of metrics with the prefix, as `Session.write_metrics` gets them.

        Returns:
            As `Logger.read_metrics`, but with these names.
        """
        raise NotImplementedError

    def resolved_options(self) -> dict[str, Any]:
        return self.options.resolved()

    def how_to_view(self) -> str | None:
        return self._session.url if self._session is not None else None

    def flush(self) -> None:
        if self._session is not None:
            with self.acknowledging():
                self._session.flush()
            self._clear_scratch()

    @contextmanager
    def acknowledging(self) -> Iterator[None]:
        """Translate errors of the SDK while the session flushes or ends; see `reopens_after_failed_flush`."""
        try:
            with self.translated():
                yield
        except DeliveryError:
            if self.reopens_after_failed_flush and self.run_info is not None:
                self.discard()
            raise

    def finalize(self, status: str = "success") -> None:
        super().finalize(status)
        if self._session is not None or self.run_info is not None:
            with self.acknowledging():
                self.session.finish(self._word(status), self.context.time)
        self._clear_scratch()

    def _word(self, status: str) -> Any:
        known = _STATUSES.get(status, status)
        return self.statuses.get(known, self.statuses.get("failed", status))

    def close(self) -> None:
        """Release everything; in direct use the run in the tracker ends."""
        session, self._session = self._session, None
        try:
            if session is not None:
                with self.acknowledging():
                    session.close()
        finally:
            self._clear_scratch()

    @property
    def experiment(self) -> Any:
        """The SDK's own object."""
        return self.open_experiment()

    def open_experiment(self) -> Any:
        """Return the SDK's own object; a subclass that joins the run of a courier with another session overrides it."""
        with self.translated():
            return self.session.experiment

    # Metrics and hyperparameters

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        numbers, others = self.numbers_and_others(metrics)
        for key, value in others.items():
            self.log_text_metric(key, value, step)
        if numbers:
            self._write_rows([MetricsRow(numbers, step, self.context)])

    def log_text_metric(self, key: str, value: Any, step: int | None) -> None:
        """Log a metric that is not a number, in the same way as a Run."""
        self.log_text(key, columns=["value"], data=[[value]], step=step)

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        self._write_rows(rows)

    def _write_rows(self, rows: Sequence[MetricsRow]) -> None:
        with self.writing() as session:
            session.write_metrics([self.named(row) for row in rows])

    def named(self, row: MetricsRow) -> MetricsRow:
        """Return a row with the prefix and the epoch."""
        values, epoch = row.values, self.epoch_metric
        if epoch is not None and row.context.epoch is not None and self.prefixes_epoch:
            values = {epoch: row.context.epoch, **values}
        if self.prefix:
            values = {self._prefixed(name): value for name, value in values.items()}
        if epoch is not None and row.context.epoch is not None and not self.prefixes_epoch:
            values = {epoch: row.context.epoch, **values}
        return row if values is row.values else MetricsRow(values, row.step, row.context)

    def _prefixed(self, name: str) -> str:
        """Return the name of a metric with the prefix; system metrics of a Run have none."""
        return name if self.run_info is not None and name.startswith(SYSTEM) else self.prefix + name

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace | None = None, metrics: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        given = vars(params) if isinstance(params, Namespace) else params or {}
        with self.writing() as session:
            session.write_params(to_jsonable(given), self.context)
        if metrics:
            self.log_metrics(dict(metrics), step=0)

    # Everything else

    def log_record(self, record: Record) -> None:
        if isinstance(record, Media):
            if record.kind == "graph" and not (self.draws_models or isinstance(record.items, MediaFile)):
                return  # frameworks log a model automatically
            self._warn_of_ignored(record)
        with self._using_files():
            try:
                with self.writing() as session:
                    self._write_record(session, record)
            except Unsupported:
                super().log_record(record)

    def _write_record(self, session: Session, record: Record) -> None:
        context = self.context
        match record:
            case Media():
                session.write_media(record, context)
            case Artifact():
                session.write_artifact(record, context)
            case Checkpoint():
                session.write_checkpoint(record, context)
            case DefineMetric():
                session.define_metric(msgspec.structs.replace(record, name=self.prefix + record.name), context)
            case Tags():
                session.write_tags(record.tags, context)
            case Alert():
                session.alert(record, context)

    def _warn_of_ignored(self, media: Media) -> None:
        known = self.media_options
        for option in () if known is None else media.extra.keys() - known.get(media.kind, ()):
            what = _PLURALS.get(media.kind, media.kind)
            message = f"{self.tracker} shows {what} without {option!r}, which is not logged"
            self.warner.warn(f"{media.kind} {option}", message)

    def log_console(self, text: str, stream: str) -> None:
        with self.writing() as session:
            session.write_console(text, stream, self.context)

    def rewind(self, step: int) -> int | None:
        """Take back earlier data of later steps, if there is an option ``rewind`` and it is set."""
        if "rewind" not in self.options.names():
            return super().rewind(step)
        if not self.options["rewind"] or self.run_info is None:
            self.warn_of_rewind(step, f"; with {type(self).__name__}(rewind=True) a Run deletes it")
            return None
        with self.writing() as session:
            first: int | None = session.rewind(step, self.context)
            return first

    def warn_of_rewind(self, step: int, reason: str) -> None:
        """Warn once that the tracker keeps what a rewind superseded."""
        kept = f"of the steps after {step}, {self.tracker} keeps what was logged before the run was rewound"
        self.warner.warn("rewind", kept + reason)

    def download_checkpoint(self, alias: str = "best", directory: str | os.PathLike[str] | None = None) -> str:
        """Download the checkpoint with an alias, and return the path of the copy.

        Args:
            alias: ``best``, ``latest``, or an alias given to `log_checkpoint`.
            directory: the directory for the copy; a new temporary directory by default.

        Raises:
            LookupError: no checkpoint of the run has this alias.
        """
        self.note_use()
        target = Path(tempfile.mkdtemp(prefix="rankzero-") if directory is None else directory).resolve()
        target.mkdir(parents=True, exist_ok=True)
        with self.translated():
            return str(self.session.read_checkpoint(alias, target))

    @property
    def media_store(self) -> MediaStore:
        if self.run_info is not None:
            return super().media_store
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=f"rankzero-{self.sdk}-")
        return MediaStore(Path(self._scratch.name), self.warner)

    def _clear_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None


def plain_rows(media: Media, keep: Callable[[MediaFile, int, int], Any]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of a table as JSON values.

    Args:
        media: the table, or a text.
        keep: is given each picture among the cells, with its row and column, and returns what to write instead.
    """
    columns, rows = media.table()

    def plain(cell: Any, row: int, column: int) -> Any:
        if isinstance(cell, MediaFile) or is_picture(cell):
            return keep(Media("image", media.key, [cell], open_store=media.open_store).files()[0], row, column)
        return to_jsonable(cell)

    return columns, [[plain(cell, row, column) for column, cell in enumerate(cells)] for row, cells in enumerate(rows)]


def _said_once(what: str, error: Exception) -> str:
    """Return the message of an error after ``what``, which `TrackerLogger.translated` has put there already."""
    text = str(error)
    return text if text.startswith(what) else f"{what}: {text}"
