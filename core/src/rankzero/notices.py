"""Warnings that point at the user's line, not into this package, and that never become errors."""

from __future__ import annotations

import logging
import sys
import warnings

log = logging.getLogger("rankzero.warnings")


def warn(message: str, category: type[Warning], stacklevel: int) -> None:
    """Warn as `warnings.warn` does; log what the filters make an error, for a warning ends no training."""
    try:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    except Exception:
        log.warning("%s", message)


def warn_user(message: str) -> None:
    """Warn, with the nearest caller outside this package as the place; never raises."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "rankzero":
        frame, level = frame.f_back, level + 1
    warn(message, UserWarning, level)


class OnceWarner:
    """Warns of each topic once."""

    def __init__(self) -> None:
        self._topics: set[str] = set()

    def warn(self, topic: str, message: str) -> None:
        """Warn, unless that was done for ``topic``."""
        if topic not in self._topics:
            self._topics.add(topic)
            warn_user(message)


def describe(error: BaseException) -> str:
    """Return ``Type: message``; just the type where the message cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
