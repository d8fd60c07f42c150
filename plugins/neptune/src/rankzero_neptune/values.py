"""What anyone may log, as Neptune has types for it."""

from __future__ import annotations

import math
from typing import Any

from rankzero.values import Number
from rankzero_neptune.points import spelled

LONGEST_TEXT = 1000
"""Characters of a text in a series, after which Neptune's client cuts it."""
LONGEST_STRING = 16_384
"""Characters of a text by itself, after which it cuts that."""

_LARGEST_INT = 2**63 - 1


def parts(line: str) -> list[str]:
    """Return a text in parts that a series takes."""
    return [line[begin : begin + LONGEST_TEXT] for begin in range(0, len(line), LONGEST_TEXT)]


def as_float(number: Number) -> float:
    """Return a number as the float that a series takes; an infinity if no float is as large."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def storable(value: Any) -> bool | int | float | str:
    """Return a value that Neptune has a type for: what it has none for becomes text."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_INT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else spelled(value)
    return str(value)
