"""End runs when their process ends: at exit, on SIGTERM, but not in forked children."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Protocol

from rankzero.loggers import lightning
from rankzero.processes import ipython_shell

_GRACE = 5.0
"""The most seconds to wait after a SIGTERM; schedulers send SIGKILL after 10 to 30."""
_LONGEST = 600.0
"""The most seconds to wait at exit if no run is open; each run that has ended has a limit of its own, too."""

_STOPS = ("TrialPruned",)  # of Optuna: the study ended a trial that went well


class Endable(Protocol):
    """A run, as this module uses it."""

    def end_with_process(self, status: str | None, timeout: float, error: BaseException | None = None) -> None:
        """End the run, waiting at most ``timeout`` seconds for its delivery.

        Without a status, the run uses the last one of `Run.finalize`. ``error`` is the exception that ends the process.
        """

    def after_fork(self) -> None:
        """Called in a forked child process."""


class Ended(Protocol):
    """A run that has ended, and whose delivery the end of the process waits for."""

    def is_delivering(self) -> bool:
        """Return whether a courier is running."""

    def wait_with_process(self, timeout: float) -> None:
        """Wait for the delivery, at most ``timeout`` seconds."""


_open_runs: dict[Endable, float] = {}  # run → timeout of its end; a run stays open when its variable is deleted
_ended_runs: list[Ended] = []
_owner_pid = 0


def end_at_exit(run: Endable, timeout: float = 60.0) -> None:
    """End ``run`` when this process ends, unless it is ended before; wait at most ``timeout`` seconds."""
    global _owner_pid
    if _owner_pid == 0:
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
    if _owner_pid != os.getpid():
        _owner_pid = os.getpid()
        _end_with_multiprocessing()
    _open_runs[run] = timeout
    _forget_delivered()
    _take_sigterm()


def wait_at_exit(run: Ended) -> None:
    """Wait for the delivery of ``run`` when this process ends."""
    _forget_delivered()
    _ended_runs.append(run)


def _forget_delivered() -> None:
    _ended_runs[:] = [run for run in _ended_runs if run.is_delivering()]


def forget(run: Endable) -> None:
    """Do not end ``run`` any more."""
    _open_runs.pop(run, None)


def is_open(run: Endable) -> bool:
    """Return whether ``run`` will be ended with this process."""
    return run in _open_runs


def open_runs() -> list[Endable]:
    """Return the runs that will be ended with this process."""
    return list(_open_runs)


def status_after(error: BaseException | None) -> str | None:
    """Return the status of a run that ``error`` ended; None if that is not a failure."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    is_stopped = type(error).__name__ in _STOPS
    return "failed" if isinstance(error, Exception | SystemExit) and not is_stopped else "aborted"


def _end_with_multiprocessing() -> None:
    # Child processes of multiprocessing, and so of torch.multiprocessing.spawn, exit without calling atexit.
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, _at_exit, exitpriority=0)


def _take_sigterm() -> None:
    # A script with its own handler ends the process itself, and atexit ends the runs.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if lightning.is_lightning_handler(signal.getsignal(signal.SIGTERM)):
        return  # Lightning replaced this handler and calls it, but ends the process itself
    try:
        _end_all("aborted", _GRACE)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _at_exit() -> None:
    error = _exception_at_exit()
    _end_all(status_after(error), max(_open_runs.values(), default=_LONGEST), error)


def _end_all(status: str | None, timeout: float, error: BaseException | None = None) -> None:
    deadline = time.monotonic() + timeout
    for run in list(_open_runs):
        run.end_with_process(status, max(0.0, deadline - time.monotonic()), error)
    while _ended_runs:
        _ended_runs.pop().wait_with_process(max(0.0, deadline - time.monotonic()))


def _exception_at_exit() -> BaseException | None:
    # The interpreter stores the exception that ended the script; in a notebook it may be an old one. That IPython is
    # imported does not mean that this is a notebook: SDKs import it.
    if hasattr(sys, "ps1") or ipython_shell() is not None:
        return None
    return sys.exception() or getattr(sys, "last_value", None)


def _after_fork() -> None:
    for run in list(_open_runs):
        run.after_fork()
    _open_runs.clear()
    _ended_runs.clear()
