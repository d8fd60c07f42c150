"""Curves and files as small blocks of text: few points, typed columns, deflated, in base64."""

from __future__ import annotations

import base64
import json
import math
import zlib
from array import array
from collections.abc import Iterator
from operator import sub
from typing import Any, NamedTuple

from rankzero.reader.series import Series

_SMALLEST_FLOAT32, _LARGEST_FLOAT32 = 1.2e-38, 3.4e38
_FLOAT32_STEPS = 1e-3  # of the largest value; a narrower curve would be drawn as a staircase
_LEVEL = 6


class Curve(NamedTuple):
    """The points of a curve that are on the page."""

    step: list[float]
    """NaN for a point without a step."""
    time: list[float]
    epoch: list[float]
    """NaN where unknown; empty if no point has an epoch."""
    value: list[float]


def thin(points: Series, most: int) -> Curve:
    """Return at most about ``most`` points of a curve: of each part the first, smallest, largest, last and a NaN.

    What is drawn looks the same: see Jugl et al., "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB
    2014.
    """
    columns = [points.step, points.time, points.epoch, points.value]
    step, time, epoch, value = ([] if each is None else list(each.tolist()) for each in columns)
    if epoch and all(each is None or each != each for each in epoch):
        epoch = []
    curve = Curve(step, time, epoch, value)
    if len(value) <= most:
        return curve
    size = math.ceil(len(value) / max(1, most // 4))
    kept = sorted({index for first in range(0, len(value), size) for index in _extremes(value, first, size)})
    return Curve(*([column[index] for index in kept] if column else [] for column in curve))


def _extremes(value: list[float], first: int, size: int) -> Iterator[int]:
    part = range(first, min(first + size, len(value)))
    numbers = [index for index in part if value[index] == value[index]]
    yield from (part[0], part[-1])
    if numbers:
        yield min(numbers, key=value.__getitem__)
        yield max(numbers, key=value.__getitem__)
    if len(numbers) < len(part):
        yield next(index for index in part if value[index] != value[index])


def pack(curve: Curve, started: float) -> tuple[list[str], bytes]:
    """Return the columns of a curve as bytes, and how each is encoded; times are milliseconds since ``started``."""
    columns = [
        _integers(curve.step),
        _integers([round(1000 * (time - started)) for time in curve.time]),
        _integers(curve.epoch),
        _floats(curve.value),
    ]
    return [kind for kind, _ in columns], b"".join(data for _, data in columns)


def _integers(numbers: list[float]) -> tuple[str, bytes]:
    """Encode differences of neighbours as ``i``, 32-bit integers, or else the numbers as ``d``."""
    if not numbers:
        return "", b""
    try:
        return "i", _by_significance(array("i", map(sub, numbers, [0, *numbers[:-1]])))
    except (TypeError, OverflowError):  # a NaN, or a wide gap
        return "d", _by_significance(array("d", numbers))


def _floats(numbers: list[float]) -> tuple[str, bytes]:
    """Encode as ``f``, 32-bit floats, or as ``d`` if that would be seen."""
    finite = [number for number in numbers if math.isfinite(number)]
    if finite:
        low, high = min(finite), max(finite)
        largest = max(-low, high)
        has_room = not largest or _SMALLEST_FLOAT32 / _FLOAT32_STEPS < largest < _LARGEST_FLOAT32
        if not has_room or high - low < _FLOAT32_STEPS * largest:
            return "d", _by_significance(array("d", map(_clipped, numbers)))
    return "f", _by_significance(array("f", map(_clipped, numbers)))


def _clipped(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)


def _by_significance(numbers: array[Any]) -> bytes:
    """Return all lowest bytes, then all second ones, …: neighbours are alike, so that deflate makes them small."""
    data = numbers.tobytes()
    return b"".join(data[place :: numbers.itemsize] for place in range(numbers.itemsize))


def as_block(data: bytes) -> bytes:
    """Return bytes deflated and in base64."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(deflater.compress(data) + deflater.flush())


def as_json(value: Any) -> bytes:
    """Return JSON in ASCII; a lone surrogate is escaped, too."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
