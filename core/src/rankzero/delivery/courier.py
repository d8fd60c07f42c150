"""The courier: deliver a run's journal to one logger, in order, until the run has ended.

The courier saves its position only after the logger's ``flush()`` has returned, which means that the tracker has
everything: each event is delivered at least once. An event that the tracker rejects permanently goes to the reject
list, and so does one that fails repeatedly while the tracker accepts the next event. The courier retries after any
other failure.
"""

from __future__ import annotations

import itertools
import logging
import os
import platform
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from rankzero.config.prepared import PreparedLogger
from rankzero.delivery.active_couriers import noted
from rankzero.delivery.pending import Item, PendingEvents, batches, before_flush
from rankzero.delivery.refusals import Suspects, add_to_reject_list, rejected_lines
from rankzero.delivery.retry import GRACE_PERIOD, TRIES, TRIES_BEFORE_REOPENING, pause, pause_at_end
from rankzero.delivery.snapshot_sweeper import SnapshotSweeper
from rankzero.delivery.writer_watch import WriterWatch
from rankzero.errors import (
    AccessError,
    DeliveryError,
    FlushPostponedError,
    NotAFileError,
    RejectedError,
    RunNotFoundError,
    UnsafePathError,
    is_data_error,
    may_be_rejection,
)
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Checkpoint, Event, Finish, Metrics, Rewind, Start, encode
from rankzero.events.trust import check_files
from rankzero.files.writing import lock_permissions
from rankzero.journal.rewinds import read_rows
from rankzero.journal.tail import read_start
from rankzero.loggers.base import Logger
from rankzero.loggers.dispatch import dispatch
from rankzero.plugins.registry import get_plugins
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import courier_lock, read_position, save_position, stop_time, wake_time
from rankzero.secrets import scrub

log = logging.getLogger("rankzero.courier")

POLL = 0.25
"""Seconds between two polls of a journal that has nothing new."""

OnFailure = Callable[[RunInfo, str, Exception, bool], object]


class GaveUpError(DeliveryError):
    """The courier gave up: the tracker stayed unavailable for too long."""


def make_courier(run_dir: Path, prepared: PreparedLogger, **options: Any) -> Courier:
    """Return the courier that delivers a run to a prepared logger, with options of `Courier`.

    After each failure it calls the hook ``rankzero_delivery_failed``.
    """

    def on_failure(run: RunInfo, key: str, error: Exception, retrying: bool) -> None:
        get_plugins().notify("rankzero_delivery_failed", run_info=run, logger=key, error=error, retrying=retrying)

    return Courier(run_dir, prepared.key, prepared.make, secrets=prepared.secrets, on_failure=on_failure, **options)


class Courier:
    """Delivers the journal in ``run_dir`` to the logger that ``make_logger`` builds.

    Args:
        run_dir: the run's directory.
        key: the logger's key in this run; names its position file and reject list.
        make_logger: builds the logger; called again when delivery keeps failing.
        follow: wait for new events until the run is over; otherwise deliver only the existing ones.
        grace_period: for how many seconds to retry after the training process has ended.
        retries_access: retry also after an `AccessError`, which only a person can fix.
        dead_after: after how many seconds without new events the training process counts as dead; applies only if
            the lock was taken on another machine and cannot show it.
        secrets: strings that must not appear in a message.
        is_own: whether this user started the run; of another user's run, only files in its directory are delivered.
        on_failure: called with (run, key, error, retrying) after each failure.
    """

    def __init__(
        self,
        run_dir: Path,
        key: str,
        make_logger: Callable[[], Logger],
        *,
        follow: bool = True,
        grace_period: float = GRACE_PERIOD,
        retries_access: bool = True,
        dead_after: float = 3600.0,
        secrets: Sequence[str] = (),
        is_own: bool = True,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.run_dir = run_dir.resolve()
        self.key = key
        self.logger: Logger | None = None
        """The open logger, if any."""
        self._make_logger = make_logger
        self._follow = follow
        self._grace_period = grace_period
        self._retries_access = retries_access
        self._writer = WriterWatch(self.run_dir, dead_after)
        self._secrets = secrets
        self._is_own = is_own
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._suspects = Suspects()
        self._postponed: list[Item] = []  # the first pending ones, which the open logger has but has not flushed
        self._closed_at = 0  # the line after the last Finish: no watermark may move the position back before it
        self._failed_makings = 0  # the logger rejected its arguments, which no retry fixes
        self._is_view_known = False  # for the open logger
        self._starts_over = False  # because of a rewind, the tracker's run is a new one

    def stop(self) -> None:
        """Make `run` return after the batch that it is sending; safe in other threads and signal handlers."""
        self._stopping.set()

    def run(self) -> None:
        """Deliver the run; with ``follow``, until it ends.

        Raises:
            GaveUpError: the tracker stayed unavailable; the position shows what is delivered.
            RunNotFoundError: the directory holds no journal.
        """
        with FileLock(courier_lock(self.run_dir, self.key), mode=lock_permissions()), noted(self.run_dir, self.key):
            self._asked_to_stop = stop_time(self.run_dir, self.key)
            self._woken = wake_time(self.run_dir, self.key)
            self._position = read_position(self.run_dir, self.key)
            self._rejected = rejected_lines(self.run_dir, self.key) if self._position.rejected else set()
            self._pending = PendingEvents(self.run_dir / JOURNAL, self._position, is_own=self._is_own)
            start = read_start(self.run_dir / JOURNAL)
            if start is None:
                raise RunNotFoundError(f"{self.run_dir / JOURNAL} holds no run: it has no start event")
            self._run_info = msgspec.structs.replace(start.run, dir=str(self.run_dir))
            self._sweeper = SnapshotSweeper(self.run_dir, {*start.loggers, self.key})
            self._sweeper.catch_up(self._position.line, is_own=self._is_own)
            self._position.pid, self._position.host = os.getpid(), platform.node()
            try:
                self._deliver_all()
            finally:
                self._pending.close()
                self._drop_logger()

    def _deliver_all(self) -> None:
        while not self._is_to_stop():
            if self._pending.read():
                self._retry(self._attempt)
            elif self._position.closed:
                return
            elif self._position.status or self._writer.is_gone():
                self._close()
            elif self._follow:
                self._stopping.wait(POLL)
            else:
                return

    def _is_to_stop(self) -> bool:
        if not self._stopping.is_set() and stop_time(self.run_dir, self.key) != self._asked_to_stop:
            log.info("asked to stop; what %s lacks waits for rankzero sync", self.key)
            self.stop()
        return self._stopping.is_set()

    # One attempt: write the events, flush, save the position

    def _attempt(self) -> None:
        if not self._pending:  # last time only saving the position failed
            self._position.problem = None
            save_position(self.run_dir, self.key, self._position)
            return
        if self._suspects.suspected:
            self._retry_suspected()
            return
        takes_time = self.logger is None or self._position.problem is not None
        logger = self.logger or self._open()
        if takes_time:
            self._pending.find_new_rewinds()
        handed, self._postponed = self._postponed, []
        failure: Exception | None = None
        batch: list[Item] = []
        items = before_flush(self._pending.first(self._suspects.half)[len(handed) :])
        while items:
            for batch in batches(items, logger):
                try:
                    self._hand_over(logger, batch)
                except Exception as error:
                    failure = error
                    break
                handed += batch
            has_more = failure is None and self._has_more(handed)
            items = before_flush(self._pending.first())[len(handed) :] if has_more else []
        if handed and failure is None and (finish := self._finish_after(handed, logger)):
            handed.append(finish)
            try:
                self._hand_over(logger, [finish])
            except Exception as error:
                self._failed(error, handed)
                return
        if handed and self.logger is not None:
            try:
                logger.flush()
            except FlushPostponedError:
                self._postponed = handed
                self._pending.read_on()
                return
            except Exception as error:  # any of the events may be the cause
                self._failed(error, handed)
                return
            if any(self._is_for(logger, item) for item in handed):  # a logger that opens late is open now
                self._ask_how_to_view(logger)
        if handed:
            self._acknowledged(handed)
        if failure is not None:
            self._failed(failure, batch)

    def _has_more(self, handed: list[Item]) -> bool:
        """Return whether to write more before the next flush, which takes no longer for many events than for a few."""
        is_small = not handed or 2 * (handed[-1].line.end - self._position.offset) < self._pending.batch_bytes
        return is_small and not self._suspects.half and len(handed) == len(self._pending) and self._pending.read_on()

    def _finish_after(self, handed: list[Item], logger: Logger) -> Item | None:
        """Return the next event if it is a Finish that needs no flush before it; None otherwise."""
        if not logger.finalize_acknowledges or self._suspects.half or len(handed) == len(self._pending):
            return None
        following = self._pending.get(len(handed))
        return following if following and isinstance(following.event, Finish) else None

    def _hand_over(self, logger: Logger, batch: list[Item], *, is_late: bool = False) -> None:
        if len(batch) > 1:
            items = [each for each in batch if self._is_for(logger, each)]
            if rows := [each.event.row(each.line.number) for each in items if isinstance(each.event, Metrics)]:
                logger.log_metrics_batch(rows)
            return
        line, event = batch[0]
        context = event.context(line.number)
        if is_late and logger.counts_lines:  # it has a later line already, and would skip this one
            context = msgspec.structs.replace(context, line=None)
        with logger.at(context):  # for all events: a logger may keep count of the lines
            if isinstance(event, Finish):
                self._end(logger, event.status)
            elif isinstance(event, Rewind):
                if self._is_for(logger, batch[0]) or line.end not in self._pending.foreseen:
                    first = logger.rewind(event.step)
                    self._starts_over = first == 0
                    self._log_again(logger, first or None, line.number)
            elif self._is_for(logger, batch[0]):
                self._check_files(event)
                dispatch(event, logger, self.run_dir)
        if isinstance(event, Checkpoint):
            self._sweeper.note(line.number, event)  # a Finish before the next flush uploads final checkpoints

    def _log_again(self, logger: Logger, first: int | None, end: int) -> None:
        """Write rows and media that the tracker deleted because of a rewind, although they are not superseded."""
        for line, event in () if first is None else read_rows(self.run_dir / JOURNAL, first, end):
            try:
                self._hand_over(logger, [Item(line, event)])
            except RejectedError as error:  # its file was deleted since
                self._add_to_reject_list(line.number, line.data, error)

    def _is_for(self, logger: Logger, item: Item) -> bool:
        """Return whether a logger gets an event; not if the tracker rejected it before a watermark led back to it."""
        return item.event.is_for(logger.captures) and item.line.number not in self._rejected

    def _check_files(self, event: Event) -> None:
        try:
            check_files(self.run_dir, event.paths)
        except (UnsafePathError, NotAFileError) as error:
            raise RejectedError(str(error)) from error

    def _acknowledged(self, items: Sequence[Item]) -> None:
        self._pending.remove(len(items))
        self._suspects.acknowledge(len(items))
        line, event = items[-1]
        self._position.offset, self._position.line = line.end, line.number + 1
        self._position.problem = None
        for item in items:
            if isinstance(item.event, Start | Finish):
                self._position.status = item.event.status if isinstance(item.event, Finish) else None
        self._position.closed = isinstance(event, Finish)
        if self._position.closed:
            self._closed_at = self._position.line
        if self._starts_over:
            log.info("%s gets the whole run again, without what the rewind superseded", self.key)
            self._position.offset, self._position.line = self._pending.seek_line(0)
            self._starts_over = self._is_view_known = False
        save_position(self.run_dir, self.key, self._position)
        for line, event in items:
            if isinstance(event, Checkpoint):
                self._sweeper.delivered(line.number, event)
        if self._position.closed:
            self._sweeper.sweep()

    # Refusals

    def _failed(self, error: Exception, items: list[Item]) -> None:
        """Reject the event that caused ``error`` if that is certain; otherwise raise ``error``, to retry."""
        if self._suspects.blame(error, [item.line.number for item in items]):
            self._reject([(items[0], error)], items)

    def _retry_suspected(self) -> None:
        """Retry the suspected events, then the next one: if the tracker accepts it, they caused the failures.

        An outage may end meanwhile, so events that failed before the first success are retried once more.
        """
        refused: list[tuple[Item, Exception]] = []
        number = 0
        while item := self._pending.get(number):
            if (logger := self._open_here()) is None:
                return
            number += 1
            if isinstance(item.event, Finish) and not _acknowledges_the_end(logger):
                raise refused[-1][1]  # it is unknown whether the tracker accepts anything
            if not (self._is_for(logger, item) or isinstance(item.event, Finish)):
                continue  # its success would prove nothing
            try:
                self._deliver_alone(logger, item)
            except Exception as error:
                self._drop_logger()  # it may still hold a part of the event
                if not may_be_rejection(error) or item.line.number not in self._suspects.suspected:
                    self._failed(error, [item])
                    return
                refused.append((item, error))
            else:
                still_refused = [] if self._starts_over else self._retry_once(refused)
                if isinstance(item.event, Finish):
                    self._hand_over(self.logger or self._open(believes=False), [item])
                self._reject(still_refused, self._pending.first(number))
                return
        if not self._writer.is_gone():
            raise refused[-1][1]  # wait for the next event
        if (logger := self._open_here()) is None:
            return
        if not _acknowledges_the_end(logger):
            raise refused[-1][1]
        self._end(logger, self._position.status or "crashed")
        self._reject(self._retry_once(refused), self._pending.first())

    def _retry_once(self, refused: list[tuple[Item, Exception]]) -> list[tuple[Item, Exception]]:
        """Retry events that failed before the tracker accepted a later one; return those that fail again."""
        again: list[tuple[Item, Exception]] = []
        for item, _ in refused:
            try:
                self._deliver_alone(self.logger or self._open(believes=False), item, is_late=True)
            except Exception as error:
                self._drop_logger()
                if not may_be_rejection(error):
                    self._failed(error, [item])
                again.append((item, error))
        return again

    def _deliver_alone(self, logger: Logger, item: Item, *, is_late: bool = False) -> None:
        self._hand_over(logger, [item], is_late=is_late)
        if self.logger is None:  # it was a Finish
            return
        try:
            logger.flush()
        except FlushPostponedError:  # raised once for each flush
            logger.flush()

    def _reject(self, refused: list[tuple[Item, Exception]], items: list[Item]) -> None:
        """Reject some of the first pending events; the other ``items`` are delivered."""
        for (line, _), error in refused:
            self._add_to_reject_list(line.number, line.data, error)
        self._acknowledged(items)
        for _, error in refused:
            self._report(error, retrying=False)

    def _add_to_reject_list(self, line: int, event: bytes, error: Exception) -> None:
        if line in self._rejected:
            return
        reason = self._describe(error)
        log.error("%s rejected line %d of the journal permanently: %s", self.key, line + 1, reason)
        add_to_reject_list(self.run_dir, self.key, line, event, reason)
        self._rejected.add(line)
        self._position.rejected += 1

    # Retries

    def _retry(self, action: Callable[[], None]) -> None:
        """Call ``action`` until it succeeds or a retry is pointless.

        Raises:
            GaveUpError: a retry is pointless.
        """
        for failures in itertools.count(1):
            try:
                return action()
            except Exception as error:
                if self._gives_up(error):
                    return self._give_up(error)
                if failures >= TRIES_BEFORE_REOPENING:
                    self._drop_logger()
                self._save_problem(error)
                self._report(error, retrying=True)
            self._sleep(pause(failures))

    def _gives_up(self, error: Exception) -> bool:
        return (
            self._stopping.is_set()
            or self._failed_makings >= TRIES
            or (not self._retries_access and isinstance(error, AccessError))
            or self._writer.gone_for() > self._grace_period
        )

    def _give_up(self, error: Exception) -> None:
        self._save_problem(error)
        if self._stopping.is_set():
            return
        self._report(error, retrying=False)
        raise GaveUpError(
            f"{self.key} could not take the rest of the run: {self._describe(error)}. "
            f"Nothing is lost; deliver it later with: rankzero sync {shlex.quote(str(self.run_dir))} --to {self.key}"
        ) from error

    def _sleep(self, seconds: float) -> None:
        """Wait before the next retry, less once the run is over; `wake` and `stop` end the wait."""
        began = time.monotonic()

        def rest() -> float:
            return began + (pause_at_end(seconds) if self._writer.is_gone() else seconds) - time.monotonic()

        while (remaining := rest()) > 0 and wake_time(self.run_dir, self.key) == self._woken:
            if self._is_to_stop() or self._stopping.wait(min(remaining, POLL)):
                return
        self._woken = wake_time(self.run_dir, self.key)

    def _save_problem(self, error: Exception) -> None:
        problem = self._describe(error)
        if problem != self._position.problem:
            log.warning("%s cannot take events now, and they wait in the journal: %s", self.key, problem)
        self._position.problem = problem
        with suppress(OSError):  # the disk may be the problem
            save_position(self.run_dir, self.key, self._position)

    def _report(self, error: Exception, retrying: bool) -> None:
        if self._on_failure is not None:
            self._on_failure(self._run_info, self.key, error, retrying)

    def _describe(self, error: Exception) -> str:
        return scrub(f"{type(error).__name__}: {error}".removesuffix(": "), self._secrets)

    # Opening and closing

    def _open(self, *, believes: bool = True) -> Logger:
        """Make and attach a logger; with ``believes``, go to the line of its watermark."""
        self._postponed = []
        logger = self._made()
        logger.attach(self._run_info)
        if believes:
            self._go_to(logger.watermark())
        self.logger = logger
        self._pending.batch_bytes = logger.batch_bytes
        self._position.offline, self._position.disabled = logger.is_offline, logger.is_disabled
        self._is_view_known = False
        return logger

    def _open_here(self) -> Logger | None:
        """Return the open logger; None if its watermark moved the position to another line of the journal."""
        line = self._position.line
        logger = self.logger or self._open()
        return logger if self._position.line == line else None

    def _made(self) -> Logger:
        try:
            return self._make_logger()
        except Exception as error:
            self._failed_makings += is_data_error(error)
            raise

    def _go_to(self, watermark: object) -> None:
        """Continue at the line of the watermark if it is valid."""
        if watermark is None:
            return
        if type(watermark) is not int or not 0 <= watermark <= self._pending.lines():
            log.warning("%s.watermark() returned %r: the journal has no such line", self.key, watermark)
            return
        line = max(watermark, self._closed_at)
        if line == self._position.line:
            return
        log.info("%s has %d lines of the journal; continuing there", self.key, line)
        if line > self._position.line:
            self._position.status = self._pending.status_before(line)
        self._suspects.clear()
        self._position.offset, self._position.line = self._pending.seek_line(line)

    def _ask_how_to_view(self, logger: Logger) -> None:
        """Call ``how_to_view()`` of the open logger, once, and save the result with the position; never raises."""
        if self._is_view_known:
            return
        self._is_view_known = True
        try:
            view = logger.how_to_view()
            self._position.view = scrub(" ".join(view.split()), self._secrets) if view else None
        except Exception as error:
            log.debug("%s.how_to_view() failed: %s", self.key, self._describe(error))

    def _end(self, logger: Logger, status: str) -> None:
        refused = self._sweeper.upload_left(logger, self._check_files) if logger.log_model is True else []
        logger.finalize(status)
        logger.flush()
        for line, checkpoint, error in refused:
            self._add_to_reject_list(line, encode(checkpoint).rstrip(), error)
        self._ask_how_to_view(logger)
        logger.close()
        self.logger = None

    def _drop_logger(self) -> None:
        if self.logger is not None:
            with suppress(Exception):  # it is broken or no longer needed; its acknowledged events are safe
                self.logger.close()
        self.logger = None

    def _close(self) -> None:
        """Close a run that has ended without later events, or whose process died without ending it."""
        if self._pending.read():  # written between the last poll and the death of the process
            return
        if self._position.status is None:
            log.warning("the process that wrote %s died without finishing the run", self.run_dir)
        self._retry(self._finalize)

    def _finalize(self) -> None:
        if (logger := self._open_here()) is None:
            return
        self._position.status = self._position.status or "crashed"
        self._end(logger, self._position.status)
        self._position.closed = True
        self._position.problem = None
        save_position(self.run_dir, self.key, self._position)
        self._sweeper.sweep()


def _acknowledges_the_end(logger: Logger) -> bool:
    """Return whether a successful `finalize` shows that the tracker accepts data; the inherited one sends nothing."""
    return logger.finalize_acknowledges or type(logger).finalize is not Logger.finalize
