"""Warnings that point at the user's line, not into this package."""

from __future__ import annotations

import sys
import warnings


def warn_user(message: str) -> None:
    """Warn, with the nearest caller outside this package as the place."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "rankzero":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
