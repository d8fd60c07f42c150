"""Signs of life: Comet takes a run for dead that is silent for long, as in a long validation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from rankzero.errors import DeliveryError

log = logging.getLogger("rankzero.courier")

EVERY = 10.0
"""Seconds between two of them, as Comet's own client has it."""


class Heartbeat:
    """Gives a sign of life now and then, until it is stopped.

    One that does not arrive is no harm: whether the server takes what is logged is another matter.

    Args:
        beat: gives one; called in a thread of its own.
    """

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat = beat
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="rankzero-comet-heartbeat", daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._ended.is_set():
            try:
                self._beat()
            except DeliveryError as error:
                log.debug("no sign of life: %s", error)
            self._ended.wait(EVERY)

    def stop(self) -> None:
        """Return when there will be no more of them: one that came late would say that an ended run goes on."""
        self._ended.set()
        self._thread.join()
