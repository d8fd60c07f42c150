"""`Logger`, the base class of all loggers.

Only ``name``, ``version``, ``log_metrics`` and ``log_hyperparams`` must be written. Every other verb has a fallback
here that keeps the data: a table becomes a CSV file, a figure an image file, and a file goes to ``log_artifact``.

What an author cannot forget, because `Logger` adds it to every subclass:

- each verb does nothing on other ranks than zero, and ``experiment`` is a `DummyExperiment` there;
- ``close()`` closes once, however often it is called;
- ``save()``, ``finalize()`` and ``close()`` first log what `Logger.agg_and_log_metrics` has buffered;
- ``finalize()`` first logs the checkpoints that `Logger.log_model` asks for.
"""

from __future__ import annotations

import functools
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rankzero.events.run_info import LogContext, MetricsRow, RunInfo, Status
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


def _guard(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def guarded(self: Logger, *args: Any, **kwargs: Any) -> Any:
        if not is_rank_zero():
            return None
        if name in _ENDINGS:
            self._log_aggregated()
            if name == "finalize":
                self._log_saved_at_last()
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

    A Logger used directly, without a Run, is synchronous. Under ``rankzero.start()`` a courier calls it, in another
    process by default; it is made there again with the arguments that its constructor got here.

    Args of a subclass's constructor are its own. What they leave open (project, name, run id) comes from `attach`.
    """

    secret_options: ClassVar[frozenset[str]] = frozenset()
    """Constructor arguments that must never be written to disk."""

    supports_join: ClassVar[bool] = False
    """Whether a second process may use `experiment` while a courier delivers to the same run.

    There the logger is attached and nothing is logged with it; it is closed when the run ends.
    """

    unpicklable: ClassVar[frozenset[str]] = frozenset()
    """Constructor arguments that copies are made without, such as an open run of the SDK."""

    batch_bytes: ClassVar[int] = 1 << 18
    """About how much of the journal, in bytes, is handed over before a `flush`: more for a tracker that is slow to
    acknowledge."""

    finalize_acknowledges: ClassVar[bool] = False
    """Whether `finalize` too returns only when the tracker has everything: then no `flush` comes right before it."""

    counts_lines: ClassVar[bool] = False
    """Whether the logger leaves out lines of the journal that it has by its own count.

    An event that the tracker refused, and that is retried after later ones, then comes without its line.
    """

    captures: frozenset[str] = frozenset()
    """What a Run is to record for this logger beyond what is logged: ``console``, what the training process prints.

    An instance may set its own.
    """

    log_model: bool | Literal["all"] | None = None
    """What becomes of the files that a ModelCheckpoint saves; `log_checkpoint` has no need of it.

    - False: nothing.
    - ``"all"``: each is logged when it is saved.
    - True: those that are left are logged at the end.
    - None: each is logged under a Run, none in direct use.
    """

    group_separator: ClassVar[str] = "/"
    save_dir: Any = None
    """Where the logger writes on this machine; a subclass may set it or make it a property."""

    run_info: RunInfo | None = None
    """The run that `attach` told; None for a logger that is used directly."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _guard_class(cls, [name for name, member in vars(cls).items() if name in VERBS and callable(member)])
        lightning.watch()

    def __new__(cls, *args: Any, **kwargs: Any) -> Logger:
        # State lives here, so that a subclass need not call super().__init__().
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
        """The SDK's own object; a `DummyExperiment` on other ranks and for loggers that have none."""
        return DummyExperiment()

    # Delivery

    def attach(self, run: RunInfo) -> None:
        """Say which run the events to come belong to. Called before any verb, never for direct use.

        Opening may be put off to the first verb. It must be idempotent: given the same ``run.id``, a second process
        continues the same run in the tracker.
        """
        self.run_info = run

    def watermark(self) -> int | None:
        """Return how many lines of the journal the tracker holds for sure, None if it cannot tell.

        Asked after `attach`. A number overrides the courier's saved position in both directions: for trackers whose
        SDK says "done" when nothing has arrived, and for those that can make delivery exactly once.
        """
        return None

    def flush(self) -> None:
        """Return only when the tracker has acknowledged everything handed over so far; raise otherwise.

        Raise `TrackerUnavailableError` for what a retry can mend, `RejectedError` for what none can,
        `PossiblyRejectedError` if that is not certain, and `AccessError` where a person must act first: the key is
        wrong, the project does not exist.
        """

    def how_to_view(self) -> str | None:
        """Return how a person looks at the run: a URL, or a command to type; None if there is nothing to look at.

        One line. Asked while the logger is open, after a `flush`; answer from what is known, without a request.
        """
        return None

    def check_login(self) -> None:
        """Raise `ConfigError` if the tracker does not accept the user, or the user is not logged in.

        Asked by `rankzero.start` in the training process before anything is written, unless nobody is to deliver, and
        by ``rankzero sync`` and ``rankzero deliver``. A project or server that does not exist may be refused, too.
        It may take one request, of a few seconds at most. A tracker that does not answer is no reason to raise.
        """

    def resolved_options(self) -> dict[str, Any]:
        """Return constructor arguments that were not given and that the environment decides, no secrets among them.

        They are kept with the run, so that it goes to the same place when it is delivered from another machine.
        """
        return {}

    @property
    def is_offline(self) -> bool:
        """Whether what is logged stays on this machine for now, as the user asked of the tracker's SDK."""
        return False

    @property
    def is_disabled(self) -> bool:
        """Whether the user told the tracker's SDK to do nothing: what is logged is in the journal only."""
        return False

    def go_online(self) -> None:
        """Deliver to the tracker itself, whatever the constructor was told.

        Called before `attach`, when ``rankzero sync`` delivers what an offline logger has kept on this machine.
        """

    @property
    def context(self) -> LogContext:
        """When the event that is being logged took place: now, unless a courier delivers it later."""
        return self._context or LogContext(time.time())

    @contextmanager
    def at(self, context: LogContext) -> Iterator[None]:
        """Set `context` for the verbs called inside the ``with`` block."""
        self._context = context
        try:
            yield
        finally:
            self._context = None

    # Metrics, whose `log_metrics` a plugin must write, and hyperparameters

    @abstractmethod
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log hyperparameters; repeated calls merge. May take ``metrics``, initial values to show beside them."""

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        """Log many rows, in order, each with its own time. Override it where the tracker takes many at once."""
        for row in rows:
            with self.at(row.context):
                self.log_metrics(metrics=row.values, step=row.step)

    def log_record(self, record: Record) -> None:
        """Log what one of the verbs was given; the data of media are kept as files, see `keep_file`.

        Each verb that a subclass does not write calls this one. Override it to write several in one place, and call
        ``super().log_record(record)`` for what the tracker has no place for.
        """
        match record:
            case Media(kind="text"):
                columns, rows = record.table()
                self.log_table(record.key, columns, rows, step=record.step)
            case Media(kind="graph", items=model) if not isinstance(model, MediaFile):
                pass  # frameworks log it of their own accord
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
                message = f"{self._kind} has no notion of define_metric; {record.name!r} shows its last value"
                self.warner.warn("define", message)
            case Tags():
                tags = ", ".join(record.tags)
                self.warner.warn("tags", f"{self._kind} has no tags; those of the run stay in its journal: {tags}")
            case Alert():
                message = f"{record.title}: {record.text}" if record.text else record.title
                self.warner.warn("alert", f"{self._kind} sends no alerts; they stay in the run's journal: {message}")

    def keep_file(self, key: str, file: MediaFile, kind: str, step: int | None) -> None:
        """Keep a file of media that the tracker has no place for: as an artifact, unless a subclass knows better."""
        metadata = {"step": step, "caption": file.caption}
        given = {name: value for name, value in metadata.items() if value is not None}
        self.log_artifact(self.media_store.directory / file.path, name=key, type=kind, metadata=given)

    @property
    def media_store(self) -> MediaStore:
        """Where the files of media are made: in the run's directory, or else in that of the logger."""
        return MediaStore(Path(self.run_info.dir if self.run_info else self.log_dir or self.save_dir or "."))

    def as_files(
        self, kind: str, media: Sequence[Any], caption: Sequence[str] | None = None, **encoding: Any
    ) -> list[MediaFile]:
        """Return media as files with absolute paths, and log nothing: for verbs that hand files to an SDK.

        Args:
            kind: ``image``, ``audio``, ``video`` or ``figure``.
            media: what the verb was given, one or a list. Under a Run these are files already, and are returned as
                such; in direct use they may be paths, arrays, tensors or an SDK's objects, and are written to a file
                each.
            caption: a text for each.
            **encoding: ``sample_rate`` of arrays that are sounds, ``fps`` of those that are videos.
        """
        return Media(kind, "", media, caption, encoding=encoding, open_store=lambda: self.media_store).files()

    def log_console(self, text: str, stream: str) -> None:
        """Log lines that the training process printed; called only for loggers that want ``console``.

        Args:
            text: the lines, with a newline between them and none at the end.
            stream: ``stdout`` or ``stderr``.
        """

    def watch(self, model: Any, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True) -> None:
        """Log the model's gradients and parameters as training goes on. A Run does this for every logger."""
        self.warner.warn("watch", f"{self._kind} cannot watch a model by itself; use rankzero.start() and run.watch()")

    def unwatch(self, model: Any = None) -> None:
        """End `watch`."""

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Log what a ModelCheckpoint has just saved, or note to do so at the end: see `log_model`.

        Called before the files that are superseded are deleted.
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
        """Write out what is buffered; cheap, for frameworks call it after every step."""

    def finalize(self, status: Status) -> None:
        """Note how the run ended. Frameworks may log on after it; `close` is the end."""
        self.save()

    def close(self) -> None:
        """Release everything; a verb called later opens the same run again."""

    def _log_saved_at_last(self) -> None:
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
        """Note that the logger is used again after `close`; the verbs and `experiment` do so of their own accord."""
        self._closed = False

    def numbers_and_others(self, metrics: Mapping[str, Any]) -> tuple[dict[str, Number], dict[str, Any]]:
        """Return those of nested ``metrics`` that are numbers, as such, and what else there is; None is warned of."""
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
    except ReferenceError:  # a weak proxy of what is gone
        return False
