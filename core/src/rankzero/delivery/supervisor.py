"""The supervisor of a run's couriers, in the training process: start, restart and wait for them."""

from __future__ import annotations

import logging
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rankzero.config.prepared import PreparedLogger
from rankzero.delivery.waiting_progress import WaitingProgress
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import Position, describe_rejected, load_position, wake

log = logging.getLogger("rankzero")

_POLL = 0.02
_WAKE_EVERY = 2.0
"""Seconds between two tries of a tracker that does not answer, while somebody waits."""
_WARN_AFTER = 3.0
"""Seconds before a warning about a tracker that takes nothing: most are back by then."""


class BackgroundCourier(Protocol):
    """A courier beside the training: see `rankzero.delivery.background`."""

    @property
    def outlives(self) -> bool:
        """Whether it goes on when this process ends."""

    @property
    def death(self) -> str | None:
        """Why it does not run, None if that is as it should be."""

    def is_running(self) -> bool:
        """Return whether it goes on delivering."""

    def may_restart(self) -> bool:
        """Return whether it died, and may be started again."""

    def restart(self) -> bool:
        """Start it again if it died; return whether that was so."""

    def release(self) -> None:
        """Leave it, for the run has ended."""


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

    def start(self, prepared: PreparedLogger, start: Callable[[Path, PreparedLogger], BackgroundCourier]) -> None:
        """Start a courier for one logger; ``start`` does so for a run's directory."""
        try:
            self._couriers[prepared.key] = start(self._run_dir, prepared)
        except OSError as error:
            log.warning(
                "no courier could be started for %s (%s); deliver to it with: rankzero sync %s --to %s",
                prepared.key, error, shlex.quote(str(self._run_dir)), prepared.key,
            )  # fmt: skip

    def get(self, key: str) -> BackgroundCourier | None:
        """Return the courier of one logger."""
        return self._couriers.get(key)

    def restart(self) -> bool:
        """Start couriers that died again, a few times; return whether there was one."""
        restarted = [courier.restart() for courier in self._couriers.values()]  # all of them, not up to the first
        return any(restarted)

    def restart_soon(self) -> None:
        """Do the same in a thread, without waiting for it: to start a process takes milliseconds."""
        is_busy = self._restarter is not None and self._restarter.is_alive()
        if not is_busy and any(courier.may_restart() for courier in self._couriers.values()):
            self._restarter = threading.Timer(_POLL, self.restart)  # not while the caller waits for the interpreter
            self._restarter.daemon = True
            self._restarter.start()

    def report_troubles(self) -> None:
        """Warn once of a tracker that takes nothing, and say when it does again."""
        now = time.monotonic()
        for key, courier in self._couriers.items():
            if not courier.outlives:
                continue  # a courier in this process speaks for itself
            problem = self._problem(load_position(self._run_dir, key))
            if problem is None:
                self._failing_since.pop(key, None)
                if key in self._warned:
                    self._warned.discard(key)
                    log.info("%s takes events again", key)
            elif now - self._failing_since.setdefault(key, now) >= _WARN_AFTER and key not in self._warned:
                self._warned.add(key)
                log.warning(
                    "%s takes no events now, which wait in the journal while training goes on: %s", key, problem
                )

    def _problem(self, position: Position) -> str | None:
        """Return why a tracker takes nothing now, as far as the couriers of this process found out."""
        return position.problem if position.updated >= self._began else None

    def wait(self, target: int, timeout: float, *, until_closed: bool = False, even_if_down: bool = False) -> bool:
        """Wait until every courier has delivered ``target`` bytes of the journal.

        Args:
            target: a byte offset in the journal.
            timeout: in seconds.
            until_closed: wait until the couriers have closed the run and ended, too.
            even_if_down: wait for a tracker that takes nothing, too, for longer than ``down_timeout``.

        Returns:
            Whether that was so within ``timeout``.
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
                    progress.show(key, position)
                    problem = self._problem(position)
                    if is_time_to_wake and problem:
                        wake(self._run_dir, key)
                    is_done = position.offset >= target and not (until_closed and courier.is_running())
                    is_hopeless = down[key].seconds(position, problem) >= down_timeout
                    goes_on = courier.is_running() or courier.may_restart()
                    missing += not is_done and not is_hopeless and goes_on
                if not missing:
                    break
                time.sleep(_POLL)
        return all(load_position(self._run_dir, key).offset >= target for key in self._couriers)

    def views(self) -> dict[str, str]:
        """Return how a person views the run, for each logger that knows."""
        found = {key: load_position(self._run_dir, key).view for key in self._couriers}
        return {key: view for key, view in found.items() if view}

    def offline(self) -> list[str]:
        """Return the loggers that keep the run on this machine."""
        return [key for key in self._couriers if load_position(self._run_dir, key).offline]

    def release(self, target: int) -> list[str]:
        """Let the couriers go on by themselves; return sentences about what is not delivered, or was rejected."""
        sentences: list[str] = []
        for key, courier in self._couriers.items():
            position = load_position(self._run_dir, key)
            is_running = courier.is_running()
            position.problem = courier.death or position.problem
            courier.release()
            sentences += _what_is_left(self._run_dir, key, position, target, is_running and courier.outlives)
        return sentences


class _Outage:
    """For how long a tracker has failed again and again, while somebody waits for it."""

    def __init__(self) -> None:
        self._offset = -1
        self._since = self._failed_at = self._updated = 0.0

    def seconds(self, position: Position, problem: str | None) -> float:
        """Return how long after the problem was seen first the last failure came; -1 if there is no problem.

        A tracker that is back needs time to take what waits, in which the courier reports nothing.
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


def _what_is_left(run_dir: Path, key: str, position: Position, target: int, goes_on: bool) -> Iterator[str]:
    if position.rejected:
        yield describe_rejected(run_dir, key, position.rejected)
    if position.offset >= target:
        return
    why = f" ({position.problem})" if position.problem else ""
    count = _count_lines(run_dir / JOURNAL, position.offset, target)
    lacks = f"{key} lacks {count:,} event{'s' * (count != 1)} of the run{why}. Nothing is lost"
    if goes_on:
        yield f"{lacks}: its courier goes on in the background, see: rankzero ps"
    else:
        yield f"{lacks}; deliver the rest with: rankzero sync {shlex.quote(str(run_dir))}"


def _count_lines(path: Path, start: int, end: int) -> int:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start).count(b"\n")
    except OSError:
        return 0
