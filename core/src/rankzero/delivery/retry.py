"""Retry and back-off: how often a courier retries, and after which pauses.

The pauses grow exponentially, with jitter, as in "Exponential Backoff And Jitter" (M. Brooker, 2015).
"""

from __future__ import annotations

import random

GRACE_PERIOD = 3600.0
"""For how many seconds a courier retries after the training process has ended."""

TRIES = 3
"""How often to try an event that the tracker may reject, and a logger that rejects its arguments."""

TRIES_BEFORE_REOPENING = 3
"""After how many failures a logger is closed and made again."""

_FIRST_PAUSE = 0.5  # seconds
_LONGEST_PAUSE = 60.0
_LONGEST_PAUSE_AT_END = 10.0
_jitter = random.Random()  # not the global generator, which the user has seeded


def pause(failures: int) -> float:
    """Return the seconds to wait after a number of failures."""
    return _jitter.uniform(0.1, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10)))


def pause_at_end(seconds: float) -> float:
    """Return a shorter pause for a run that is over, when users look for it in the tracker."""
    return max(min(seconds, 1.0), seconds * _LONGEST_PAUSE_AT_END / _LONGEST_PAUSE)
