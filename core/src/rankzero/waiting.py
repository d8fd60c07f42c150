"""Wait for a condition by polling."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float, every: float = 0.02) -> T:
    """Call ``condition`` until it returns a true value; return its last result.

    Args:
        condition: called at least once.
        timeout: in seconds.
        every: the seconds between two calls.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return found
