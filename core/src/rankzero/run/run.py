"""`Run`, the object that a training loop logs to: each log method appends an event to the journal."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from math import isfinite
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec

import msgspec

from rankzero.capture.model_watch import ModelWatch
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import (
    MEDIA_EVENTS,
    Alert,
    Artifact,
    Checkpoint,
    DefineMetric,
    Event,
    Finish,
    Histogram,
    Metrics,
    Rewind,
    Status,
    encode_lines,
)
from rankzero.journal.rewinds import has_later_steps
from rankzero.loggers import lightning
from rankzero.loggers.experiment import DummyExperiment
from rankzero.loggers.model_checkpoint import LATE_TIMEOUT
from rankzero.loggers.verbs import SHARED_VERBS, Record
from rankzero.media.record import Media
from rankzero.media.store import MediaStore
from rankzero.messages import describe
from rankzero.plugins.registry import get_plugins
from rankzero.run import arguments, endings, notebooks
from rankzero.run.base import BaseRun
from rankzero.run.identity import UNKNOWN
from rankzero.run.owner import until
from rankzero.values import safe_isinstance, to_int, to_number, to_text

if TYPE_CHECKING:
    from argparse import Namespace

    from rankzero.recorder.recorder import Recorder

log = logging.getLogger("rankzero")
P = ParamSpec("P")

_LONGEST_ERROR = 2000  # characters
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


class Run(BaseRun):
    """One training run; make it with `rankzero.start`.

    It has the verbs of `rankzero.Logger`. They never raise, never wait for a tracker, and do nothing on other ranks
    than zero. A Run can be pickled, and can log from forked and spawned child processes; only the process that started
    it ends it. It can be used as a logger of Lightning.
    """

    @property
    def experiment(self) -> Any:
        """The SDK's object of the first logger; reading this property costs nothing.

        With ``delivery="thread"`` it is the object that the courier uses. With a courier process, its first use joins
        the run from this process if the tracker allows it, and raises `ExperimentUnavailableError` otherwise.
        """
        if not self._is_active or self._owner is None or self._owner.experiment is None:
            return DummyExperiment()
        return self._owner.experiment.get()

    def _repr_html_(self) -> str:
        info = self._known_info
        if not isinstance(info, RunInfo):
            return notebooks.as_html("a run of another rank", "", UNKNOWN, "", "logged by rank zero", {})
        status = "not logged by this process"
        if self._is_active:
            status = self._status if self._writer.is_finished else "running"
        views = {} if self._owner is None else self._owner.views()
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
        try:
            # Encoding fails for tensors, so none is summed below: for a sharded one that would be a collective.
            line = encode_lines([Metrics(now, step, metrics, epoch, stage)])  # type: ignore[arg-type]
            # The sum is a finite int or float only if all values are.
            total = sum(metrics.values())
            is_plain = (
                (total.__class__ is float or total.__class__ is int)
                and isfinite(total)
                and step.__class__ is int
                and (epoch is None or epoch.__class__ is int)
                and (stage is None or stage.__class__ is str)
                and self._is_direct
            )
        except Exception:
            line, is_plain = b"", False
        if not is_plain:
            self._step = step = arguments.whole_step(step, self._step + 1, self._warner)
            self._metrics.write(now, metrics, step, epoch, stage)
            return
        self._step = step
        journal = self._journal  # a call of its `append` would take a twentieth of the time
        try:
            written = 0 if journal.backlog.is_active else os.write(journal.fd, line)
        except OSError:
            written = 0
        if written < len(line):
            journal.append_late(line, line[:written])

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
        if last < self._step or has_later_steps(self._writer.journal.path, last):
            self._metrics.drain()  # rows that are written later would count as logged again
            self._writer.write(Rewind(_now(), last))
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
        self._writer.write(arguments.hyperparams(params, metrics))

    def log_record(self, record: Record) -> None:
        """Write the record of a verb to the journal, and its files to the run's directory."""
        match record:
            case Media():
                self._writer.write(self._media_event(record))
            case Artifact():
                self._files.write_artifact(record, at_once=self._is_not_owner())
            case Checkpoint():
                checkpoint = msgspec.structs.replace(record, step=self._at(record.step))
                self._files.write_checkpoint(checkpoint, at_once=self._is_not_owner())
            case Alert():
                self._writer.write(
                    msgspec.structs.replace(record, level=arguments.alert_level(record.level, self._warner))
                )
            case DefineMetric():
                arguments.check_definition(record, self._warner)
                self._writer.write(record)
            case _:
                self._writer.write(record)

    def _media_event(self, media: Media) -> Event:
        event = MEDIA_EVENTS[media.kind].of(media, _now(), self._at(media.step))
        if isinstance(event, Histogram) and event.values.non_finite:
            self._warner.warn(
                f"histogram {media.key}",
                f"{event.values.non_finite} values of the histogram {media.key!r} are NaN or infinite, and in no bin",
            )
        return event

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
        self._files.write_saved(checkpoint_callback, self._at(None), at_once=self._is_not_owner())

    @_never_raises
    def _log_late_checkpoints(self, timeout: float) -> None:
        self._files.write_late(timeout, self._at(None), at_once=self._is_not_owner())

    def _is_not_owner(self) -> bool:
        """Return whether this process does not own the run, so that no `finish` waits for its threads."""
        return self._writer.is_finished or self._owner is None or not self._owner.is_this_process()

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
            self._writer.write(Status(_now(), self._status))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the trackers have everything logged so far; return whether they do within ``timeout`` seconds.

        The default is the ``finish_timeout`` of `rankzero.start`, and its ``down_timeout`` for a tracker that is known
        to be unavailable.
        """
        if not self._is_active:
            return True
        self._log_aggregated()
        self._log_late_checkpoints(0.0)
        deadline = time.monotonic() + arguments.seconds("flush", timeout, self.finish_timeout)
        is_written = self._wait_for_threads(deadline)
        is_written = self._writer.journal.flush(until(deadline)) and is_written
        is_delivered = self._owner is None or self._owner.wait(deadline, even_if_down=timeout is not None)
        return is_written and is_delivered

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
        owner = self._owner
        if owner is None or self._is_not_owner() or not self._may_log():
            return
        status, timeout = arguments.end(status, timeout, self._status)
        seconds = arguments.seconds("finish", timeout, self.finish_timeout)
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
        if self._writer.is_finished:  # by a hook, or by a SIGTERM meanwhile
            return
        endings.forget(self)
        self._files.warn_of_waiting()
        owner.stop_recording()
        self._stop_measuring()
        self._status = status
        self._writer.write(Finish(_now(), status, self._error))
        self._writer.is_finished = True
        self._is_direct = False
        owner.release(deadline)
        if self._waits_at_exit:
            owner.exit_timeout = self.finish_timeout
            endings.wait_at_exit(owner)
        else:
            owner.finish_delivery(until(deadline), even_if_down=timeout is not None)

    def finish_in_background(self) -> None:
        """End the run at once; the end of the process waits for the delivery, not this call."""
        self._waits_at_exit = True
        self.finish(timeout=0.0)

    def _wait_for_threads(self, deadline: float) -> bool:
        """Wait until this process has written all logged data; return whether it was done by ``deadline``."""
        # Values from an accelerator come first: they are fast, and a slow copy could use up the time.
        is_written = self._metrics.drain(until(deadline))
        return self._files.snapshots.wait(until(deadline)) and is_written

    def close(self) -> None:
        """Call `finish`."""
        self.finish()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owner is not None and isinstance(error, Exception | KeyboardInterrupt):
            self._owner.record_error(error)
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

    # Writing

    @_never_raises
    def record(self, event: Event) -> None:
        """Append an event that has its own time, and whose files are in the run's directory already."""
        now = _now()
        if now <= self._next_tick or self._tick(now):
            if isinstance(event, Metrics) and event.step is not None:
                self._step = event.step
            self._writer.write(event)

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


for _name in SHARED_VERBS - {"log_record"} | {"_log_aggregated"}:
    setattr(Run, _name, _never_raises(getattr(Run, _name)))

lightning.watch()  # LightningCLI checks the class before a Run exists
