"""The couriers of one run in the training process: start them, start them again, wait for them."""

from __future__ import annotations

import logging
import math
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rankzero.capture.console import unheard
from rankzero.config.prepared import PreparedLogger
from rankzero.errors import DeliveryError
from rankzero.files.writing import open_own
from rankzero.journal.tail import JOURNAL
from rankzero.loggers.base import Logger
from rankzero.rank import RANK_VARIABLES
from rankzero.rundir.positions import Position, describe_rejected, load_position, stop_time, wake

log = logging.getLogger("rankzero")

COURIER_LOG = "courier.log"

_RUN_MODULE = (
    "import runpy, sys; sys.path.append(sys.argv.pop()); runpy.run_module(sys.argv[1], {}, '__main__', alter_sys=True)"
)
_MOST_REVIVALS = 3
_LOOK_EVERY = 0.02
_WAKE_EVERY = 2.0
"""Seconds between two tries of a tracker that does not answer, while somebody waits."""
_TELL_AFTER = 3.0
"""Seconds before people are told of a tracker that takes nothing: most are back by then."""
_SHOW_AFTER = 1.0
"""Seconds before a progress bar appears: most runs are delivered by then."""


class CourierProcess:
    """A courier in a process of its own, which outlives this one.

    It reads what it needs from its standard input, so that no secret stands in its arguments or on disk. It
    has its own session: a Ctrl-C in the terminal, or the end of this process, does not reach it.
    """

    outlives = True

    def __init__(self, run_dir: Path, prepared: PreparedLogger) -> None:
        self._run_dir = run_dir
        self._prepared = prepared.for_process()
        self._revivals = 0
        self._starting = threading.RLock()  # a SIGTERM may end the run in the middle of this
        self._asked_to_stop = stop_time(run_dir, prepared.key)
        self._process = _start_process(run_dir, self._prepared)

    def is_running(self) -> bool:
        """Return whether it goes on delivering."""
        return self._process.poll() is None

    def revive(self) -> bool:
        """Start it again if it died: an SDK crashed, or the kernel needed the memory that it took. A few times.

        Returns:
            Whether it had died and was started.
        """
        with self._starting:
            if not self.is_to_be_revived():
                return False
            self._revivals += 1
            log.warning("the courier for %s died (%s); starting it again", self._prepared.key, self.death)
            died = self._process
            with suppress(OSError):
                started = _start_process(self._run_dir, self._prepared)
                if self._process is not died:  # by a signal handler; of the two, one waits for the other
                    leave_alone(self._process)
                self._process = started
            return True

    def is_to_be_revived(self) -> bool:
        """Return whether it died, and may be started again: nobody wanted it to stop."""
        if not self._process.poll() or self._revivals >= _MOST_REVIVALS:
            return False
        return stop_time(self._run_dir, self._prepared.key) == self._asked_to_stop

    @property
    def death(self) -> str | None:
        """Why it does not run, None if that is as it should be."""
        status = self._process.poll()
        if not status:
            return None
        cause = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        return f"{cause}, see {self._run_dir / COURIER_LOG}"

    def release(self) -> None:
        """Let it go on by itself."""
        with self._starting:
            leave_alone(self._process)


_left_alone: list[int] = []
"""Couriers that go on after their run; children still, that must be asked for their exit status."""


def leave_alone(process: subprocess.Popen[bytes]) -> None:
    """Let a child go on by itself."""
    if process.poll() is None:
        _left_alone.append(process.pid)
    # Popen would warn of a child that goes on when it is collected; this one is meant to.
    process.returncode = process.returncode or 0


def bury_the_dead() -> None:
    """Ask those that were left alone for their exit status, which frees their place in the kernel's table."""
    for pid in list(_left_alone):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        with suppress(ValueError):  # another thread was faster
            _left_alone.remove(pid)


def module_command(module: str) -> list[str]:
    """Return the command that runs a module of rankzero, and nothing of the same name in the working directory.

    Like this process it looks at the environment and the user's packages, or not. It is told where rankzero lies.
    """
    flags = [("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site)]
    package = os.path.dirname(os.path.abspath(__file__))
    return [
        sys.executable, "-P", *(flag for flag, is_set in flags if is_set), "-c", _RUN_MODULE, module,
        os.path.dirname(package),
    ]  # fmt: skip


def _start_process(run_dir: Path, prepared: PreparedLogger) -> subprocess.Popen[bytes]:
    """Start a courier and return at once."""
    bury_the_dead()
    # The path comes first, in a pickle of its own: reading the rest may import from it.
    given = pickle.dumps(sys.path) + pickle.dumps((run_dir, prepared))
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    with open_own(run_dir / COURIER_LOG, "ab") as courier_log:
        process = subprocess.Popen(
            module_command("rankzero.delivery.worker"),
            stdin=subprocess.PIPE,
            stdout=courier_log,
            stderr=courier_log,
            start_new_session=True,
            env=environment,
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # it died at once, which is noticed later
        process.stdin.write(given)
    return process


class CourierThread:
    """A courier in a daemon thread, whose logger can be used from the training loop."""

    outlives = False

    def __init__(self, run_dir: Path, prepared: PreparedLogger) -> None:
        from rankzero.delivery.courier import make_courier  # its libraries take 40 ms to import

        self.death: str | None = None
        """Why it does not run, None if that is as it should be."""
        self.courier = make_courier(run_dir, prepared)
        self._thread = threading.Thread(target=self._run, name=f"rankzero-courier-{prepared.key}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with unheard():
                self.courier.run()
        except DeliveryError:  # that it gave up stands in its position
            pass
        except Exception as error:
            self.death = f"{type(error).__name__}: {error}"

    def is_running(self) -> bool:
        """Return whether it goes on delivering."""
        return self._thread.is_alive()

    def revive(self) -> bool:
        """Do nothing: what ended a thread would end the next one too."""
        return False

    def is_to_be_revived(self) -> bool:
        """Return False."""
        return False

    def stop(self) -> None:
        """End it after the batch that it is delivering, as test suites ask of a thread."""
        self.courier.stop()
        self._thread.join(timeout=1.0)

    def release(self) -> None:
        """End it: it would die with this process in the middle of something."""
        self.stop()

    def logger(self, timeout: float) -> Logger | None:
        """Return the open logger, waiting for it to be opened."""
        deadline = time.monotonic() + timeout
        while self.courier.logger is None and self.is_running() and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)
        return self.courier.logger


class Supervisor:
    """Starts the couriers of one run, and waits for them."""

    def __init__(self, run_dir: Path, down_timeout: float) -> None:
        self._run_dir = run_dir
        self._down_timeout = down_timeout
        self._began = time.time()
        self._reviver: threading.Thread | None = None
        self._couriers: dict[str, CourierProcess | CourierThread] = {}
        self._in_trouble: dict[str, float] = {}  # key → since when, in time.monotonic()
        self._told: set[str] = set()

    def start(self, prepared: PreparedLogger, *, thread: bool) -> None:
        """Start a courier for one logger."""
        kind = CourierThread if thread else CourierProcess
        try:
            self._couriers[prepared.key] = kind(self._run_dir, prepared)
        except OSError as error:
            log.warning(
                "no courier could be started for %s (%s); deliver to it with: rankzero sync %s --to %s",
                prepared.key, error, shlex.quote(str(self._run_dir)), prepared.key,
            )  # fmt: skip

    def get(self, key: str) -> CourierProcess | CourierThread | None:
        """Return the courier of one logger."""
        return self._couriers.get(key)

    def revive(self) -> bool:
        """Start couriers that died again, a few times; return whether there was one."""
        revived = [courier.revive() for courier in self._couriers.values()]  # all of them, not up to the first
        return any(revived)

    def revive_soon(self) -> None:
        """Do the same in a thread, without waiting for it: to start a process takes milliseconds."""
        is_busy = self._reviver is not None and self._reviver.is_alive()
        if not is_busy and any(courier.is_to_be_revived() for courier in self._couriers.values()):
            self._reviver = threading.Timer(_LOOK_EVERY, self.revive)  # not while the caller waits for the interpreter
            self._reviver.daemon = True
            self._reviver.start()

    def tell_troubles(self) -> None:
        """Say, once, that a tracker takes nothing and why, and that it does again."""
        now = time.monotonic()
        for key, courier in self._couriers.items():
            if not courier.outlives:
                continue  # a courier in this process speaks for itself
            problem = self._problem(load_position(self._run_dir, key))
            if problem is None:
                self._in_trouble.pop(key, None)
                if key in self._told:
                    self._told.discard(key)
                    log.info("%s takes events again", key)
            elif now - self._in_trouble.setdefault(key, now) >= _TELL_AFTER and key not in self._told:
                self._told.add(key)
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
        with _Progress(list(self._couriers), target, is_end=until_closed) as progress:
            wake_at = time.monotonic()
            down = {key: _Down() for key in self._couriers}
            down_timeout = math.inf if even_if_down else self._down_timeout
            while time.monotonic() < deadline:
                is_time_to_wake = time.monotonic() >= wake_at
                wake_at += _WAKE_EVERY if is_time_to_wake else 0.0
                missing = 0
                self.revive()
                for key, courier in self._couriers.items():
                    position = load_position(self._run_dir, key)
                    progress.show(key, position)
                    problem = self._problem(position)
                    if is_time_to_wake and problem:
                        wake(self._run_dir, key)
                    is_done = position.offset >= target and not (until_closed and courier.is_running())
                    is_hopeless = down[key].seconds(position, problem) >= down_timeout
                    goes_on = courier.is_running() or courier.is_to_be_revived()
                    missing += not is_done and not is_hopeless and goes_on
                if not missing:
                    break
                time.sleep(_LOOK_EVERY)
        return all(load_position(self._run_dir, key).offset >= target for key in self._couriers)

    def views(self) -> dict[str, str]:
        """Return how a person looks at the run, for each logger that said so."""
        found = {key: load_position(self._run_dir, key).view for key in self._couriers}
        return {key: view for key, view in found.items() if view}

    def offline(self) -> list[str]:
        """Return the loggers that keep the run on this machine."""
        return [key for key in self._couriers if load_position(self._run_dir, key).offline]

    def leave(self, target: int) -> list[str]:
        """Let go of the couriers; return a sentence for each that has not all of ``target`` bytes, or had to reject."""
        sentences: list[str] = []
        for key, courier in self._couriers.items():
            position = load_position(self._run_dir, key)
            is_running = courier.is_running()
            position.problem = courier.death or position.problem
            courier.release()
            sentences += _what_is_left(self._run_dir, key, position, target, is_running and courier.outlives)
        return sentences


class _Down:
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


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(Exception):  # it is closed, or no stream
        return stream is not None and stream.isatty()
    return False


class _Progress:
    """A progress bar for each logger, once waiting takes long; at the end of a run without a terminal, one line."""

    def __init__(self, keys: list[str], target: int, *, is_end: bool) -> None:
        self._keys = keys
        self._target = max(1, target)
        self._is_terminal = _is_terminal(sys.stderr)
        self._shown_from = time.monotonic() + _SHOW_AFTER if self._is_terminal or is_end else math.inf
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, key: str, position: Position) -> None:
        if self._bars is None:
            if time.monotonic() < self._shown_from:
                return
            if not self._is_terminal:
                log.info("waiting for the couriers to deliver the rest of the run")
                self._shown_from = math.inf
                return
            self._start()
        self._bars.update(
            self._tasks[key],
            completed=min(position.offset, self._target),
            problem=position.problem or "",
        )

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("delivering to {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[problem]}", style="yellow", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks = {key: self._bars.add_task(key, total=self._target, problem="") for key in self._keys}
        self._bars.start()
