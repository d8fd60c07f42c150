"""The base of the mock servers, with which tests wait for requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from waiting import A_WHILE

from rankzero.testing.loopback import LoopbackServer


class MockServer(LoopbackServer):
    """A server that keeps its data while it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        """Requests that this server does not understand."""
        self._changed = threading.Condition()

    def note_change(self) -> None:
        """Make `until` check its condition again."""
        with self._changed:
            self._changed.notify_all()

    def until(self, condition: Callable[[Self], Any]) -> Any:
        """Wait until a condition is true, which may raise KeyError before; return its value."""
        deadline = time.monotonic() + A_WHILE
        with self._changed:
            while not (result := self._try(condition)):
                assert self._changed.wait(max(0.0, deadline - time.monotonic())), "this did not happen in time"
        return result

    def _try(self, condition: Callable[[Self], Any]) -> Any:
        try:
            return condition(self)
        except KeyError:
            return None
