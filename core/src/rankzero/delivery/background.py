"""Start a courier in the background: in its own process, or in a thread."""

from __future__ import annotations

import logging
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from rankzero.config.prepared import PreparedLogger
from rankzero.errors import DeliveryError
from rankzero.loggers.base import Logger
from rankzero.messages import uncaptured
from rankzero.processes import detach, start_module
from rankzero.rundir.layout import COURIER_LOG
from rankzero.rundir.positions import stop_time
from rankzero.waiting import wait_until

log = logging.getLogger("rankzero")

_MOST_RESTARTS = 3


class CourierProcess:
    """A courier in its own process, which outlives this one.

    The process reads the worker config from its standard input, so that no secret is in its arguments or on disk. It
    has its own session: a Ctrl-C in the terminal and the end of this process do not affect it.
    """

    outlives = True

    def __init__(self, run_dir: Path, prepared: PreparedLogger) -> None:
        self._run_dir = run_dir
        self._prepared = prepared.for_process()
        self._restarts = 0
        self._starting = threading.RLock()  # a SIGTERM may end the run while the lock is held
        self._asked_to_stop = stop_time(run_dir, prepared.key)
        self._process = _start_process(run_dir, self._prepared)

    def is_running(self) -> bool:
        """Return whether the courier is running."""
        return self._process.poll() is None

    def restart(self) -> bool:
        """Restart the process if it died (an SDK crashed, the kernel was out of memory), a few times at most.

        Returns:
            Whether it had died and was restarted.
        """
        with self._starting:
            if not self.may_restart():
                return False
            self._restarts += 1
            log.warning("the courier for %s died (%s); starting it again", self._prepared.key, self.death)
            died = self._process
            with suppress(OSError):
                started = _start_process(self._run_dir, self._prepared)
                if self._process is not died:  # a signal handler restarted it meanwhile
                    detach(self._process)
                self._process = started
            return True

    def may_restart(self) -> bool:
        """Return whether the process died and may be restarted: it was not asked to stop."""
        if not self._process.poll() or self._restarts >= _MOST_RESTARTS:
            return False
        return stop_time(self._run_dir, self._prepared.key) == self._asked_to_stop

    @property
    def death(self) -> str | None:
        """Why it died; None if it did not."""
        status = self._process.poll()
        if not status:
            return None
        cause = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        return f"{cause}, see {self._run_dir / COURIER_LOG}"

    def release(self) -> None:
        """Detach the process, which continues to deliver."""
        with self._starting:
            detach(self._process)


def _start_process(run_dir: Path, prepared: PreparedLogger) -> subprocess.Popen[bytes]:
    # sys.path comes first, in its own pickle: unpickling the rest may import modules from it.
    given = pickle.dumps(sys.path) + pickle.dumps((run_dir, prepared))
    return start_module("rankzero.delivery.worker", given, run_dir / COURIER_LOG)


class CourierThread:
    """A courier in a daemon thread; the training loop can use its logger."""

    outlives = False

    def __init__(self, run_dir: Path, prepared: PreparedLogger) -> None:
        from rankzero.delivery.courier import make_courier  # takes 40 ms

        self.death: str | None = None
        """Why it died; None if it did not."""
        self.courier = make_courier(run_dir, prepared)
        self._thread = threading.Thread(target=self._run, name=f"rankzero-courier-{prepared.key}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with uncaptured():
                self.courier.run()
        except DeliveryError:  # recorded in its position
            pass
        except Exception as error:
            self.death = f"{type(error).__name__}: {error}"

    def is_running(self) -> bool:
        """Return whether the courier is running."""
        return self._thread.is_alive()

    def restart(self) -> bool:
        """Do nothing: a new thread would fail in the same way."""
        return False

    def may_restart(self) -> bool:
        """Return False."""
        return False

    def stop(self) -> None:
        """Stop the courier after the batch that it is sending; test suites call this."""
        self.courier.stop()
        self._thread.join(timeout=1.0)

    def release(self) -> None:
        """Stop the courier, which would otherwise die with this process in the middle of a batch."""
        self.stop()

    def logger(self, timeout: float) -> Logger | None:
        """Wait until the logger is open and return it."""
        wait_until(lambda: self.courier.logger is not None or not self.is_running(), timeout)
        return self.courier.logger
