"""System metrics: a process that measures the machine and the training process, and appends them to the journal.

The metrics have names ``system/…``, a time and no step. `SystemMetrics` starts this module as a program, so that
training pays nothing. The program ends when it is stopped or the training process has died; it is never restarted. For
the other nodes of a job see `rankzero.capture.nodes`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from rankzero.events.run_info import SYSTEM
from rankzero.events.structs import Metrics, encode
from rankzero.journal.append import Journal
from rankzero.processes import detach, start_module
from rankzero.rundir.layout import COURIER_LOG, JOURNAL
from rankzero.rundir.writer_lock import writer_pid

_NICENESS = 10
_FIRST_AFTER = 1.0  # seconds
_LOOK_EVERY = 1.0  # seconds in which a death of the training process is noticed
_MOST_CPU = 0.003  # of a core, for measuring; ends and looks come on top
_STOP_TIMEOUT = 1.0


class _ProgramInput(msgspec.Struct):
    """The input of the program, from the training process."""

    run_dir: str | None
    """None on another node than rank zero's: the lines are written to a pipe."""
    pid: int
    every: float


class SystemMetrics:
    """Measures the system while a run is open, for the process that owns the run, or for another node.

    Args:
        run_dir: the run's directory, None to read the `lines` instead.
        every: the seconds between two measurements; more if a measurement is expensive.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, run_dir: Path | None, every: float) -> None:
        directory = None if run_dir is None else os.fsdecode(os.fsencode(run_dir))
        given = msgspec.json.encode(_ProgramInput(directory, os.getpid(), every))
        self._process = start_module(__name__, given, None if run_dir is None else run_dir / COURIER_LOG)

    def lines(self) -> Iterator[bytes]:
        """Wait for each measurement and yield it as a line of a journal, until the process ends."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            yield from pipe

    def stop(self) -> None:
        """Stop measuring; once this returns, nothing more is appended to the journal."""
        # On SIGTERM the program ends between two writes. SIGKILL is for one that waits for a broken driver or disk:
        # it cannot begin another write.
        for end in (self._process.terminate, self._process.kill):
            end()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT)
                return
        detach(self._process)


# In the measuring process


def main() -> None:
    """Write measurements until the training process is gone."""
    signal.signal(signal.SIGTERM, _end)
    os.nice(_NICENESS)
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=_ProgramInput)
    if os.getppid() != given.pid:
        return
    write = _to_pipe() if given.run_dir is None else _to_journal(Path(given.run_dir), given.pid)

    from rankzero.capture.hardware import Hardware  # not in the training process

    hardware = Hardware(given.pid, given.run_dir or ".")
    pause = min(given.every, _FIRST_AFTER)
    while _rest(pause, given.pid):
        began = time.process_time()
        found = hardware.measure()
        line = encode(Metrics(time.time(), None, {f"{SYSTEM}{name}": value for name, value in found.items()}))
        if os.getppid() != given.pid or (found and not write(line)):
            return
        pause = max(given.every, (time.process_time() - began) / _MOST_CPU)


def _to_journal(run_dir: Path, pid: int) -> Callable[[bytes], bool]:
    """Return a function that appends to the journal, and returns False if the run has ended or was deleted."""
    journal = Journal(run_dir / JOURNAL)
    can_see_lock = writer_pid(run_dir) == pid

    def write(line: bytes) -> bool:
        if (can_see_lock and writer_pid(run_dir) != pid) or not journal.path.exists():
            return False
        journal.append(line)
        return True

    return write


def _to_pipe() -> Callable[[bytes], bool]:
    """Return a function that writes to standard output, and returns False if nobody reads it."""
    pipe = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what libraries print

    def write(line: bytes) -> bool:
        with suppress(BrokenPipeError):
            os.write(pipe, line)
            return True
        return False

    return write


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def _rest(seconds: float, parent: int) -> bool:
    """Sleep, and return True; return False as soon as the parent process has died."""
    until = time.monotonic() + seconds
    while os.getppid() == parent:
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, _LOOK_EVERY))
    return False


if __name__ == "__main__":
    main()
