"""Sync jobs: deliver a run to one logger now, with a courier in a thread of this process.

If another courier already serves the logger, the job wakes and watches that one, and takes over if it makes no
progress.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rankzero.config.prepared import PreparedLogger, prepare, verify
from rankzero.config.resolving import resolve
from rankzero.delivery.courier import GaveUpError, make_courier
from rankzero.errors import ConfigError, DeliveryError, RankzeroError
from rankzero.files.writing import lock_permissions
from rankzero.journal.tail import count_damaged, read_start
from rankzero.loggers.base import Logger
from rankzero.rank import RANK_VARIABLES, is_rank_zero
from rankzero.rundir.finding import Delivered, complete_size, delivered, find_run
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import (
    Position,
    ask_to_stop,
    courier_lock,
    describe_rejected,
    is_served,
    load_position,
    set_aside,
    wake,
)
from rankzero.rundir.writer_lock import Writer, writer_state

TIMEOUT = 60.0
"""For how many seconds a tracker may be unavailable before a job gives up."""

_HANGING = 600.0  # seconds without an answer from the SDK, which may be uploading something large
_LAST_BATCH = 10.0  # seconds for the current batch when a job is stopped
_POLL = 0.1
_WAKE_EVERY = 2.0  # seconds between two retries of a tracker that is unavailable
_TAKE_OVER_AFTER = 5.0  # seconds without progress after a courier was woken
_FOREVER = 1e9


def act_as_rank_zero() -> None:
    """Remove inherited environment variables of a launcher: on other ranks a Logger does nothing."""
    for variable in RANK_VARIABLES:
        os.environ.pop(variable, None)


class LoginCheck:
    """Checks the login at each tracker once, before anything is sent."""

    def __init__(self) -> None:
        self._asked: list[tuple[object, dict[str, Any], str | None]] = []

    def check(self, run_dir: Path, prepared: PreparedLogger, *, again: bool = False) -> None:
        """Check the login, unless there is nothing to send or another courier is sending it.

        Args:
            run_dir: the run's directory.
            prepared: the logger to deliver to.
            again: whether to send the run again, even if it is completely delivered.

        Raises:
            ConfigError: the tracker rejects the login, or the logger its options.
        """
        state = delivered(run_dir, [prepared.key])[prepared.key]
        if is_served(run_dir, prepared.key) or (state.is_complete and not again):
            return
        refusal = next((why for *asked, why in self._asked if asked == [prepared.kind, prepared.options]), ...)
        if refusal is ...:
            refusal = _refusal(prepared)
            self._asked.append((prepared.kind, prepared.options, refusal))
        if refusal is not None:
            raise ConfigError(f"{prepared.source}: {refusal}")


def _refusal(prepared: PreparedLogger) -> str | None:
    try:
        verify(prepared)
    except ConfigError as error:
        return str(error).removeprefix(f"{prepared.source}: ")
    return None


def reset_position(run_dir: Path, key: str) -> None:
    """Reset the position of a logger, so that the run is delivered to it again; the old position is kept in a file.

    Raises:
        DeliveryError: a courier is delivering the run to the logger.
    """
    try:
        with FileLock(courier_lock(run_dir, key), timeout=0, mode=lock_permissions()):
            set_aside(run_dir, key)
    except Timeout:
        who = _deliverer(load_position(run_dir, key))
        raise DeliveryError(f"{who} delivers {run_dir} to {key} now; it can be sent again when that is over") from None


def deliver(
    run_dir: str | os.PathLike[str], logger: Logger, *, key: str | None = None, timeout: float = TIMEOUT
) -> None:
    """Deliver a run to a logger object, as ``rankzero sync`` does to a logger with a name.

    Events that were delivered under the same key before are not sent again. On other ranks than zero it does nothing.

    Args:
        run_dir: the run's directory.
        logger: your logger; a copy is made with the arguments of its constructor.
        key: the key of the position in the run's directory; by default the same as for ``start([logger])``. Each
            destination needs its own key.
        timeout: for how many seconds the tracker may be unavailable.

    Raises:
        RunNotFoundError: there is no run in the directory.
        DeliveryError: the tracker was unavailable, and events are left to deliver; or it rejected events.
    """
    if not is_rank_zero():
        return
    spec = resolve([logger]).loggers[0]
    spec.key = key or spec.key
    path = find_run(os.fspath(run_dir), Path(run_dir))
    job = SyncJob(path, verify(prepare(spec)).for_process(), timeout=timeout)
    try:
        while not job.poll():
            time.sleep(_POLL)
    finally:
        job.stop()
        job.join()
    if why := job.shortfall:
        raise DeliveryError(f"{job.title}: not all of it is delivered: {why}")
    if why := job.rejection:
        raise DeliveryError(f"{job.run_name}: {why}")


class SyncJob:
    """The delivery of one run to one logger; call `poll` until it returns True.

    Args:
        run_dir: the run's directory.
        prepared: the logger.
        follow: continue until the run has ended; otherwise deliver only the existing events.
        timeout: for how many seconds the tracker may be unavailable; None means no limit.
    """

    def __init__(
        self, run_dir: Path, prepared: PreparedLogger, *, follow: bool = False, timeout: float | None = TIMEOUT
    ) -> None:
        self.run_dir = run_dir
        self.key = prepared.key
        start = read_start(self.run_dir / JOURNAL)
        self.run_id = start.run.id if start else self.run_dir.name
        """The id of the run."""
        self.run_name = start.run.name if start else self.run_dir.name
        """The name of the run."""
        self.title = f"{self.run_name} → {self.key}"
        """The names of the run and the logger, for messages."""
        self.error: str | None = None
        """Why the job ended early; None if it did not."""
        self.is_elsewhere = False
        """Whether another courier serves the logger."""
        self._has_taken_over = False
        self._goes_online = prepared.online
        self._follow = follow
        self._timeout = timeout
        self._began = time.time()
        self._at_first = self._seen = _progress(self.position)
        self._seen_at = self._wake_at = time.monotonic()
        self._failing_since: float | None = None
        self._target = complete_size(self.run_dir)
        self._stopped_at: float | None = None
        self._courier = make_courier(
            run_dir,
            prepared,
            follow=follow,
            grace_period=_FOREVER,
            retries_access=timeout is None,
            is_own=start is not None and start.is_own(run_dir),
        )
        self._thread = threading.Thread(target=self._run, name=f"rankzero-{self.key}", daemon=True)

    @property
    def position(self) -> Position:
        """The current position."""
        return load_position(self.run_dir, self.key)

    @property
    def target(self) -> int:
        """The number of bytes of the journal to deliver."""
        if self._follow:
            self._target = complete_size(self.run_dir)
        return self._target

    @property
    def delivered(self) -> Delivered:
        """The state of the delivery now."""
        position = self.position
        behind = max(0, self.target - position.offset)
        return Delivered(self.run_dir, position, behind, is_retried=self.is_elsewhere)

    def poll(self) -> bool:
        """Start the courier if no other serves the logger, stop it if it hangs; return whether the job is done."""
        if self._thread.ident is None:
            self.is_elsewhere = is_served(self.run_dir, self.key)
            if self.is_elsewhere:
                return not self._follow and self._watch()
            if self._goes_online and self.position.offline:  # an offline logger has sent nothing to the tracker
                set_aside(self.run_dir, self.key)
                self._at_first = _progress(self.position)
            self._thread.start()
        elif not self._thread.is_alive():
            return True
        elif self._stopped_at is not None:
            return time.monotonic() - self._stopped_at > _LAST_BATCH  # the SDK hangs
        self._give_up_after_timeout()
        return False

    def stop(self) -> None:
        """Stop the courier after the batch that it is sending."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        self._courier.stop()

    def join(self) -> None:
        """Wait until the courier has stopped, a few seconds at most."""
        if self._thread.ident is not None and self._stopped_at is not None:
            self._thread.join(max(0.0, self._stopped_at + _LAST_BATCH - time.monotonic()))

    @property
    def failure(self) -> str | None:
        """Why the job ended early, or is retrying; None if nothing is wrong."""
        return " ".join((self.error or self.position.problem or "").split()) or None

    @property
    def shortfall(self) -> str | None:
        """Why the delivery is not complete; None if it is."""
        if not (self.error or self.delivered.bytes_behind):
            return None
        why = self.failure or "interrupted"
        if self._has_taken_over and self._thread.ident is not None:
            why += (
                "; the courier that went on in the background has ended, and nothing is retried now: "
                f"run rankzero sync again when {self.key} takes events"
            )
        return why

    @property
    def rejection(self) -> str | None:
        """A sentence about rejected events; None if there are none."""
        count = self.position.rejected
        return describe_rejected(self.run_dir, self.key, count) if count else None

    @functools.cached_property
    def damage(self) -> str | None:
        """A sentence about unreadable lines of the journal; None if there are none."""
        count = count_damaged(self.run_dir / JOURNAL)
        if not count:
            return None
        lines, were = ("line", "was") if count == 1 else ("lines", "were")
        return (
            f"{count:,} {lines} of the journal {were} left out, damaged or written by a newer version of rankzero; "
            "what could be read is delivered"
        )

    @property
    def had_all(self) -> bool:
        """Whether the run was completely delivered before."""
        return _progress(self.position) == self._at_first

    def _run(self) -> None:
        try:
            self._courier.run()
        except (GaveUpError, RankzeroError, OSError) as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _watch(self) -> bool:
        """Wake and watch the courier of another process; return whether the job is done or gives up."""
        if not self.delivered.bytes_behind:
            return True
        position, now = self.position, time.monotonic()
        is_stuck = position.problem and now - self._seen_at > _TAKE_OVER_AFTER
        if is_stuck and writer_state(self.run_dir) is not Writer.ALIVE:
            self._has_taken_over = True
            ask_to_stop(self.run_dir, self.key)  # it may have a wrong password, unlike this job
        if now >= self._wake_at:
            wake(self.run_dir, self.key)
            self._wake_at = now + _WAKE_EVERY
        if _progress(position) != self._seen:
            self._seen, self._seen_at = _progress(position), now
        if self._timeout is None or now - self._seen_at <= self._timeout:
            return False
        if position.problem:
            self.error = f"{_deliverer(position)} delivers it, and continues to retry: {position.problem}"
        elif now - self._seen_at > _HANGING:
            self.error = f"{_deliverer(position)} delivers it, and has made no progress for {now - self._seen_at:.0f} s"
        return self.error is not None

    def _give_up_after_timeout(self) -> None:
        if self._timeout is None:
            return
        position, now = self.position, time.time()
        if not position.problem or position.updated < self._began:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        is_failing = self._failing_since is not None and now - self._failing_since > self._timeout
        silence = now - max(position.updated, self._began)
        if is_failing:
            self.error = position.problem
            self.stop()
        elif silence > max(self._timeout, _HANGING):
            self.error = f"no answer from the tracker for {silence:.0f} s; give it longer with --timeout"
            self.stop()


def _progress(position: Position) -> tuple[int, bool]:
    return position.offset, position.closed


def _deliverer(position: Position) -> str:
    return f"process {position.pid} on {position.host}" if position.pid else "another process"
