"""Start a courier in the background: in a separate process, or in a thread."""

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
    """A courier in a process of its own, which outlives this one.

    It reads what it needs from its standard input, so that no secret stands in its arguments or on disk. It
    has its own session: a Ctrl-C in the terminal, or the end of this process, does not reach it.
    """

    outlives = True

    def __init__(self, run_dir: Path, prepared: PreparedLogger) -> None:
        self._run_dir = run_dir
        self._prepared = prepared.for_process()
        self._restarts = 0
        self._starting = threading.RLock()  # a SIGTERM may end the run in the middle of this
        self._asked_to_stop = stop_time(run_dir, prepared.key)
        self._process = _start_process(run_dir, self._prepared)

    def is_running(self) -> bool:
        """Return whether it goes on delivering."""
        return self._process.poll() is None

    def restart(self) -> bool:
        """Start it again if it died: an SDK crashed, or the kernel needed the memory that it took. A few times.

        Returns:
            Whether it had died and was started.
        """
        with self._starting:
            if not self.may_restart():
                return False
            self._restarts += 1
            log.warning("the courier for %s died (%s); starting it again", self._prepared.key, self.death)
            died = self._process
            with suppress(OSError):
                started = _start_process(self._run_dir, self._prepared)
                if self._process is not died:  # by a signal handler; of the two, one waits for the other
                    detach(self._process)
                self._process = started
            return True

    def may_restart(self) -> bool:
        """Return whether it died, and may be started again: nobody asked it to stop."""
        if not self._process.poll() or self._restarts >= _MOST_RESTARTS:
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
            detach(self._process)


def _start_process(run_dir: Path, prepared: PreparedLogger) -> subprocess.Popen[bytes]:
    # The path comes first, in a pickle of its own: reading the rest may import from it.
    given = pickle.dumps(sys.path) + pickle.dumps((run_dir, prepared))
    return start_module("rankzero.delivery.worker", given, run_dir / COURIER_LOG)


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
            with uncaptured():
                self.courier.run()
        except DeliveryError:  # that it gave up stands in its position
            pass
        except Exception as error:
            self.death = f"{type(error).__name__}: {error}"

    def is_running(self) -> bool:
        """Return whether it goes on delivering."""
        return self._thread.is_alive()

    def restart(self) -> bool:
        """Do nothing: what ended a thread would end the next one too."""
        return False

    def may_restart(self) -> bool:
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
        wait_until(lambda: self.courier.logger is not None or not self.is_running(), timeout)
        return self.courier.logger
