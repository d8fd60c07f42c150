"""The supervisor of a run's couriers, in the training process: starts, restarts and waits for them."""

from __future__ import annotations

import logging
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rankzero.delivery.waiting_progress import WaitingProgress
from rankzero.journal.opening import open_journal
from rankzero.messages import reason
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import Position, describe_rejected, load_position, wake

log = logging.getLogger("rankzero")

_POLL = 0.02
_WAKE_EVERY = 2.0
"""Seconds between two retries of a tracker that does not answer, while the training process waits."""
_WARN_AFTER = 3.0
"""Seconds before a warning about a tracker that is unavailable: most outages are over by then."""


class BackgroundCourier(Protocol):
    """A courier in the background: see `rankzero.delivery.background`."""

    @property
    def outlives(self) -> bool:
        """Whether the courier continues after this process ends."""

    @property
    def death(self) -> str | None:
        """Why it died; None if it did not."""

    def is_running(self) -> bool:
        """Return whether the courier is running."""

    def may_restart(self) -> bool:
        """Return whether the courier died and may be restarted."""

    def restart(self) -> bool:
        """Restart the courier if it died; return whether it had died."""

    def release(self) -> None:
        """Detach or stop the courier because the run has ended."""


class Supervisor:
    """Starts the couriers of one run, and waits for them."""

    def __init__(self, run_dir: Path, down_timeout: float) -> None:
        self._run_dir = run_dir
        self._down_timeout = down_timeout
        self._began = time.time()
        self._restarter: threading.Thread | None = None
        self._couriers: dict[str, BackgroundCourier] = {}
        self._failing_since: dict[str, float] = {}  # key → time.monotonic()
        self._warned: set[str] = set()

    def start(self, key: str, start: Callable[[], BackgroundCourier]) -> None:
        """Start the courier of one logger by calling ``start``."""
        try:
            self._couriers[key] = start()
        except OSError as error:
            log.warning(
                "no courier could be started for %s (%s); deliver to it with: rankzero sync %s --to %s",
                key, error, shlex.quote(str(self._run_dir)), key,
            )  # fmt: skip

    def get(self, key: str) -> BackgroundCourier | None:
        """Return the courier of one logger."""
        return self._couriers.get(key)

    def restart(self) -> bool:
        """Restart couriers that died, each a few times at most; return whether any had died."""
        restarted = [courier.restart() for courier in self._couriers.values()]  # any() would stop at the first
        return any(restarted)

    def restart_soon(self) -> None:
        """Call `restart` in a thread, because starting a process takes milliseconds."""
        is_busy = self._restarter is not None and self._restarter.is_alive()
        if not is_busy and any(courier.may_restart() for courier in self._couriers.values()):
            self._restarter = threading.Timer(_POLL, self.restart)  # delayed, so that the caller keeps the interpreter
            self._restarter.daemon = True
            self._restarter.start()

    def report_troubles(self) -> None:
        """Log a warning once for each outage of a tracker, and a message when it is over."""
        now = time.monotonic()
        for key, courier in self._couriers.items():
            if not courier.outlives:
                continue  # a courier in this process logs its own warnings
            problem = self._problem(load_position(self._run_dir, key))
            if problem is None:
                self._failing_since.pop(key, None)
                if key in self._warned:
                    self._warned.discard(key)
                    log.info("%s takes events again", key)
            elif now - self._failing_since.setdefault(key, now) >= _WARN_AFTER and key not in self._warned:
                self._warned.add(key)
                log.warning(
                    "%s takes no events now; they wait in the journal while training continues: %s",
                    key,
                    reason(problem),
                )

    def _problem(self, position: Position) -> str | None:
        """Return why a tracker accepts no events now, according to the couriers of this process; None if it does."""
        return position.problem if position.updated >= self._began else None

    def wait(self, target: int, timeout: float, *, until_closed: bool = False, even_if_down: bool = False) -> bool:
        """Wait until every courier has delivered ``target`` bytes of the journal.

        Args:
            target: a byte offset in the journal.
            timeout: in seconds.
            until_closed: wait also until the couriers have closed the run and ended.
            even_if_down: wait longer than ``down_timeout`` for a tracker that is unavailable.

        Returns:
            Whether the delivery was complete within ``timeout``.
        """
        deadline = time.monotonic() + timeout
        with WaitingProgress(list(self._couriers), target, is_end=until_closed) as progress:
            wake_at = time.monotonic()
            down = {key: _Outage() for key in self._couriers}
            down_timeout = math.inf if even_if_down else self._down_timeout
            while time.monotonic() < deadline:
                is_time_to_wake = time.monotonic() >= wake_at
                wake_at += _WAKE_EVERY if is_time_to_wake else 0.0
                missing = 0
                self.restart()
                for key, courier in self._couriers.items():
                    position = load_position(self._run_dir, key)
                    progress.show(key, position.offset, position.problem)
                    problem = self._problem(position)
                    if is_time_to_wake and problem:
                        wake(self._run_dir, key)
                    is_done = position.offset >= target and not (until_closed and courier.is_running())
                    is_given_up = down[key].seconds(position, problem) >= down_timeout
                    goes_on = courier.is_running() or courier.may_restart()
                    missing += not is_done and not is_given_up and goes_on
                if not missing:
                    break
                time.sleep(_POLL)
        return all(load_position(self._run_dir, key).offset >= target for key in self._couriers)

    def views(self) -> dict[str, str]:
        """Return how to view the run, by logger."""
        found = {key: load_position(self._run_dir, key).view for key in self._couriers}
        return {key: view for key, view in found.items() if view}

    def offline(self) -> list[str]:
        """Return the keys of the loggers that are offline."""
        return [key for key in self._couriers if load_position(self._run_dir, key).offline]

    def is_running(self) -> bool:
        """Return whether a courier is running."""
        running = [courier.is_running() for courier in self._couriers.values()]  # each is asked: that reaps it
        return any(running)

    def release(self, target: int, *, was_waited_for: bool = True) -> list[str]:
        """Release the couriers; return sentences about events that are not delivered or were rejected.

        Args:
            target: the size of the journal.
            was_waited_for: whether the couriers had time for the last events; if not, it is normal that they go on.
        """
        sentences: list[str] = []
        for key, courier in self._couriers.items():
            position = load_position(self._run_dir, key)
            is_running = courier.is_running()
            position.problem = courier.death or position.problem
            courier.release()
            sentences += _describe_undelivered(
                self._run_dir, key, position, target, is_running and courier.outlives, was_waited_for
            )
        return sentences


class _Outage:
    """Measures how long a tracker has been failing while the training process waits for it."""

    def __init__(self) -> None:
        self._offset = -1
        self._since = self._failed_at = self._updated = 0.0

    def seconds(self, position: Position, problem: str | None) -> float:
        """Return the seconds from the first sight of the problem to the last failure; -1 if there is no problem.

        The time after the last failure does not count: the tracker may be back, and busy with the pending events.
        """
        if problem is None:
            self._offset = -1
            return -1.0
        now = time.monotonic()
        if position.offset != self._offset:
            self._offset, self._updated, self._since, self._failed_at = position.offset, position.updated, now, now
        elif position.updated != self._updated:
            self._updated, self._failed_at = position.updated, now
        return self._failed_at - self._since


def _describe_undelivered(
    run_dir: Path, key: str, position: Position, target: int, goes_on: bool, was_waited_for: bool
) -> Iterator[str]:
    if position.rejected:
        yield describe_rejected(run_dir, key, position.rejected)
    if position.offset >= target:
        return
    why = f" ({reason(position.problem)})" if position.problem else ""
    count = _count_lines(run_dir / JOURNAL, position.offset, target)
    events = f"{count:,} event{'s' * (count != 1)}"
    lacks = f"{key} lacks {events} of the run{why}. Nothing is lost"
    if goes_on and not was_waited_for and not position.problem:
        yield f"{key} gets the last {events} in the background, see: rankzero ps"
    elif goes_on:
        yield f"{lacks}: its courier continues in the background, see: rankzero ps"
    else:
        yield f"{lacks}; deliver the rest with: rankzero sync {shlex.quote(str(run_dir))}"


def _count_lines(path: Path, start: int, end: int) -> int:
    try:
        with open_journal(path) as file:
            file.seek(start)
            return file.read(end - start).count(b"\n")
    except OSError:
        return 0
