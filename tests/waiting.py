"""Time limits of tests."""

import time

A_WHILE = 240.0
"""The limit of every wait, in seconds: only what hangs takes so long, also on a machine that is four times
oversubscribed. A test passes as soon as what it waits for is there."""

SOON = 25.0
"""Seconds within which a call returns that does not wait. Waiting in vain takes longer: 30 for a run's id, 60 for a
delivery, `A_WHILE` for what a test makes hang."""

A_MOMENT = 1.0
"""Seconds that no call of a training script takes, whatever the tracker does."""


def until(condition):
    """Wait until ``condition()`` is true, and return what it is."""
    deadline = time.monotonic() + A_WHILE
    while not (result := condition()):
        assert time.monotonic() < deadline, "this did not come about in time"
        time.sleep(0.01)
    return result
