"""How long tests wait."""

import time

A_WHILE = 240.0
"""Seconds that only what hangs takes, also on a machine that is four times oversubscribed. No limit is its own: a
test that waits for something passes as soon as it is there."""


def until(condition):
    """Wait until ``condition()`` is true, and return what it is."""
    deadline = time.monotonic() + A_WHILE
    while not (result := condition()):
        assert time.monotonic() < deadline, "this did not come about in time"
        time.sleep(0.01)
    return result
