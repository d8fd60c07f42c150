"""System metrics: a process that measures the machine and the training process, and appends them to the journal.

The metrics have names ``system/…``, a time and no step. `SystemMetrics` starts this module as a program, so that
training pays nothing. The program ends when it is stopped or the training process has died; it is never restarted.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
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

_EVERY = 10.0  # seconds
_NICENESS = 10
_FIRST_AFTER = 1.0  # seconds
_LOOK_EVERY = 1.0  # seconds in which a death of the training process is noticed
_MOST_CPU = 0.003  # of a core, for measuring; ends and looks come on top
_STOP_TIMEOUT = 1.0


class _ProgramInput(msgspec.Struct):
    """The input of the program, from the training process."""

    run_dir: str
    pid: int
    every: float


class SystemMetrics:
    """Measures the system while a run is open, for the process that owns the run.

    Args:
        run_dir: the run's directory.
        every: the seconds between two measurements; True for 10. More if a measurement is expensive.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, run_dir: Path, every: float | bool) -> None:
        given = msgspec.json.encode(
            _ProgramInput(os.fsdecode(os.fsencode(run_dir)), os.getpid(), _EVERY if every is True else every)
        )
        self._process = start_module(__name__, given, run_dir / COURIER_LOG)

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
    """Append measurements to the journal until the training process is gone."""
    signal.signal(signal.SIGTERM, _end)
    os.nice(_NICENESS)
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=_ProgramInput)
    if os.getppid() != given.pid:
        return

    from rankzero.capture.hardware import Hardware  # not in the training process

    run_dir, hardware = Path(given.run_dir), Hardware(given.pid, given.run_dir)
    journal = Journal(run_dir / JOURNAL)
    can_see_lock = writer_pid(run_dir) == given.pid

    def is_needed() -> bool:
        is_alive = os.getppid() == given.pid  # else this process has another parent
        return is_alive and (not can_see_lock or writer_pid(run_dir) == given.pid) and journal.path.exists()

    pause = min(given.every, _FIRST_AFTER)
    while _rest(pause, given.pid):
        began = time.process_time()
        found = hardware.measure()
        line = encode(Metrics(time.time(), None, {f"{SYSTEM}{name}": value for name, value in found.items()}))
        if not is_needed():
            return
        if found:
            journal.append(line)
        pause = max(given.every, (time.process_time() - began) / _MOST_CPU)


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
