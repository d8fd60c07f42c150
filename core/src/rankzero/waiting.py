"""Waiting until something is so, by asking again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float, every: float = 0.02) -> T:
    """Call ``condition`` until what it returns is true; return that, or what it returned last.

    Args:
        condition: is called once at least.
        timeout: in seconds.
        every: how many seconds lie between two calls.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return found
