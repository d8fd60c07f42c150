"""The courier: delivers one run's journal to one logger, in order, until the run is over.

A position is saved only after the logger's ``flush()`` said that the tracker has everything, so that whatever
happens delivery is at least once. What a tracker refuses for good goes to a reject list; so does an event that fails
again and again while the tracker takes the one behind it. Any other failure is retried with exponential backoff and
jitter, after "Exponential Backoff And Jitter" (M. Brooker, 2015).
"""

from __future__ import annotations

import logging
import os
import platform
import random
import shlex
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import tenacity
from filelock import FileLock

from rankzero.config.prepared import PreparedLogger
from rankzero.delivery.active_couriers import noted
from rankzero.delivery.snapshot_sweeper import SnapshotSweeper
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
from rankzero.events.structs import AnyEvent, Checkpoint, Finish, Metrics, Start, encode
from rankzero.events.trust import check_files
from rankzero.files.writing import lock_permissions, open_own
from rankzero.journal.tail import JOURNAL, Line, Tail, read_events, read_start
from rankzero.loggers.base import Logger
from rankzero.plugins.registry import get_plugins
from rankzero.rundir.positions import courier_lock, read_position, reject_list, save_position, stop_time, wake_time
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero.secrets import scrub

log = logging.getLogger("rankzero.delivery.courier")

GRACE_PERIOD = 3600.0
"""For how many seconds a courier tries on after the training process is gone."""

POLL = 0.25
"""Seconds between two looks at a journal that has nothing new."""

_LONGEST_PAUSE = 60.0  # seconds between two tries of a tracker that fails
_LONGEST_PAUSE_AT_END = 10.0  # the same when the run is over
_jitter = random.Random()  # not the global generator, which the user has seeded
_MOST_FILES = 200
_TRIES = 3  # of what may be refused for good
_MOST_DOUBTED = 2  # events, before the pauses between tries grow
_TRIES_BEFORE_REOPENING = 3

OnFailure = Callable[[RunInfo, str, Exception, bool], object]


def make_courier(
    run_dir: Path,
    prepared: PreparedLogger,
    *,
    follow: bool = True,
    grace_period: float = GRACE_PERIOD,
    retries_access: bool = True,
    is_own: bool = True,
) -> Courier:
    """Return the courier that delivers a run to a prepared logger; the plugins' hooks hear of its failures."""

    def on_failure(run: RunInfo, key: str, error: Exception, retrying: bool) -> None:
        get_plugins().notify("rankzero_delivery_failed", run_info=run, logger=key, error=error, retrying=retrying)

    return Courier(
        run_dir,
        prepared.key,
        prepared.make,
        follow=follow,
        grace_period=grace_period,
        retries_access=retries_access,
        secrets=prepared.secrets,
        is_own=is_own,
        on_failure=on_failure,
    )


class GaveUpError(DeliveryError):
    """The tracker could not be reached for as long as the courier was to try."""


class _Item(NamedTuple):
    line: Line
    event: AnyEvent


class Courier:
    """Delivers the journal in ``run_dir`` to the logger that ``make_logger`` builds.

    Args:
        run_dir: the run's directory.
        key: the logger's key in this run; names its position file and reject list.
        make_logger: builds the logger; called again when delivery keeps failing.
        follow: wait for more until the run is over; otherwise deliver what is there.
        grace_period: for how many seconds to try on when the process that wrote the journal is gone.
        retries_access: retry also after an `AccessError`, which a person has to mend.
        dead_after: for how many seconds a journal must rest before its writer counts as dead, where the lock
            cannot tell because it was taken on another machine.
        secrets: strings that must not appear in a message.
        is_own: this user started the run; of another one only files in its directory are delivered.
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
        self._dead_after = dead_after
        self._secrets = secrets
        self._is_own = is_own
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._batch_bytes = Logger.batch_bytes
        self._pending: deque[_Item] = deque()
        self._postponed: list[_Item] = []  # the first of them, which the open logger has been told but not flushed
        self._suspects = 0  # so many of the pending events were refused together
        self._failures = 0  # of one pending event alone: the first that is not doubted
        self._doubted: set[int] = set()  # lines of pending events that failed so often that they may be to blame
        self._failed_uploads: Counter[int] = Counter()  # of what a ModelCheckpoint has left, by line
        self._closed_at = 0  # the line after the last Finish: no watermark may send us back over it
        self._failed_makings = 0  # for a reason that no retry mends: it was given wrong arguments
        self._gone_since: float | None = None
        self._seen_alive = False
        self._is_view_asked = False  # of the open logger

    def stop(self) -> None:
        """Make `run` return after the batch it is delivering; may be called from another thread or a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Deliver.

        Raises:
            GaveUpError: the tracker stayed unavailable; the position says how far delivery came.
            RunNotFoundError: the directory holds no journal.
        """
        with FileLock(courier_lock(self.run_dir, self.key), mode=lock_permissions()), noted(self.run_dir, self.key):
            self._asked_to_stop = stop_time(self.run_dir, self.key)
            self._woken = wake_time(self.run_dir, self.key)
            self._position = read_position(self.run_dir, self.key)
            self._tail = Tail(self.run_dir / JOURNAL, self._position.offset, self._position.line)
            start = read_start(self.run_dir / JOURNAL)
            if start is None:
                raise RunNotFoundError(f"{self.run_dir / JOURNAL} holds no run: it has no start event")
            self._run_info = msgspec.structs.replace(start.run, dir=str(self.run_dir))
            self._sweeper = SnapshotSweeper(self.run_dir, {*start.loggers, self.key}, is_own=self._is_own)
            self._sweeper.catch_up(self._position.line)
            self._position.pid, self._position.host = os.getpid(), platform.node()
            try:
                self._deliver_all()
            finally:
                self._tail.close()
                self._drop_logger()

    def _deliver_all(self) -> None:
        while not self._is_to_stop():
            if self._pending or self._read():
                self._retrying()(self._attempt)
            elif self._position.closed:
                return
            elif self._position.status or self._is_writer_gone():
                self._close()
            elif self._follow:
                self._stopping.wait(POLL)
            else:
                return

    def _is_to_stop(self) -> bool:
        if not self._stopping.is_set() and stop_time(self.run_dir, self.key) != self._asked_to_stop:
            log.info("told to stop; what %s lacks waits for rankzero sync", self.key)
            self.stop()
        return self._stopping.is_set()

    def _read(self) -> bool:
        while not self._pending and self._read_on():
            pass
        return bool(self._pending)

    def _read_on(self) -> bool:
        lines = self._tail.read(self._batch_bytes)
        decoded = ((line, line.decode()) for line in lines)
        self._pending.extend(_Item(line, self._allowed(event)) for line, event in decoded if event is not None)
        return bool(lines)

    def _allowed(self, event: AnyEvent) -> AnyEvent:
        return event if self._is_own or not isinstance(event, Checkpoint) else event.without_source()

    # One attempt: hand over, have it acknowledged, save the position

    def _attempt(self) -> None:
        if not self._pending:  # all that failed the last time was to save the position
            self._position.problem = None
            save_position(self.run_dir, self.key, self._position)
            return
        if self._doubted:
            self._try_past_doubted()
            return
        logger = self.logger or self._open()
        handed, self._postponed = self._postponed, []
        failure: Exception | None = None
        unit: list[_Item] = []
        for unit in self._units(logger, len(handed)):
            try:
                self._hand_over(logger, unit)
            except Exception as error:
                failure = error
                break
            handed += unit
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
                self._read_on()
                return
            except Exception as error:  # any of them may be to blame
                self._failed(error, handed)
                return
            if any(item.event.is_for(logger) for item in handed):  # what opens late is open now
                self._ask_how_to_view(logger)
        if handed:
            self._acknowledged(handed)
        if failure is not None:
            self._failed(failure, unit)

    def _units(self, logger: Logger, first: int) -> Iterator[list[_Item]]:
        """Yield what is to be handed over before the next flush, neighbouring metrics together if the logger batches.

        The ``first`` of the pending events are left out: they are handed over already.

        What a logger is not told does not part its metrics.

        A Finish comes alone: everything before it is to be acknowledged first, and what follows belongs to a
        resumed run, which wants the logger opened anew.
        """
        # Of events that were refused together one half is tried, and so on until the one to blame stands alone.
        items = list(islice(self._pending, first, max(1, self._suspects // 2) if self._suspects else None))
        items = items[: _end_of_files(items)]
        finish = next((index for index, item in enumerate(items) if isinstance(item.event, Finish)), len(items))
        takes_batches = type(logger).log_metrics_batch is not Logger.log_metrics_batch
        unit: list[_Item] = []
        untold: list[_Item] = []
        for item in items[: max(1, finish)]:
            is_batch = takes_batches and bool(unit) and isinstance(unit[0].event, Metrics)
            if is_batch and not item.event.is_for(logger):
                untold.append(item)
                continue
            if is_batch and isinstance(item.event, Metrics):
                unit += [*untold, item]
            else:
                yield from filter(None, [unit, *([each] for each in untold)])
                unit = [item]
            untold = []
        yield from filter(None, [unit, *([each] for each in untold)])

    def _finish_after(self, handed: list[_Item], logger: Logger) -> _Item | None:
        """Return the Finish that comes next, if there is one and no flush is needed before it."""
        if not logger.finalize_acknowledges or self._suspects or len(handed) == len(self._pending):
            return None
        following = self._pending[len(handed)]
        return following if isinstance(following.event, Finish) else None

    def _hand_over(self, logger: Logger, unit: list[_Item], *, is_late: bool = False) -> None:
        if len(unit) > 1:
            logger.log_metrics_batch([i.event.row(i.line.number) for i in unit if isinstance(i.event, Metrics)])
            return
        line, event = unit[0]
        context = event.context(line.number)
        counts_lines = type(logger).watermark is not Logger.watermark
        if is_late and counts_lines:  # having a later line, it would leave this one out; others know events by lines
            context = msgspec.structs.replace(context, line=None)
        with logger.at(context):  # for all events: a logger may keep count of the lines
            if isinstance(event, Finish):
                self._end(logger, event.status)
            elif event.is_for(logger):
                self._check_files(event)
                event.hand_to(logger, self.run_dir)
        if isinstance(event, Checkpoint):
            self._sweeper.note(line.number, event)  # a Finish that comes before the next flush is to know of it

    def _check_files(self, event: AnyEvent) -> None:
        try:
            check_files(self.run_dir, event.paths)
        except (UnsafePathError, NotAFileError) as error:
            raise RejectedError(str(error)) from error

    def _acknowledged(self, items: list[_Item]) -> None:
        for _ in items:
            self._pending.popleft()
        self._suspects = max(0, self._suspects - len(items))
        self._failures = 0
        self._doubted.clear()
        line, event = items[-1]
        self._position.offset, self._position.line = line.end, line.number + 1
        self._position.problem = None
        for item in items:
            if isinstance(item.event, Start | Finish):
                self._position.status = item.event.status if isinstance(item.event, Finish) else None
        self._position.closed = isinstance(event, Finish)
        if self._position.closed:
            self._closed_at = self._position.line
        save_position(self.run_dir, self.key, self._position)
        for line, event in items:
            if isinstance(event, Checkpoint):
                self._sweeper.delivered(line.number, event)
        if self._position.closed:
            self._sweeper.sweep()

    # Failures

    def _failed(self, error: Exception, unit: list[_Item]) -> None:
        """Find out which event is to blame and reject it, or else raise ``error`` so that it is tried again."""
        if not may_be_rejection(error):
            self._failures = 0
            self._doubted.clear()
            raise error
        if len(unit) > 1:
            self._suspects = len(unit)
        elif isinstance(error, RejectedError) and not self._doubted:
            self._reject([(unit[0], error)], unit)
        else:
            self._doubt(error, unit[0])

    def _doubt(self, error: Exception, item: _Item) -> None:
        """Count a failure of one event; once there were enough, it is retried together with what follows it."""
        self._failures += 1
        if self._failures < _TRIES and not isinstance(error, RejectedError):
            raise error
        self._failures = 0
        self._doubted.add(item.line.number)
        if len(self._doubted) > _MOST_DOUBTED:
            raise error

    def _try_past_doubted(self) -> None:
        """Retry the doubted events, then try the next: if it is taken, the tracker was not what made them fail.

        An outage may end on the way, so what was refused before an event was taken is retried once more.
        """
        refused: list[tuple[_Item, Exception]] = []
        number = 0
        while item := self._pending_item(number):
            if (logger := self._open_here()) is None:
                return
            number += 1
            if isinstance(item.event, Finish) and not _tells_of_the_end(logger):
                raise refused[-1][1]  # nothing shows whether the tracker takes anything
            if not (item.event.is_for(logger) or isinstance(item.event, Finish)):
                continue  # it shows nothing
            try:
                self._deliver_alone(logger, item)
            except Exception as error:
                self._drop_logger()  # it may still hold a part of the event
                if not may_be_rejection(error) or item.line.number not in self._doubted:
                    self._failed(error, [item])
                    return
                refused.append((item, error))
            else:
                still_refused = self._retry_once(refused)
                if isinstance(item.event, Finish):
                    self._hand_over(self.logger or self._open(believes=False), [item])
                self._reject(still_refused, list(islice(self._pending, number)))
                return
        if not self._is_writer_gone():
            raise refused[-1][1]  # wait for what will be logged next
        if (logger := self._open_here()) is None:
            return
        if not _tells_of_the_end(logger):
            raise refused[-1][1]
        self._end(logger, self._position.status or "crashed")
        self._reject(self._retry_once(refused), list(self._pending))

    def _retry_once(self, refused: list[tuple[_Item, Exception]]) -> list[tuple[_Item, Exception]]:
        """Deliver what was refused before the tracker took a later event; return what it refuses again."""
        again: list[tuple[_Item, Exception]] = []
        for item, _ in refused:
            try:
                self._deliver_alone(self.logger or self._open(believes=False), item, is_late=True)
            except Exception as error:
                self._drop_logger()
                if not may_be_rejection(error):
                    self._failed(error, [item])
                again.append((item, error))
        return again

    def _pending_item(self, number: int) -> _Item | None:
        while number >= len(self._pending) and self._read_on():
            pass
        return self._pending[number] if number < len(self._pending) else None

    def _deliver_alone(self, logger: Logger, item: _Item, *, is_late: bool = False) -> None:
        self._hand_over(logger, [item], is_late=is_late)
        if self.logger is None:  # it was a Finish
            return
        try:
            logger.flush()
        except FlushPostponedError:  # raised once for each flush
            logger.flush()

    def _reject(self, refused: list[tuple[_Item, Exception]], items: list[_Item]) -> None:
        """Reject some of the first pending events; the others of ``items`` are delivered."""
        for item, error in refused:
            self._set_aside(item.line.number, item.line.data, error)
        self._acknowledged(items)
        for _, error in refused:
            self._tell(error, retrying=False)

    def _set_aside(self, line: int, event: bytes, error: Exception) -> None:
        reason = self._describe(error)
        log.error("%s refused line %d of the journal for good: %s", self.key, line + 1, reason)
        entry = {"time": time.time(), "line": line, "reason": reason, "event": msgspec.Raw(event)}
        with open_own(reject_list(self.run_dir, self.key), "ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        self._position.rejected += 1

    def _retrying(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            wait=_pause,
            stop=self._gives_up,
            sleep=self._sleep,
            before_sleep=self._before_retry,
            retry_error_callback=self._give_up,
        )

    def _sleep(self, seconds: float) -> None:
        """Wait before the next try, unless somebody is waiting for it, or is going to do it instead.

        Once the run is over people look for it in the tracker, so the pauses are shorter, also that which has begun.
        """
        began = time.monotonic()
        short = max(min(seconds, 1.0), seconds * _LONGEST_PAUSE_AT_END / _LONGEST_PAUSE)

        def rest() -> float:
            return began + (short if self._is_writer_gone() else seconds) - time.monotonic()

        while (remaining := rest()) > 0 and wake_time(self.run_dir, self.key) == self._woken:
            if self._is_to_stop() or self._stopping.wait(min(remaining, POLL)):
                return
        self._woken = wake_time(self.run_dir, self.key)

    def _before_retry(self, state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        if state.attempt_number >= _TRIES_BEFORE_REOPENING:
            self._drop_logger()
        self._say_problem(error)
        self._tell(error, retrying=True)

    def _gives_up(self, state: tenacity.RetryCallState) -> bool:
        return (
            self._stopping.is_set()
            or self._failed_makings >= _TRIES
            or (not self._retries_access and isinstance(_error_of(state), AccessError))
            or (self._is_writer_gone() and time.monotonic() - (self._gone_since or 0) > self._grace_period)
        )

    def _give_up(self, state: tenacity.RetryCallState) -> None:
        error = _error_of(state)
        self._say_problem(error)
        if self._stopping.is_set():
            return
        self._tell(error, retrying=False)
        raise GaveUpError(
            f"{self.key} could not take the rest of the run: {self._describe(error)}. "
            f"Nothing is lost; deliver it later with: rankzero sync {shlex.quote(str(self.run_dir))} --to {self.key}"
        ) from error

    def _say_problem(self, error: Exception) -> None:
        problem = self._describe(error)
        if problem != self._position.problem:
            log.warning("%s cannot take events now, and they wait in the journal: %s", self.key, problem)
        self._position.problem = problem
        with suppress(OSError):  # the disk may be what is in trouble
            save_position(self.run_dir, self.key, self._position)

    def _tell(self, error: Exception, retrying: bool) -> None:
        if self._on_failure is not None:
            self._on_failure(self._run_info, self.key, error, retrying)

    def _describe(self, error: Exception) -> str:
        return scrub(f"{type(error).__name__}: {error}".removesuffix(": "), self._secrets)

    # Opening and closing

    def _open(self, *, believes: bool = True) -> Logger:
        """Open a logger, and go where its watermark says if that is to be believed."""
        self._postponed = []
        logger = self._made()
        logger.attach(self._run_info)
        watermark = self._believe(logger.watermark()) if believes else None
        if watermark is not None and watermark != self._position.line:
            log.info("%s holds %d lines of the journal; going there", self.key, watermark)
            self._pending.clear()
            self._suspects = self._failures = 0
            self._doubted.clear()
            if watermark > self._position.line:
                self._position.status = self._status_before(watermark)
            self._tail.seek_line(watermark)
            self._position.offset, self._position.line = self._tail.offset, self._tail.line
        self.logger = logger
        self._batch_bytes = logger.batch_bytes
        self._position.offline, self._position.disabled = logger.is_offline, logger.is_disabled
        self._is_view_asked = False
        return logger

    def _open_here(self) -> Logger | None:
        """Return the open logger; None if its watermark sent us to another place of the journal."""
        line = self._position.line
        logger = self.logger or self._open()
        return logger if self._position.line == line else None

    def _made(self) -> Logger:
        try:
            return self._make_logger()
        except Exception as error:
            self._failed_makings += is_data_error(error)
            raise

    def _believe(self, watermark: object) -> int | None:
        """Return the watermark if it can be true."""
        if watermark is None:
            return None
        if type(watermark) is not int or not 0 <= watermark <= self._lines():
            log.warning("%s.watermark() returned %r, which is no number of lines in the journal", self.key, watermark)
            return None
        return max(watermark, self._closed_at)

    def _lines(self) -> int:
        end = Tail(self.run_dir / JOURNAL, self._tail.offset, self._tail.line)
        try:
            while end.read():
                pass
            return end.line
        finally:
            end.close()

    def _status_before(self, line: int) -> str | None:
        events = (event for each, event in read_events(self.run_dir / JOURNAL) if each.number < line)
        ends = [event for event in events if isinstance(event, Start | Finish)]
        return ends[-1].status if ends and isinstance(ends[-1], Finish) else None

    def _ask_how_to_view(self, logger: Logger) -> None:
        """Ask the open logger, once; its answer is saved with the position. Whatever it does, delivery goes on."""
        if self._is_view_asked:
            return
        self._is_view_asked = True
        try:
            view = logger.how_to_view()
            self._position.view = scrub(" ".join(view.split()), self._secrets) if view else None
        except Exception as error:
            log.debug("%s.how_to_view() failed: %s", self.key, self._describe(error))

    def _upload_what_is_left(self, logger: Logger) -> list[tuple[int, Checkpoint, Exception]]:
        """Upload what a ModelCheckpoint has left; return what was refused: the run is to be closed all the same."""
        refused: list[tuple[int, Checkpoint, Exception]] = []
        for line, checkpoint in self._sweeper.left():
            try:
                self._check_files(checkpoint)
                checkpoint.upload(logger, self.run_dir)
            except Exception as error:
                self._failed_uploads[line] += may_be_rejection(error)
                if not isinstance(error, RejectedError) and self._failed_uploads[line] < _TRIES:
                    raise
                refused.append((line, checkpoint, error))
        return refused

    def _end(self, logger: Logger, status: str) -> None:
        refused = self._upload_what_is_left(logger) if logger.log_model is True else []
        logger.finalize(status)
        logger.flush()
        for line, checkpoint, error in refused:
            self._set_aside(line, encode(checkpoint).rstrip(), error)
        self._ask_how_to_view(logger)
        logger.close()
        self.logger = None

    def _drop_logger(self) -> None:
        if self.logger is not None:
            with suppress(Exception):  # it is broken, or done with; what counts is acknowledged
                self.logger.close()
        self.logger = None

    def _is_writer_gone(self) -> bool:
        state = writer_state(self.run_dir)
        if state is Writer.ALIVE:
            self._seen_alive = True
            self._gone_since = None
            return False
        rested = time.time() - (self.run_dir / JOURNAL).stat().st_mtime
        if state is Writer.UNKNOWN and not self._seen_alive and rested < self._dead_after:
            return False
        if self._gone_since is None:
            self._gone_since = time.monotonic()
        return True

    def _close(self) -> None:
        """Close a run that got nothing after it ended, or whose process died without ending it."""
        if self._read():  # written between the last look and the writer's death
            return
        if self._position.status is None:
            log.warning("the process that wrote %s died without finishing the run", self.run_dir)
        self._retrying()(self._finalize)

    def _finalize(self) -> None:
        if (logger := self._open_here()) is None:
            return
        self._position.status = self._position.status or "crashed"
        self._end(logger, self._position.status)
        self._position.closed = True
        self._position.problem = None
        save_position(self.run_dir, self.key, self._position)
        self._sweeper.sweep()


def _end_of_files(items: Sequence[_Item]) -> int:
    """Return how many of some events hold as many files as are to be sent before a flush."""
    with_files = [index for index, item in enumerate(items) if item.event.has_files]
    return with_files[_MOST_FILES] if len(with_files) > _MOST_FILES else len(items)


def _tells_of_the_end(logger: Logger) -> bool:
    """Return whether a `finalize` that succeeds says something of the tracker: the inherited one does nothing."""
    return logger.finalize_acknowledges or type(logger).finalize is not Logger.finalize


def _pause(state: tenacity.RetryCallState) -> float:
    """Return for how many seconds to wait before the next try."""
    longest = min(_LONGEST_PAUSE, 0.25 * 2 ** min(state.attempt_number, 10))
    return _jitter.uniform(0.1, longest)


def _error_of(state: tenacity.RetryCallState) -> Exception:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Exception)
    return error
