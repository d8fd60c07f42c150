"""`Run`, the object that a training loop logs to: each log method appends an event to the journal."""

from __future__ import annotations

import functools
import logging
import math
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec

import msgspec

from rankzero.capture.console import Capture
from rankzero.capture.device_values import DeviceCopy, DeviceRows
from rankzero.capture.model_watch import ModelWatch
from rankzero.capture.nodes import Measuring, measure_nodes
from rankzero.delivery.experiment import LiveExperiment
from rankzero.delivery.supervisor import Supervisor
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import (
    MEDIA_EVENTS,
    Alert,
    Artifact,
    Checkpoint,
    Console,
    DefineMetric,
    Event,
    Finish,
    Histogram,
    Metrics,
    Params,
    Rewind,
    Start,
    Status,
    encode,
    encode_lines,
)
from rankzero.journal.append import Journal
from rankzero.journal.rewinds import has_later_steps
from rankzero.loggers import lightning
from rankzero.loggers.aggregate import StepAggregator
from rankzero.loggers.experiment import DummyExperiment
from rankzero.loggers.model_checkpoint import LATE_TIMEOUT, SavedCheckpoint, SavedCheckpoints
from rankzero.loggers.summaries import GOALS, SUMMARIES
from rankzero.loggers.verbs import SHARED_VERBS, Record, Verbs
from rankzero.media.encoders import encode_raw
from rankzero.media.record import Media
from rankzero.media.store import MediaFile, MediaStore
from rankzero.messages import OnceWarner, describe, did_you_mean, name_in_rankzero, warn_user
from rankzero.plugins.registry import get_plugins
from rankzero.rank import is_rank_zero
from rankzero.run import endings, notebooks
from rankzero.run.identity import UNKNOWN, Announcement
from rankzero.run.snapshots import Snapshots, why_lost
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.writer_lock import WriterLock
from rankzero.secrets import mask_params, scrub
from rankzero.values import (
    Number,
    SplitMetrics,
    flatten,
    is_sharded,
    safe_isinstance,
    size_of,
    split_metrics,
    to_int,
    to_json_number,
    to_jsonable,
    to_number,
    to_text,
)

if TYPE_CHECKING:
    from argparse import Namespace

    from rankzero.recorder.recorder import Recorder

log = logging.getLogger("rankzero")
P = ParamSpec("P")

_ALERT_LEVELS = ("INFO", "WARN", "ERROR")
_LARGEST_INLINE_ARRAY = 1000
_DEVICE_TIMEOUT = 30.0
_FULL_DISK_TIMEOUT = 5.0  # seconds to retry lines that could not be written to the journal
_LONGEST_TIMEOUT = 1e9  # seconds
_LONGEST_ERROR = 2000  # characters
_STATUSES = ("success", "finished", "failed", "aborted", "killed", "crashed")
_LAST_LOOK = 0.1  # seconds to wait for checkpoints that a thread of the framework is still writing
_now = time.time


def _never_raises(verb: Callable[Concatenate[Run, P], None]) -> Callable[Concatenate[Run, P], None]:
    """Decorate a log method: it does nothing on other ranks than zero, and warns instead of raising."""

    @functools.wraps(verb)
    def guarded(self: Run, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._may_log():
            return
        try:
            verb(self, *args, **kwargs)
        except Exception as error:
            subject = repr(to_text(args[0])) if args and safe_isinstance(args[0], str) else "…"
            self._warner.warn(
                f"{verb.__name__} {subject} {type(error).__name__}",
                f"run.{verb.__name__}({subject}) could not be recorded: {describe(error)}",
            )

    return guarded


class Run(Verbs):
    """One training run; make it with `rankzero.start`.

    It has the verbs of `rankzero.Logger`. They never raise, never wait for a tracker, and do nothing on other ranks
    than zero. A Run can be pickled, and can log from forked and spawned child processes; only the process that started
    it ends it. It can be used as a logger of Lightning.
    """

    group_separator = "/"

    def __init__(self, info: RunInfo | Callable[[], RunInfo], *, is_active: bool) -> None:
        self._known_info = info
        self._is_active = is_active
        self._journal: Journal | None = None
        self._filter: Callable[[Event], Event | None] | None = None
        self._lock: WriterLock | None = None
        self._supervisor: Supervisor | None = None
        self._announcement: Announcement | None = None
        self._owner_pid = 0
        self._keys: tuple[str, ...] = ()
        self._console: Capture | None = None
        self._measuring: list[Measuring] = []
        self._experiment: LiveExperiment | None = None
        self._closing: list[Callable[[str], object]] = []
        self._loop_step: Callable[[], int | None] | None = None
        self._step = -1
        self._status = "success"
        self._error = ""
        self._is_ending = False
        self._is_finished = False
        self._waits_at_exit = False
        self._is_silenced = False
        self._elsewhere: Callable[[], RunInfo] | None = None
        self.finish_timeout = 60.0
        """For how many seconds `finish` waits for the delivery by default."""
        self.resumed = False
        """Whether the run existed before this process started it."""
        self._reset()

    def _reset(self) -> None:
        self._is_plain = True  # until a value is logged that is not a Python number
        self._next_tick = 0.0
        self._device_rows = DeviceRows()
        self._aggregator = StepAggregator()
        self._saved_checkpoints = SavedCheckpoints()
        self._watches: dict[int, ModelWatch] = {}
        self._warner = OnceWarner()

    @property
    def _info(self) -> RunInfo:
        if self._announcement is not None and self._may_log():
            self._announcement.publish()  # other ranks may wait for it, and the next log call may be late
        info = self._known_info
        if not isinstance(info, RunInfo):
            info = info()
            if info.id != UNKNOWN:
                self._known_info = info
        return info

    # Identity

    @property
    def id(self) -> str:
        """The run's identity in every tracker: unique, and the same on all ranks."""
        return self._info.id

    @property
    def name(self) -> str:
        """A readable name, the same on all ranks."""
        return self._info.name

    @property
    def project(self) -> str:
        """The project of the run."""
        return self._info.project

    @property
    def version(self) -> str:
        """The run's id, under the name that Lightning asks for."""
        return self.id

    @property
    def dir(self) -> Path:
        """The run's directory; on other ranks it need not exist."""
        return Path(self._info.dir)

    @property
    def log_dir(self) -> str:
        """The run's directory."""
        return self._info.dir

    @property
    def save_dir(self) -> str:
        """The run's directory; Lightning saves checkpoints in its ``NAME/ID/checkpoints``."""
        return self._info.dir

    @property
    def root_dir(self) -> str:
        """The directory of the project's runs."""
        return str(self.dir.parent)

    @property
    def loggers(self) -> tuple[str, ...]:
        """The keys of the loggers that get this run."""
        return self._keys

    @property
    def step(self) -> int:
        """The last step of a metric, -1 before the first."""
        return self._step

    @property
    def is_active(self) -> bool:
        """Whether log calls are recorded: on rank zero, unless logging is disabled."""
        return self._is_active

    @property
    def experiment(self) -> Any:
        """The SDK's object of the first logger; reading this property costs nothing.

        With ``delivery="thread"`` it is the object that the courier uses. With a courier process, its first use joins
        the run from this process if the tracker allows it, and raises `ExperimentUnavailableError` otherwise.
        """
        if not self._is_active or self._experiment is None:
            return DummyExperiment()
        return self._experiment.get()

    def __repr__(self) -> str:
        info = self._known_info  # frameworks print their arguments, and on other ranks reading the id may wait
        return (
            f"<rankzero.Run {info.name} ({info.id}) in {info.dir}>" if isinstance(info, RunInfo) else "<rankzero.Run>"
        )

    if not TYPE_CHECKING:  # a type checker reports a wrong name itself

        def __getattr__(self, name: str) -> Any:
            known = (each for each in dir(type(self)) if not each.startswith("_"))
            raise AttributeError(
                f"a Run has no attribute {name!r}.{name_in_rankzero(name, known)}", name=name, obj=self
            )

    def _repr_html_(self) -> str:
        info = self._known_info
        if not isinstance(info, RunInfo):
            return notebooks.as_html("a run of another rank", "", UNKNOWN, "", "logged by rank zero", {})
        status = (self._status if self._is_finished else "running") if self._is_active else "not logged by this process"
        views = self._supervisor.views() if self._supervisor is not None else {}
        return notebooks.as_html(info.name, info.project, info.id, info.dir, status, views)

    # Metrics

    def log_metrics(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        *,
        epoch: int | None = None,
        stage: str | None = None,
    ) -> None:
        """Log numbers at a step, in microseconds.

        Args:
            metrics: name → number: Python and numpy numbers, tensors and arrays of one element of any dtype and
                device, Decimal, bool. NaN and ±Inf are kept. Nested mappings are flattened with ``/``. Other values are
                kept as text, with a warning. The call does not wait for values on a GPU.
            step: the step; by default that of the recorder whose loop is running, else one more than the last one.
            epoch: the epoch, if known.
            stage: ``train``, ``validate`` or ``test``, if known.
        """
        if not self._is_active:
            return
        now = _now()
        if now > self._next_tick and not self._tick(now):
            return
        if step is None:
            step = self._step + 1 if self._loop_step is None else self._next_step()
        line = None
        try:
            # Encoding fails for tensors, so none is summed below: for a sharded one that would be a collective.
            encoded = encode_lines([Metrics(now, step, metrics, epoch, stage)]) if self._is_plain else None  # type: ignore[arg-type]
            # The sum is a finite int or float only if all values are.
            total = sum(metrics.values()) if encoded is not None else None
            if (
                (total.__class__ is float or total.__class__ is int)
                and total - total == 0
                and step.__class__ is int
                and (epoch is None or epoch.__class__ is int)
                and (stage is None or stage.__class__ is str)
            ):
                line = encoded
        except Exception:
            pass
        if line is None:
            self._log_any_metrics(now, metrics, step, epoch, stage)
        else:
            self._step = step
            self._append(line)

    def _log_any_metrics(self, now: float, metrics: Mapping[str, Any], step: Any, epoch: Any, stage: Any) -> None:
        whole = to_int(step)
        if whole is None or whole != to_number(step):
            used = self._step + 1 if whole is None else whole
            given = type(step).__name__
            message = f"a step of run.log_metrics() is not a whole number, or too large ({given}): {used} is logged"
            self._warner.warn("step", message)
        self._step = step = self._step + 1 if whole is None else whole
        if to_int(epoch) is not None and to_int(epoch) != to_number(epoch):
            self._warner.warn("epoch", "an epoch of run.log_metrics() is not a whole number: it is left out")
            epoch = None
        try:
            if not isinstance(metrics, Mapping):
                raise TypeError(f"metrics are a mapping from name to number, not {type(metrics).__name__}")
            named = None if stage is None else to_text(stage)
            self._log_split_metrics(now, split_metrics(metrics), step, to_int(epoch), named)
        except Exception as error:
            self._warner.warn(
                f"log_metrics {describe(error)}",
                f"run.log_metrics() at step {step} could not be recorded: {describe(error)}",
            )

    def _log_split_metrics(
        self, now: float, split: SplitMetrics, step: int, epoch: int | None, stage: str | None
    ) -> None:
        def write(from_device: Mapping[str, Number]) -> None:
            values = {key: to_json_number(number) for key, number in {**split.numbers, **from_device}.items()}
            if values:
                self._record(Metrics(now, step, values, epoch, stage))

        if split.on_device:
            self._is_plain = False  # summing tensors as above would launch a kernel for each
            self._device_rows.put(DeviceCopy(split.on_device), write)
        else:
            write({})
        for key in split.repeated:
            self._warner.warn(f"twice {key}", f"one call has several values for the metric {key!r}; the last is kept")
        for key, value in split.rest.items():
            try:
                self._log_other_value(key, value, step)
            except Exception as error:
                self._warner.warn(f"lost {key}", f"the metric {key!r} could not be recorded: {describe(error)}")

    def _log_other_value(self, key: str, value: Any, step: int) -> None:
        if value is None:
            self._warner.warn(f"None {key}", f"the metric {key!r} was None; there is nothing to record")
            return
        if is_sharded(value):
            self._warner.warn(
                f"spread {key}",
                f"the metric {key!r} is a DTensor that is sharded over the ranks, and is not recorded. Log "
                "value.full_tensor(), which all ranks must call",
            )
            return
        kept = "text"
        if (size_of(value) or 0) > _LARGEST_INLINE_ARRAY:
            kept = "an .npy file"
            self._record_file(self._media.put_bytes(encode_raw(value)), key, "array", {"step": step})
        else:
            self.log_text(key, ["value"], [[value]], step=step)
        self._warner.warn(
            f"not a number {key}",
            f"the metric {key!r} is not a single number but {type(value).__name__}; it is kept as {kept}. "
            "Log a number (loss.mean()), or use log_text or log_histogram.",
        )

    def recorder(
        self,
        *,
        log_every_n_steps: int = 50,
        accumulate_grad_batches: int = 1,
        sync_dist: bool = False,
        progress_bar: str | Literal[False] | None = "auto",
    ) -> Recorder:
        """Return a `Recorder` that logs to this run; the arguments are those of `Recorder`.

        Raises:
            RecorderError: an argument is invalid.
        """
        from rankzero.recorder.recorder import Recorder

        return Recorder(
            self,
            log_every_n_steps=log_every_n_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            sync_dist=sync_dist,
            progress_bar=progress_bar,
        )

    @_never_raises
    def rewind(self, step: int) -> None:
        """Go back to the step of the checkpoint from which training resumes; `step` is then this step.

        `rankzero.read_run` leaves out what was logged before at later steps, which the training logs again. Trackers
        that can take it back do so; the journal keeps it. If there are no later steps, the call does nothing.

        Args:
            step: the last step to keep; -1 keeps none.
        """
        last = to_int(step)
        if last is None or last != to_number(step):
            raise ValueError("the step is not a whole number")
        self._log_aggregated()
        if last < self._step or (self._journal is not None and has_later_steps(self._journal.path, last)):
            self._device_rows.drain(_DEVICE_TIMEOUT)  # rows that are written later would count as logged again
            self._record(Rewind(_now(), last))
            self._step = last
            log.info("run %s is rewound to step %d", self.name, last)

    def follow(self, loop_step: Callable[[], int | None]) -> None:
        """Log what has no step at the step that ``loop_step`` returns, unless that is None."""
        self._loop_step = loop_step

    def call_at_end(self, close: Callable[[str], object]) -> None:
        """Call ``close(status)`` when this process ends the run, before the end is recorded."""
        self._closing.append(close)

    # Other data

    @_never_raises
    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace | Any, metrics: Mapping[str, Any] | float | None = None
    ) -> None:
        """Log hyperparameters: a mapping, Namespace, dataclass or OmegaConf node; repeated calls merge.

        A text with the name of a secret (``api_key``, ``password``, …) is written as ``***``.

        Args:
            params: the hyperparameters, which may be nested.
            metrics: initial values to show beside them; a single number is ``hp_metric``.
        """
        values = to_jsonable(params if params is not None else {})
        if not isinstance(values, dict):
            raise TypeError(f"hyperparameters are a mapping, not {type(params).__name__}")
        initial = metrics if isinstance(metrics, Mapping) else {} if metrics is None else {"hp_metric": metrics}
        numbers = {key: to_number(value) for key, value in flatten(initial)}
        initial = {key: to_json_number(number) for key, number in numbers.items() if number is not None}
        self._record(Params(_now(), mask_params(values), initial))

    def log_record(self, record: Record) -> None:
        """Write the record of a verb to the journal, and its files to the run's directory."""
        match record:
            case Media():
                self._record(self._media_event(record))
            case Artifact():
                self._log_artifact(record)
            case Checkpoint():
                self._log_checkpoint(record)
            case Alert():
                self._record(msgspec.structs.replace(record, level=self._alert_level(record.level)))
            case DefineMetric():
                self._check_definition(record)
                self._record(record)
            case _:
                self._record(record)

    def _media_event(self, media: Media) -> Event:
        event = MEDIA_EVENTS[media.kind].of(media, _now(), self._at(media.step))
        if isinstance(event, Histogram) and event.values.non_finite:
            self._warner.warn(
                f"histogram {media.key}",
                f"{event.values.non_finite} values of the histogram {media.key!r} are NaN or infinite, and in no bin",
            )
        return event

    def _log_artifact(self, artifact: Artifact) -> None:
        source = _path(artifact.path)
        keep = self._snapshots.take if source.is_dir() else self._snapshots.store
        keep(source, self._recorder_of(artifact), at_once=self._is_not_owner())

    def _log_checkpoint(self, checkpoint: Checkpoint) -> None:
        try:
            path = _path(checkpoint.path)
            source, step = str(path.absolute()), self._at(checkpoint.step)
            event = msgspec.structs.replace(checkpoint, source=source, step=step)
            self._snapshots.take(
                path, self._recorder_of(event), may_change=not event.automatic, at_once=self._is_not_owner()
            )
        except Exception as error:  # logged each time, because a lost checkpoint is expensive
            log.error("THE CHECKPOINT IS NOT KEPT: %s", why_lost(checkpoint.path, error))

    def _alert_level(self, given: str) -> str:
        level = given.upper()  # given may be an enum of an SDK
        if level in _ALERT_LEVELS:
            return level
        self._warner.warn(
            f"level {given}", f"an alert's level must be one of {', '.join(_ALERT_LEVELS)}, not {given!r}"
        )
        return _ALERT_LEVELS[0]

    def _check_definition(self, definition: DefineMetric) -> None:
        goals = [] if definition.goal is None else [definition.goal]
        summaries = [] if definition.summary is None else definition.summary.split(",")
        for what, given, known in (("goal", goals, tuple(GOALS)), ("summary", summaries, SUMMARIES)):
            for each in map(str.strip, given):
                if each not in known:
                    message = (
                        f"define_metric({definition.name!r}): {what} must be one of {', '.join(known)}, not {each!r}."
                    )
                    self._warner.warn(message + did_you_mean(each, known))

    @property
    def media_store(self) -> MediaStore:
        """The store for files of media, in the run's directory."""
        return self._media

    @_never_raises
    def watch(self, model: Any, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True) -> None:
        """Log histograms of a torch module in every ``log_freq``-th forward pass in training mode.

        Args:
            model: the module.
            log: ``"gradients"``, ``"parameters"``, ``"all"`` or None.
            log_freq: the number of forward passes between two histograms.
            log_graph: also log the module's structure, once.
        """
        self.unwatch(model)
        self._watches[id(model)] = ModelWatch(model, log, log_freq, self.log_histogram)
        if log_graph:
            self.log_graph(model)

    def unwatch(self, model: Any = None) -> None:
        """Stop watching a model, by default all models."""
        for key in list(self._watches) if model is None else [id(model)]:
            watch = self._watches.pop(key, None)
            if watch is not None:
                watch.remove()

    @_never_raises
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Log the checkpoints that a ModelCheckpoint has just saved; it may delete the files directly afterwards.

        The time does not depend on the size or the number of the files: see `rankzero.run.snapshots.Snapshots`.
        """
        self._log_saved(self._saved_checkpoints.after_save(checkpoint_callback))

    def _log_saved(self, found: Iterable[SavedCheckpoint]) -> None:
        for saved in found:
            path = Path(saved.path)
            source, step, aliases = str(path.absolute()), self._at(saved.step), list(saved.aliases)
            event = Checkpoint(_now(), "", source, saved.score, step, aliases, saved.metadata, automatic=True)
            try:
                self._snapshots.take(
                    path, self._recorder_of(event), may_change=saved.may_change, at_once=self._is_not_owner(),
                    even_if_full=False,
                )  # fmt: skip
            except Exception as error:  # the next ones are still kept
                log.warning("the checkpoint %s could not be kept in the run's directory: %s", path, describe(error))

    def _is_not_owner(self) -> bool:
        """Return whether this process does not own the run, so that no `finish` waits for its threads."""
        return self._is_finished or os.getpid() != self._owner_pid

    def _recorder_of(self, event: Artifact | Checkpoint) -> Callable[[str], None]:
        """Return a function that records ``event`` with the path of its copied file."""
        was_finished = self._is_finished

        def record(path: str) -> None:
            kept = msgspec.structs.replace(event, path=path)
            if was_finished:
                self._record(kept)
            elif (filtered := kept if self._filter is None else self._filter(kept)) is not None:
                self._append(encode(filtered))  # `finish` has warned if the file was copied only after the end

        return record

    @_never_raises
    def _log_late_checkpoints(self, timeout: float) -> None:
        self._log_saved(self._saved_checkpoints.late(timeout))

    # Endings

    def save(self) -> None:
        """Do nothing, because everything is saved already. Frameworks call this after every step."""

    def finalize(self, status: str) -> None:
        """Set the status with which the run will end. Frameworks call this after each fit; the run stays open."""
        if self._is_active:
            try:
                self._status = to_text(status) if safe_isinstance(status, str) else str(status)
            except Exception as error:
                self._warner.warn("status", f"run.finalize(): the status is not a text: {describe(error)}")
            self._log_aggregated()
            self._log_late_checkpoints(LATE_TIMEOUT)
            self._record(Status(_now(), self._status))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the trackers have everything logged so far; return whether they do within ``timeout`` seconds.

        The default is the ``finish_timeout`` of `rankzero.start`, and its ``down_timeout`` for a tracker that is known
        to be unavailable.
        """
        if not self._is_active or self._journal is None:
            return True
        self._log_aggregated()
        self._log_late_checkpoints(0.0)
        deadline = time.monotonic() + self._seconds("flush", timeout)
        is_written = self._wait_for_threads(deadline)
        is_written = self._journal.flush(_until(deadline)) and is_written
        if self._supervisor is None:
            return is_written
        is_asked_for = timeout is not None
        return self._supervisor.wait(self._journal.size(), _until(deadline), even_if_down=is_asked_for) and is_written

    def finish(self, status: str | None = None, timeout: float | None = None) -> None:
        """End the run, and wait until the trackers have all of it, with a progress bar if that takes long.

        Wrong arguments cause a warning, and the run still ends: a number as the status is used as the timeout, any
        other status that is not a text is ignored.

        Args:
            status: ``success``, ``failed`` or ``aborted``; by default the last one of `finalize`.
            timeout: the total time in seconds. By default the ``finish_timeout`` of `rankzero.start`, and its
                ``down_timeout`` for a tracker that is known to be unavailable. A courier that needs longer continues in
                the background; a message says so, and names files that are not copied yet.
        """
        if not self._is_active:
            self._stop_measuring()  # of another node
        if self._is_finished or os.getpid() != self._owner_pid or not self._may_log():
            return
        assert self._journal is not None
        assert self._lock is not None
        status, timeout = self._end_arguments(status, timeout)
        seconds = self._seconds("finish", timeout)
        self.unwatch()
        self._call_at_end(status)
        self._log_aggregated()
        deadline = time.monotonic() + seconds
        self._log_late_checkpoints(min(seconds, _LAST_LOOK))
        try:
            self._wait_for_threads(deadline)
        except KeyboardInterrupt:
            log.warning("not waiting any longer until %s has written all data", self.name)
        if not self._is_ending:
            self._is_ending = True
            get_plugins().notify("rankzero_run_finished", run=self, status=status)
        if self._is_finished:  # by a hook, or by a SIGTERM meanwhile
            return
        endings.forget(self)
        if uncopied := self._snapshots.waiting():
            log.warning(
                "%s ends before these files are copied into its directory: %s; they are lost if the process ends "
                "before that too, and otherwise delivered only by: rankzero sync %s",
                self.name, ", ".join(uncopied), shlex.quote(str(self.dir)),
            )  # fmt: skip
        if self._console is not None:
            self._console.close()
        self._stop_measuring()
        self._status = status
        self._record(Finish(_now(), status, self._error))
        self._is_finished = True
        self._is_plain = False
        try:
            if not self._journal.flush(min(_until(deadline), _FULL_DISK_TIMEOUT)):
                self._journal.give_up()
        finally:
            self._lock.release()
        if self._experiment is not None:
            self._experiment.release(_until(deadline))
        if self._waits_at_exit:
            endings.wait_at_exit(self)
        else:
            self._finish_delivery(_until(deadline), even_if_down=timeout is not None)

    def finish_in_background(self) -> None:
        """End the run at once; the end of the process waits for the delivery, not this call."""
        self._waits_at_exit = True
        self.finish(timeout=0.0)

    def _finish_delivery(self, timeout: float, *, even_if_down: bool = False) -> None:
        """Wait for the delivery of the run that has ended, and release the couriers."""
        if self._supervisor is None or self._journal is None:
            return
        size = self._journal.size()
        try:
            self._supervisor.wait(size, timeout, until_closed=True, even_if_down=even_if_down)
        except KeyboardInterrupt:
            log.warning("not waiting any longer for the delivery of %s", self.name)
        for sentence in self._supervisor.release(size, was_waited_for=timeout > 0):
            log.warning("%s", sentence)
        for key, view in self._supervisor.views().items():
            log.info("view it in %s: %s", key, view)
        for key in self._supervisor.offline():
            log.info("%s has it on this machine only; send it with: rankzero sync %s", key, shlex.quote(self._info.dir))

    def _end_arguments(self, status: Any, timeout: Any) -> tuple[str, Any]:
        """Return the status and the timeout for the arguments of `finish`."""
        if isinstance(status, Real) and not isinstance(status, bool):
            warn_user(f"run.finish({status!r}): the first argument is the status; write run.finish(timeout={status!r})")
            status, timeout = None, status if timeout is None else timeout
        elif status is not None and not isinstance(status, str):
            kind = type(status).__name__
            warn_user(f"run.finish() takes a status as text, not {kind}; the run ends with the status {self._status!r}")
            status = None
        elif status and status not in _STATUSES:
            known = ", ".join(map(repr, _STATUSES))
            warn_user(
                f"run.finish({status!r}): trackers do not know this status, and may show the run as failed."
                f"{did_you_mean(status, _STATUSES)} They know {known}."
            )
        return str(status or self._status), timeout

    def _seconds(self, verb: str, timeout: Any) -> float:
        if timeout is None:
            return self.finish_timeout
        try:
            seconds = float(timeout)
        except Exception:
            seconds = math.nan
        if math.isnan(seconds):
            kind = type(timeout).__name__
            warn_user(f"run.{verb}() takes a timeout in seconds, not {kind}; it waits {self.finish_timeout:g} seconds")
            return self.finish_timeout
        return min(seconds, _LONGEST_TIMEOUT)

    def _wait_for_threads(self, deadline: float) -> bool:
        """Wait until this process has written all logged data; return whether it was done by ``deadline``."""
        # Values from an accelerator come first: they are fast, and a slow copy could use up the time.
        is_written = self._device_rows.drain(min(_until(deadline), _DEVICE_TIMEOUT))
        return self._snapshots.wait(_until(deadline)) and is_written

    def close(self) -> None:
        """Call `finish`."""
        self.finish()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console is not None and isinstance(error, Exception | KeyboardInterrupt):
            self._console.receive_error(error)
        self._note_error(error)
        self.finish(endings.status_after(error))

    def _note_error(self, error: BaseException | None) -> None:
        """Keep the exception that ends the run, for its last event."""
        if error is not None and endings.status_after(error):
            self._error = describe(error)[:_LONGEST_ERROR]

    # For rankzero.run.endings

    def end_with_process(self, status: str | None, timeout: float, error: BaseException | None = None) -> None:
        """End the run with the process, in at most ``timeout`` seconds, less if a tracker is unavailable."""
        self.finish_timeout = timeout
        self._note_error(error)
        self.finish(status)

    def is_delivering(self) -> bool:
        """Return whether a courier is running."""
        return self._supervisor is not None and self._supervisor.is_running()

    def wait_with_process(self, timeout: float) -> None:
        """Wait for the delivery when the process ends, for at most ``timeout`` seconds."""
        self._finish_delivery(min(timeout, self.finish_timeout))

    def after_fork(self) -> None:
        """Continue in a forked child, which appends to the same journal and does not end the run."""
        self._device_rows = DeviceRows()
        with suppress(Exception):
            self._aggregator.take()  # the parent logs the metrics that it has buffered
        self._supervisor = None
        self._announcement = None
        if self._console is not None:
            self._console.after_fork()

    # Pickling

    def __getstate__(self) -> dict[str, Any]:
        return {
            "info": self._info,
            "is_active": self._is_active,
            "step": self._step,
            "keys": self._keys,
            "resumed": self.resumed,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The copy appends to the journal of the original, if this process is rank zero.
        self.__init__(state["info"], is_active=state["is_active"] and is_rank_zero())  # type: ignore[misc]
        self._step, self._keys, self.resumed = state["step"], state["keys"], state["resumed"]
        if not self._is_active:
            return
        try:
            self._open_journal()
        except OSError as error:
            self._is_active = False
            warn_user(f"the run {self.name} cannot be logged to from here: {self.dir} {error.strerror}")
            return
        get_plugins().load_hooks()
        self._filter_events()

    # Writing

    def begin(self, loggers: Mapping[str, Mapping[str, Any]], resumed_at: int | None) -> None:
        """Open the journal and write the start event; called by `rankzero.start`.

        Args:
            loggers: key → the record of the logger for the journal.
            resumed_at: the last step of a resumed run, None for a new one.

        Raises:
            OSError: the journal cannot be opened.
        """
        self._keys = tuple(loggers)
        self.resumed = resumed_at is not None
        if resumed_at is not None:
            self._step = resumed_at
        self._open_journal()
        self._filter_events()
        described = {key: dict(each) for key, each in loggers.items()}
        start = Start(_now(), self._info, described, platform.node(), os.getpid(), self.resumed)
        self._append(encode(start.sealed()))

    def adopt(self, lines: Iterable[bytes], step: int) -> None:
        """Append the lines of another run, and continue after a step; called by `rankzero.start`."""
        for line in lines:
            self._append(line)
        self._step = step

    def _open_journal(self) -> None:
        self._journal = Journal(self.dir / JOURNAL)
        self._append = self._journal.append
        self._media = MediaStore(self.dir, self._warner)
        self._snapshots = Snapshots(self._media)

    def _filter_events(self) -> None:
        self._filter = get_plugins().event_filter(self)
        self._is_plain = self._filter is None

    def own(
        self,
        lock: WriterLock,
        supervisor: Supervisor | None,
        announcement: Announcement,
        experiment: LiveExperiment | None,
        elsewhere: Callable[[], RunInfo],
    ) -> None:
        """Make this process the owner of the run, which ends it; called by `rankzero.start`."""
        self._owner_pid = os.getpid()
        self._lock = lock
        self._supervisor = supervisor
        self._announcement = announcement
        self._experiment = experiment
        self._elsewhere = elsewhere
        endings.end_at_exit(self, self.finish_timeout)

    def record_console(self, secrets: Sequence[str] = ()) -> None:
        """Capture the console until the run ends, and mask ``secrets``; called by `rankzero.start`."""

        def record(text: str, stream: str) -> None:
            now = _now()
            if not self._is_active or (now > self._next_tick and not self._tick(now)):
                return
            event = Console(now, scrub(text, secrets), stream)
            try:
                line = encode_lines([event]) if self._filter is None else None
            except ValueError:  # a lone surrogate
                line = None
            if line is None:
                self._record(event)
            else:
                self._append(line)

        self._console = Capture(record)

    def measure_system(self, every: float | bool, start: int) -> None:
        """Measure the system of all nodes until the run ends; called by `rankzero.start` on all ranks.

        Args:
            every: the seconds between two measurements; True for the default.
            start: the number of the run, the same on all ranks.
        """
        try:
            self._measuring = measure_nodes(lambda: self.dir, start, every, lambda line: self._append(line))
        except Exception as error:
            log.debug("the system is not measured: %s", error)

    def _stop_measuring(self) -> None:
        for each in self._measuring:
            each.stop()
        self._measuring = []

    @_never_raises
    def record(self, event: Event) -> None:
        """Append an event that has its own time, and whose files are in the run's directory already."""
        now = _now()
        if now <= self._next_tick or self._tick(now):
            if isinstance(event, Metrics) and event.step is not None:
                self._step = event.step
            self._record(event)

    def _record(self, event: Event) -> None:
        if self._filter is not None and event.is_logged:
            filtered = self._filter(event)
            if filtered is None:
                return
            event = filtered
        if self._is_finished:
            self._warner.warn(
                "finished",
                f"the run {self.name} is finished; what is logged now is kept in its journal, and delivered only by: "
                f"rankzero sync {shlex.quote(self._info.dir)}",
            )
        self._append(encode(event))

    def _record_file(self, file: MediaFile, name: str, kind: str, metadata: dict[str, Any]) -> None:
        self._record(Artifact(_now(), file.path, name, kind, [], metadata))

    def _call_at_end(self, status: str) -> None:
        for close in self._closing:
            try:
                close(status)
            except Exception as error:
                self._warner.warn("closing", f"what was open at the end could not be recorded: {describe(error)}")

    def _at(self, step: Any) -> int | None:
        if step is not None:
            return to_int(step)
        if self._loop_step is not None and (of_loop := self._loop_step()) is not None:
            return of_loop
        return self._step if self._step >= 0 else None

    def _next_step(self) -> int:
        of_loop = None if self._loop_step is None else self._loop_step()
        return self._step + 1 if of_loop is None else of_loop

    def _tick(self, now: float) -> bool:
        """Do periodic checks, about once a second; return whether the run may continue to log."""
        self._next_tick = now + 1.0
        if not self._may_log():
            return False
        try:
            if self._announcement is not None:
                self._announcement.publish()
            if self._journal is not None:
                self._journal.check()
            if self._supervisor is not None:
                self._supervisor.restart_soon()
                self._supervisor.report_troubles()
        except Exception as error:  # the current row is not affected
            self._warner.warn("tick", f"rankzero cannot supervise the couriers of {self.name}: {describe(error)}")
        return True

    def _may_log(self) -> bool:
        if self._is_active and not self._is_silenced and not is_rank_zero():
            self._is_silenced = True
            self._deactivate()
        return self._is_active

    def _deactivate(self) -> None:
        # The launcher set the rank late; the run that was started here is discarded.
        if os.getpid() == self._owner_pid:
            self._warner.warn("rank", f"this process turned out not to be rank zero; its run {self.name} ends here")
            self.finish("aborted", timeout=0.0)
            if self._elsewhere is not None:
                self._known_info = self._elsewhere
        self._is_active = False


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _path(path: Any) -> Path:
    if safe_isinstance(path, str) and not path:
        raise ValueError("the path is empty")  # it would mean the working directory
    return Path(path)


for _name in SHARED_VERBS - {"log_record"} | {"_log_aggregated"}:
    setattr(Run, _name, _never_raises(getattr(Run, _name)))

lightning.watch()  # LightningCLI checks the class before a Run exists
