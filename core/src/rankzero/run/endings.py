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
"""The same after a SIGTERM; schedulers send SIGKILL after 10 to 30."""


class Endable(Protocol):
    """What is ended here: a run."""

    def end_with_process(self, status: str | None, timeout: float) -> None:
        """End the run, waiting at most ``timeout`` seconds for its delivery.

        Without a status it ends as it noted itself.
        """

    def after_fork(self) -> None:
        """Be told that this process is a forked child."""


_open_runs: dict[Endable, float] = {}  # a run goes on when its variable is gone; for how long its end may take
_owner_pid = 0


def watch_over(run: Endable, timeout: float = 60.0) -> None:
    """End ``run`` with this process, unless it is ended before; that may take ``timeout`` seconds."""
    global _owner_pid
    if _owner_pid == 0:
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
    if _owner_pid != os.getpid():
        _owner_pid = os.getpid()
        _end_with_multiprocessing()
    _open_runs[run] = timeout
    _take_sigterm()


def forget(run: Endable) -> None:
    """Leave ``run`` alone from now on."""
    _open_runs.pop(run, None)


def is_open(run: Endable) -> bool:
    """Return whether ``run`` is to be ended with this process."""
    return run in _open_runs


def status_after(error: BaseException | None) -> str | None:
    """Return the status of a run that ``error`` ended; None if it was no error."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    return "failed" if isinstance(error, Exception | SystemExit) else "aborted"


def _end_with_multiprocessing() -> None:
    # The children of multiprocessing, and so of torch.multiprocessing.spawn, leave without calling atexit.
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, _at_exit, exitpriority=0)


def _take_sigterm() -> None:
    # Who has a handler of their own ends the process in their own way, and atexit does the rest.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if lightning.is_its_handler(signal.getsignal(signal.SIGTERM)):
        return  # it took the signal over and tells us of it, but ends the process in its own way
    try:
        _end_all("aborted", _GRACE)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _at_exit() -> None:
    _end_all(_status_at_exit(), max(_open_runs.values(), default=0.0))


def _end_all(status: str | None, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for run in list(_open_runs):
        run.end_with_process(status, max(0.0, deadline - time.monotonic()))


def _status_at_exit() -> str | None:
    # The interpreter keeps the exception that ended the script; in a notebook that may be any old one. That IPython is
    # imported says nothing: SDKs import it.
    if hasattr(sys, "ps1") or ipython_shell() is not None:
        return None
    return status_after(sys.exception() or getattr(sys, "last_value", None))


def _after_fork() -> None:
    for run in list(_open_runs):
        run.after_fork()
    _open_runs.clear()
