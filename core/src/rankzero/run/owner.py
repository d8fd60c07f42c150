"""`Owner`: what the process that started a run has for it, from the writer's lock to the couriers."""

from __future__ import annotations

import logging
import os
import shlex
import time
from dataclasses import dataclass, field

from rankzero.capture.console import Capture
from rankzero.delivery.experiment import LiveExperiment
from rankzero.delivery.supervisor import Supervisor
from rankzero.events.run_info import RunInfo
from rankzero.journal.append import Journal
from rankzero.rundir.writer_lock import WriterLock

log = logging.getLogger("rankzero")

_FULL_DISK_TIMEOUT = 5.0  # seconds to retry lines that could not be written to the journal


@dataclass(eq=False)
class Owner:
    """Supervises the delivery of a run, and ends it, in the process that started the run."""

    info: RunInfo
    journal: Journal
    lock: WriterLock
    supervisor: Supervisor | None
    """Supervises the couriers; None if the run is delivered later."""
    experiment: LiveExperiment | None
    console: Capture | None = None
    exit_timeout: float = 60.0
    """For how many seconds the end of the process waits for the delivery, if the run has ended before."""
    pid: int = field(default_factory=os.getpid)

    def is_this_process(self) -> bool:
        """Return False in a forked child."""
        return self.pid == os.getpid()

    def after_fork(self) -> None:
        """Leave the couriers to the parent process."""
        self.supervisor = None
        if self.console is not None:
            self.console.after_fork()

    def record_error(self, error: BaseException) -> None:
        """Record the traceback of the error that ends the run, if the console is recorded."""
        if self.console is not None:
            self.console.receive_error(error)

    def supervise(self) -> None:
        """Restart couriers that died, and warn of trackers that are unavailable."""
        if self.supervisor is not None:
            self.supervisor.restart_soon()
            self.supervisor.report_troubles()

    def is_delivering(self) -> bool:
        """Return whether a courier is running."""
        return self.supervisor is not None and self.supervisor.is_running()

    def wait_with_process(self, timeout: float) -> None:
        """Wait for the delivery when the process ends, for at most ``timeout`` seconds."""
        self.finish_delivery(min(timeout, self.exit_timeout))

    def views(self) -> dict[str, str]:
        """Return how to view the run, by logger."""
        return {} if self.supervisor is None else self.supervisor.views()

    def wait(self, deadline: float, *, even_if_down: bool) -> bool:
        """Wait until the trackers have all of the journal; return whether they do by ``deadline``."""
        if self.supervisor is None:
            return True
        return self.supervisor.wait(self.journal.size(), until(deadline), even_if_down=even_if_down)

    def stop_recording(self) -> None:
        """Stop recording the console."""
        if self.console is not None:
            self.console.close()

    def release(self, deadline: float) -> None:
        """Finish writing the journal, and release what is kept for the run, except its couriers."""
        try:
            if not self.journal.flush(min(until(deadline), _FULL_DISK_TIMEOUT)):
                self.journal.give_up()
        finally:
            self.lock.release()
        if self.experiment is not None:
            self.experiment.release(until(deadline))

    def finish_delivery(self, timeout: float, *, even_if_down: bool = False) -> None:
        """Wait for the delivery of the run that has ended, and release the couriers."""
        if self.supervisor is None:
            return
        size = self.journal.size()
        try:
            self.supervisor.wait(size, timeout, until_closed=True, even_if_down=even_if_down)
        except KeyboardInterrupt:
            log.warning("not waiting any longer for the delivery of %s", self.info.name)
        for sentence in self.supervisor.release(size, was_waited_for=timeout > 0):
            log.warning("%s", sentence)
        for key, view in self.supervisor.views().items():
            log.info("view it in %s: %s", key, view)
        for key in self.supervisor.offline():
            log.info("%s has it on this machine only; send it with: rankzero sync %s", key, shlex.quote(self.info.dir))


def until(deadline: float) -> float:
    """Return the seconds until ``deadline``, a value of `time.monotonic`; 0 after it."""
    return max(0.0, deadline - time.monotonic())
