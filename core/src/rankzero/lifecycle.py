"""Ends runs when their process ends: at exit, on SIGTERM, and not in forked children."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from types import FrameType
from typing import Protocol

_GRACE = 5.0
"""Seconds to wait for couriers after a SIGTERM; schedulers send SIGKILL after 10 to 30."""


class Endable(Protocol):
    """What is ended here: a run."""

    def end(self, status: str, timeout: float | None) -> None:
        """End the run, waiting at most ``timeout`` seconds for its delivery; None for the default time."""

    def end_status(self) -> str:
        """Return how the run ends if nothing else is known."""

    def after_fork(self) -> None:
        """Be told that this process is a forked child."""


_open_runs: weakref.WeakSet[Endable] = weakref.WeakSet()
_owner_pid = 0


def watch_over(run: Endable) -> None:
    """End ``run`` with this process, unless it is ended before."""
    global _owner_pid
    if _owner_pid == 0:
        atexit.register(_end_all)
        os.register_at_fork(after_in_child=_after_fork)
    _owner_pid = os.getpid()
    _open_runs.add(run)
    _take_sigterm()


def forget(run: Endable) -> None:
    """Leave ``run`` alone from now on."""
    _open_runs.discard(run)


def _take_sigterm() -> None:
    # Who has a handler of their own ends the process in their own way, and atexit does the rest.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if os.getpid() == _owner_pid:
        for run in list(_open_runs):
            run.end("aborted", _GRACE)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_all() -> None:
    if os.getpid() != _owner_pid:
        return
    for run in list(_open_runs):
        run.end(_status_at_exit() or run.end_status(), None)


def _status_at_exit() -> str | None:
    # The interpreter keeps the exception that ended the script; in a notebook that may be any old one.
    if hasattr(sys, "ps1") or "IPython" in sys.modules:
        return None
    error = getattr(sys, "last_value", None)
    if error is None:
        return None
    return "aborted" if isinstance(error, KeyboardInterrupt) else "failed"


def _after_fork() -> None:
    for run in list(_open_runs):
        run.after_fork()
    _open_runs.clear()
