"""Retry and back-off: how often, and after which pauses, a courier retries.

The pauses grow exponentially, with jitter, after "Exponential Backoff And Jitter" (M. Brooker, 2015).
"""

from __future__ import annotations

import random

GRACE_PERIOD = 3600.0
"""For how many seconds a courier tries on after the training process is gone."""

TRIES = 3
"""How often an event is tried that a tracker may refuse, and a logger that refuses its arguments."""

TRIES_BEFORE_REOPENING = 3
"""How often a logger may fail before it is closed and made again."""

_FIRST_PAUSE = 0.5  # seconds
_LONGEST_PAUSE = 60.0
_LONGEST_PAUSE_AT_END = 10.0
_jitter = random.Random()  # not the global generator, which the user has seeded


def pause(failures: int) -> float:
    """Return for how many seconds to wait after so many failures."""
    return _jitter.uniform(0.1, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10)))


def pause_at_end(seconds: float) -> float:
    """Return how long such a pause is once the run is over, when people look for it in the tracker."""
    return max(min(seconds, 1.0), seconds * _LONGEST_PAUSE_AT_END / _LONGEST_PAUSE)
