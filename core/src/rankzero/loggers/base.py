"""`Logger`, the base class of all loggers.

A subclass must implement ``name``, ``version``, ``log_metrics`` and ``log_hyperparams``. Every other verb has a
fallback that keeps the data: a table becomes a CSV file, a figure an image file, and a file goes to ``log_artifact``.

`Logger` adds to every subclass:

- each verb does nothing on other ranks than zero, and ``experiment`` is a `DummyExperiment` there;
- ``close()`` is idempotent;
- ``save()``, ``finalize()`` and ``close()`` first log the metrics that `Logger.agg_and_log_metrics` has buffered;
- ``finalize()`` first logs the checkpoints that `Logger.log_model` selects.
"""

from __future__ import annotations

import functools
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rankzero.events.run_info import LogContext, MetricsRow, RunInfo, Status, TrackedMetrics
from rankzero.events.structs import Alert, Artifact, Checkpoint, DefineMetric, Tags
from rankzero.loggers import lightning
from rankzero.loggers.aggregate import Reduce, StepAggregator, mean
from rankzero.loggers.experiment import DummyExperiment
from rankzero.loggers.model_checkpoint import LATE_TIMEOUT, SavedCheckpoint, SavedCheckpoints
from rankzero.loggers.verbs import SHARED_VERBS, Record, Verbs
from rankzero.media.record import Media
from rankzero.media.store import MediaFile, MediaStore
from rankzero.messages import OnceWarner
from rankzero.rank import is_rank_zero, rank_zero_warn_user
from rankzero.values import Number, flatten, to_number

if TYPE_CHECKING:
    from argparse import Namespace


VERBS = (SHARED_VERBS - {"update_agg_funcs"}) | {
    "log_metrics",
    "log_metrics_batch",
    "log_hyperparams",
    "log_console",
    "rewind",
    "watch",
    "unwatch",
    "after_save_checkpoint",
    "attach",
    "save",
    "flush",
    "finalize",
    "close",
}
"""The methods that do nothing on other ranks than zero."""

_ENDINGS = frozenset(("save", "finalize", "close"))
_OPENING = VERBS - _ENDINGS - {"flush"}


_FILE_VERBS = frozenset(["log_record", "log_artifact", "log_checkpoint"])


def _guard(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def guarded(self: Logger, *args: Any, **kwargs: Any) -> Any:
        if not is_rank_zero():
            return None
        if name in _ENDINGS:
            self._log_aggregated()
            if name == "finalize":
                self._log_final_checkpoints()
        elif name in _OPENING:
            self.note_use()
        return self._close_once(verb) if name == "close" else verb(self, *args, **kwargs)

    return guarded


def _guard_class(cls: type[Logger], verbs: Iterable[str]) -> None:
    for name in verbs:
        setattr(cls, name, _guard(name, getattr(cls, name)))
    experiment = vars(cls).get("experiment")
    if isinstance(experiment, property) and experiment.fget is not None:
        getter = experiment.fget

        def guarded(self: Logger) -> Any:
            if not is_rank_zero():
                return DummyExperiment()
            self.note_use()
            return getter(self)

        cls.experiment = property(functools.wraps(getter)(guarded))  # type: ignore[assignment]


class Logger(Verbs):
    """Writes to one tracker with its SDK.

    A Logger used directly, without a Run, is synchronous. Under ``rankzero.start()`` a courier calls it, by default in
    another process, where it is made again with the same arguments.

    A subclass defines the arguments of its constructor. Values that the user does not set (project, name, run id) come
    from `attach`.
    """

    secret_options: ClassVar[frozenset[str]] = frozenset()
    """Constructor arguments that must never be written to disk."""

    supports_join: ClassVar[bool] = False
    """Whether a second process may use `experiment` while a courier delivers to the same run.

    In the second process the logger is attached, logs nothing, and is closed when the run ends.
    """

    unpicklable: ClassVar[frozenset[str]] = frozenset()
    """Constructor arguments that are not passed to copies, such as an open run of the SDK."""

    batch_bytes: ClassVar[int] = 1 << 18
    """The approximate number of bytes of the journal between two calls of `flush`: higher for a tracker that
    acknowledges slowly."""

    finalize_acknowledges: ClassVar[bool] = False
    """Whether `finalize` returns only when the tracker has everything; then no `flush` precedes it."""

    counts_lines: ClassVar[bool] = False
    """Whether the logger counts lines of the journal, and skips those that the tracker has.

    An event that was rejected, and is retried after later ones, then has no line number.
    """

    captures: frozenset[str] = frozenset()
    """What this logger gets in addition to logged data. An instance may set its own.

    - ``console``: the output of the training process, which a Run then captures.
    - ``rewind``: calls of `rewind`, which the logger overrides.
    """

    keeps_files: ClassVar[bool] = False
    """Whether the tracker keeps artifacts and checkpoints; otherwise these stay on this machine.

    By default whether the class overrides `log_record`, `log_artifact` or `log_checkpoint`.
    """

    log_model: bool | Literal["all"] | None = None
    """Which checkpoints of a ModelCheckpoint are logged; does not affect `log_checkpoint`.

    - False: none.
    - ``"all"``: each one when it is saved.
    - True: the final ones, at the end.
    - None: each one under a Run, none in direct use.
    """

    group_separator: ClassVar[str] = "/"
    save_dir: Any = None
    """Where the logger writes on this machine; a subclass may set it or make it a property."""
    writes_only_files: ClassVar[bool] = False
    """Whether the logger writes to its option ``save_dir`` and nowhere else: ``rankzero export --format`` takes it."""

    run_info: RunInfo | None = None
    """The run given to `attach`; None for a logger that is used directly."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "keeps_files" not in vars(cls):
            cls.keeps_files = cls.keeps_files or not _FILE_VERBS.isdisjoint(vars(cls))
        _guard_class(cls, [name for name, member in vars(cls).items() if name in VERBS and callable(member)])
        lightning.watch()

    def __new__(cls, *args: Any, **kwargs: Any) -> Logger:
        # The state is set here, so that a subclass need not call super().__init__().
        self = super().__new__(cls)
        self._constructor = (args, kwargs)
        self._aggregator = StepAggregator()
        self._context = None
        self._closing = self._closed = False
        self.warner = OnceWarner(rank_zero_warn_user)
        self._checkpoint_callbacks = []
        self._saved_checkpoints = SavedCheckpoints()
        return self

    def __getstate__(self) -> dict[str, Any]:
        args, options = self._constructor
        kept = {name: value for name, value in options.items() if name not in self.unpicklable}
        return {**self.__dict__, "_constructor": (args, kept), "_checkpoint_callbacks": []}  # weak proxies

    _constructor: tuple[tuple[Any, ...], dict[str, Any]]
    _context: LogContext | None
    _closing: bool
    _closed: bool
    warner: OnceWarner
    """Warns the user of each topic once, on rank zero."""
    _checkpoint_callbacks: list[Any]
    _saved_checkpoints: SavedCheckpoints

    def __init__(self, agg_key_funcs: Mapping[str, Any] | None = None, agg_default_func: Reduce = mean) -> None:
        self.update_agg_funcs(agg_key_funcs, agg_default_func)

    # Identity

    @property
    @abstractmethod
    def name(self) -> str | None:
        """The run's or project's name; part of the path of checkpoints, so equal on all ranks."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """The run's version; part of the path of checkpoints, so equal on all ranks."""

    @property
    def root_dir(self) -> str | None:
        """The directory of all versions of this name."""
        return None

    @property
    def log_dir(self) -> str | None:
        """The directory of this version."""
        return None

    @property
    def experiment(self) -> Any:
        """The SDK's object; a `DummyExperiment` on other ranks and for loggers that have none."""
        return DummyExperiment()

    # Delivery

    def attach(self, run: RunInfo) -> None:
        """Set the run of the following events. Called before any verb, never in direct use.

        The run in the tracker may be opened later, with the first verb. This must be idempotent: with the same
        ``run.id``, a second process continues the same run in the tracker.
        """
        self.run_info = run

    def watermark(self) -> int | None:
        """Return the number of lines of the journal that the tracker certainly has; None if it is unknown.

        Called after `attach`. A number replaces the courier's saved position, also if it is smaller: for trackers whose
        SDK acknowledges data that has not arrived, and for those that can deliver exactly once.
        """
        return None

    def flush(self) -> None:
        """Return only when the tracker has acknowledged everything logged so far; raise otherwise.

        Raise `TrackerUnavailableError` if a retry may succeed, `RejectedError` if it cannot, `PossiblyRejectedError` if
        that is not certain, and `AccessError` if a person must act first: the key is wrong, the project does not exist.
        """

    def read_metrics(self, names: Collection[str]) -> TrackedMetrics:
        """Read metrics of the attached run back from the tracker: for ``rankzero sync --verify``.

        Called instead of any verb.

        Args:
            names: the names as they were logged: without the prefix, for example.

        Returns:
            Name → (step, value) of each of its points in the tracker. A metric that is not there may be left out; None
            is for one that cannot be compared.

        Raises:
            NotImplementedError: the logger cannot do this.
        """
        raise NotImplementedError

    @property
    def address(self) -> str | None:
        """The address of the tracker's server or database, for messages; None if there is none."""
        return None

    def how_to_view(self) -> str | None:
        """Return how to view the run: a URL or a shell command in one line; None if the run cannot be viewed.

        Called while the logger is open, after a `flush`; must not send a request.
        """
        return None

    def check_login(self) -> None:
        """Raise `ConfigError` if the tracker rejects the login, the user is not logged in, or no file can be written.

        Called by `rankzero.start` in the training process before anything is written, unless ``delivery`` is ``off``,
        and by ``rankzero sync`` and ``rankzero deliver``. It may also check that the project and the server exist, with
        one request of a few seconds at most. It must not raise if the tracker does not answer.
        """

    def resolved_options(self) -> dict[str, Any]:
        """Return the constructor arguments that the environment sets, without secrets.

        They are recorded with the run, so that a later delivery from another machine has the same destination.
        """
        return {}

    @property
    def is_offline(self) -> bool:
        """Whether the user set the SDK offline, so that logged data stays on this machine."""
        return False

    @property
    def is_disabled(self) -> bool:
        """Whether the user disabled the SDK, so that logged data is only in the journal."""
        return False

    def go_online(self) -> None:
        """Switch to online delivery, also if the options set the logger offline.

        Called before `attach`, when ``rankzero sync`` delivers a run that was logged offline.
        """

    @property
    def context(self) -> LogContext:
        """The time of the event that is being logged: now, unless a courier delivers it later."""
        return self._context or LogContext(time.time())

    @contextmanager
    def at(self, context: LogContext) -> Iterator[None]:
        """Set `context` for the verbs called inside the ``with`` block."""
        self._context = context
        try:
            yield
        finally:
            self._context = None

    # Metrics and hyperparameters; a subclass must implement `log_metrics`

    @abstractmethod
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log hyperparameters; repeated calls merge. May take ``metrics``, initial values to show beside them."""

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        """Log many rows, in order, each with its own time. Override it if the tracker accepts batches."""
        for row in rows:
            with self.at(row.context):
                self.log_metrics(metrics=row.values, step=row.step)

    def log_record(self, record: Record) -> None:
        """Log the record of a verb; by default, media are kept as files, see `keep_file`.

        Each verb that a subclass does not override calls this method. Override it to handle several verbs, and call
        ``super().log_record(record)`` for records that the tracker does not support.
        """
        match record:
            case Media(kind="text"):
                columns, rows = record.table()
                self.log_table(record.key, columns, rows, step=record.step)
            case Media(kind="graph", items=model) if not isinstance(model, MediaFile):
                pass  # frameworks call log_graph() automatically
            case Media():
                for file in record.files():
                    self.keep_file(record.key, file, record.kind, record.step)
            case Artifact():
                self.warner.warn(
                    "files", f"{self._kind} cannot hold files; they stay on this machine, e.g. {record.path}"
                )
            case Checkpoint():
                details = {"score": record.score, "step": record.step, **record.metadata}
                name = Path(record.path).name
                self.log_artifact(record.path, name=name, type="model", aliases=record.aliases, metadata=details)
            case DefineMetric():
                message = f"{self._kind} does not support define_metric; {record.name!r} shows its last value"
                self.warner.warn("define", message)
            case Tags():
                tags = ", ".join(record.tags)
                self.warner.warn("tags", f"{self._kind} has no tags; those of the run stay in its journal: {tags}")
            case Alert():
                message = f"{record.title}: {record.text}" if record.text else record.title
                self.warner.warn("alert", f"{self._kind} sends no alerts; they stay in the run's journal: {message}")

    def keep_file(self, key: str, file: MediaFile, kind: str, step: int | None) -> None:
        """Keep a file of media that the tracker does not support; by default as an artifact."""
        metadata = {"step": step, "caption": file.caption}
        given = {name: value for name, value in metadata.items() if value is not None}
        self.log_artifact(self.media_store.directory / file.path, name=key, type=kind, metadata=given)

    @property
    def media_store(self) -> MediaStore:
        """The store for files of media: in the run's directory, or in direct use in that of the logger."""
        directory = self.run_info.dir if self.run_info else self.log_dir or self.save_dir or "."
        return MediaStore(Path(directory), self.warner)

    def as_files(
        self, kind: str, media: Sequence[Any], caption: Sequence[str] | None = None, **encoding: Any
    ) -> list[MediaFile]:
        """Return media as files with absolute paths, without logging them: for verbs that pass files to an SDK.

        Args:
            kind: ``image``, ``audio``, ``video`` or ``figure``.
            media: the argument of the verb, one item or a list. Under a Run the items are files, and are returned
                unchanged; in direct use they may be paths, arrays, tensors or an SDK's objects, and each is written to
                a file.
            caption: a text for each item.
            **encoding: ``sample_rate`` for audio, ``fps`` for video.
        """
        return Media(kind, "", media, caption, encoding=encoding, open_store=lambda: self.media_store).files()

    def log_console(self, text: str, stream: str) -> None:
        """Log lines that the training process printed; called only for loggers that capture ``console``.

        Args:
            text: the lines, with a newline between them and none at the end.
            stream: ``stdout`` or ``stderr``.
        """

    def rewind(self, step: int) -> int | None:
        """Go back to a step: earlier data of later steps is superseded. Must be idempotent.

        A logger whose tracker can delete or hide points overrides it, and has ``rewind`` in `captures`. Metrics, media,
        tables, texts and histograms of later steps are superseded; files stay.

        Returns:
            None if the tracker still has everything else. The line of the journal from which on the courier logs
            metrics and media again, except for superseded ones: for a tracker that can only delete everything after a
            point. 0 if the courier must deliver the whole journal again: for a tracker that can delete only runs, so
            that the logger continues with a new one. It creates the new run with the next event, when the courier has
            saved its position.
        """
        self.warner.warn(
            "rewind",
            f"{self._kind} cannot take back what it has: of the steps after {step}, what was logged before the run "
            "was rewound stays beside what is logged again",
        )
        return None

    def watch(self, model: Any, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True) -> None:
        """Log the model's gradients and parameters during training. A Run does this for every logger."""
        self.warner.warn("watch", f"{self._kind} cannot watch a model by itself; use rankzero.start() and run.watch()")

    def unwatch(self, model: Any = None) -> None:
        """End `watch`."""

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Log the checkpoints that a ModelCheckpoint has just saved, or remember them for the end: see `log_model`.

        Called before the superseded files are deleted.
        """
        if self.log_model == "all" or (self.log_model and getattr(checkpoint_callback, "save_top_k", None) == -1):
            self._log_saved(self._saved_checkpoints.after_save(checkpoint_callback))
        elif self.log_model and not any(_is_same(each, checkpoint_callback) for each in self._checkpoint_callbacks):
            self._checkpoint_callbacks.append(checkpoint_callback)

    def _log_saved(self, checkpoints: Iterable[SavedCheckpoint]) -> None:
        for saved in checkpoints:
            self.log_checkpoint(saved.path, score=saved.score, aliases=saved.aliases, metadata=saved.metadata)

    # Endings

    def save(self) -> None:
        """Write buffered data; must be fast, because frameworks call it after every step."""

    def finalize(self, status: Status) -> None:
        """Set the status of the run. Frameworks may continue to log afterwards; `close` ends the run."""
        self.save()

    def close(self) -> None:
        """Release all resources; a later verb opens the same run again."""

    def _log_final_checkpoints(self) -> None:
        while self._checkpoint_callbacks:
            self._log_saved(self._saved_checkpoints.left(self._checkpoint_callbacks.pop(0)))
        self._log_saved(self._saved_checkpoints.late(LATE_TIMEOUT))

    def _close_once(self, close: Callable[[Any], None]) -> None:
        if self._closed:
            return
        outermost = not self._closing  # a subclass's close() calls super().close()
        self._closing = True
        try:
            close(self)
        finally:
            self._closing = not outermost
        self._closed = outermost

    def note_use(self) -> None:
        """Record that the logger is used again after `close`; the verbs and `experiment` do so automatically."""
        self._closed = False

    def numbers_and_others(self, metrics: Mapping[str, Any]) -> tuple[dict[str, Number], dict[str, Any]]:
        """Split nested ``metrics`` into numbers and other values; warn of None."""
        numbers: dict[str, Number] = {}
        others: dict[str, Any] = {}
        for key, value in flatten(metrics):
            number = to_number(value)
            if number is not None:
                numbers[key] = number
            elif value is not None:
                others[key] = value
            else:
                self.warner.warn(f"None {key}", f"the metric {key!r} was None; there is nothing to log")
        return numbers, others

    @property
    def _kind(self) -> str:
        return type(self).__name__


_guard_class(Logger, VERBS)  # type: ignore[type-abstract]


def _is_same(callback: Any, other: Any) -> bool:
    try:
        return bool(callback == other)
    except ReferenceError:  # a weak proxy of a deleted object
        return False
