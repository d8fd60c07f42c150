"""The courier process: read the worker config from standard input, deliver the run, and exit."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rankzero.config.prepared import PreparedLogger
from rankzero.delivery.courier import Courier, GaveUpError, make_courier
from rankzero.delivery.retry import GRACE_PERIOD
from rankzero.plugins.registry import get_plugins
from rankzero.rundir.positions import load_position, save_position
from rankzero.rundir.writer_lock import Writer, writer_state
from rankzero.secrets import scrub

log = logging.getLogger("rankzero.courier")

_LOG_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
_NICENESS = 10
_GRACE = 20.0  # seconds to deliver the last events after a SIGTERM
_HANGING = 600.0  # seconds after its timeout until a courier that hangs in an SDK is killed


class _Scrubbed(io.TextIOWrapper):
    """Masks secrets in standard output, which an SDK, a warning or a traceback may contain."""

    def __init__(self, stream: TextIO, secrets: list[str]) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
        self._secrets = secrets

    def write(self, text: str) -> int:
        return super().write(scrub(text, self._secrets))


def main() -> int:
    """Deliver the run of the worker config on standard input; return an exit status."""
    os.nice(_NICENESS)
    sys.path[:] = pickle.load(sys.stdin.buffer)
    run_dir, prepared = pickle.load(sys.stdin.buffer)
    sys.stdout, sys.stderr = _Scrubbed(sys.stdout, prepared.secrets), _Scrubbed(sys.stderr, prepared.secrets)
    logging.basicConfig(format=_LOG_FORMAT, level=logging.INFO)
    logging.captureWarnings(True)
    try:
        return _deliver(run_dir, prepared)
    except GaveUpError as error:  # its position says why; a restart would not help
        log.error("%s", error)
        return 0
    except Exception as error:
        log.exception("the courier for %s failed", prepared.key)
        position = load_position(run_dir, prepared.key)
        position.problem = f"the courier failed: {type(error).__name__}"
        save_position(run_dir, prepared.key, position)
    return 1


def _deliver(run_dir: Path, prepared: PreparedLogger) -> int:
    get_plugins().load_hooks()
    courier = make_courier(run_dir, prepared)
    signal.signal(signal.SIGTERM, lambda *_: _on_sigterm(courier))
    _watch(run_dir, GRACE_PERIOD + _HANGING)
    courier.run()
    return 0


def _watch(run_dir: Path, timeout: float) -> None:
    """Kill this process if it is alive ``timeout`` seconds after the training process ended, because an SDK hangs."""

    def watch() -> None:
        gone_since: float | None = None
        while gone_since is None or time.monotonic() - gone_since < timeout:
            time.sleep(min(5.0, timeout))
            if writer_state(run_dir) is Writer.ALIVE:
                gone_since = None
            elif gone_since is None:
                gone_since = time.monotonic()
        log.error(
            "still not done %.0f s after the training process ended; the rest waits for rankzero sync",
            timeout,
        )
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_sigterm(courier: Courier) -> None:
    # A scheduler sends the same signal to the training process, which still logs its last events.
    log.info("ended by SIGTERM; what is not delivered waits for rankzero sync")
    grace = _GRACE if writer_state(courier.run_dir) is Writer.ALIVE else 0.0
    _in_background(grace, courier.stop)


def _in_background(delay: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(delay, action)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
