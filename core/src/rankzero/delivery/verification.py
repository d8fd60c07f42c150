"""Verify a delivery: read metrics back from the tracker, and compare them with the journal."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from rankzero.config.prepared import PreparedLogger
from rankzero.errors import ConfigError
from rankzero.events.run_info import TrackedPoint
from rankzero.events.structs import Params
from rankzero.journal.rewinds import read_rewinds
from rankzero.journal.tail import complete_lines
from rankzero.loggers.base import Logger
from rankzero.reader.run_data import RunData, read_run
from rankzero.rundir.layout import JOURNAL
from rankzero.secrets import mask_urls
from rankzero.values import as_float

_NAN = "NaN"  # which equals itself
_MOST_STEPS = 5
_PARAMS = b'{"type":"params"'
_Key = tuple[int | None, float | str]


class Changed(NamedTuple):
    """A value that differs in the tracker."""

    step: int | None
    logged: float | str
    found: float | str


@dataclass
class Comparison:
    """A metric in the journal and in the tracker; its values may be in any order."""

    name: str
    count: int
    """The number of values that were logged."""
    missing: list[_Key] = field(default_factory=list)
    """(step, value) that the tracker lacks."""
    doubled: list[_Key] = field(default_factory=list)
    """(step, value) that the tracker has more often than they were logged."""
    changed: list[Changed] = field(default_factory=list)
    """Values that differ."""
    unknown: list[_Key] = field(default_factory=list)
    """(step, value) that were never logged."""
    is_comparable: bool = True
    """False if the tracker has the metric in a form that cannot be compared."""

    @property
    def is_equal(self) -> bool:
        """Whether the tracker has exactly the logged values."""
        return not (self.missing or self.doubled or self.changed or self.unknown)

    def describe(self) -> str:
        """Return what differs, with the first steps."""
        parts = [
            f"{len(points):,} {what} ({_steps([step for step, *_ in points])})"
            for what, points in (
                (f"of {self.count:,} missing", self.missing),
                ("more often than logged", self.doubled),
                ("never logged", self.unknown),
            )
            if points
        ]
        if self.changed:
            step, logged, found = self.changed[0]
            at = "a value without a step" if step is None else f"step {step}"
            parts.append(f"{len(self.changed):,} different (at {at} {logged} was logged, and {found} is there)")
        return f"{self.name}: {', '.join(parts)}"


class Verification(NamedTuple):
    """The comparison of a run with its tracker."""

    address: str | None
    """The address of the tracker that was read, without passwords; None if there is none."""
    comparisons: list[Comparison]


def verify_delivery(run_dir: Path, prepared: PreparedLogger) -> Verification:
    """Compare each metric of a run with what its tracker returns.

    Values are equal if they are the same float64, or, where the tracker has only float32, the same float32. A value
    that was logged without a step may have any step in the tracker. Times are not compared. A tracker that does not
    follow rewinds may have the points that they superseded.

    Args:
        run_dir: the run's directory.
        prepared: the logger to which the run is delivered.

    Raises:
        ConfigError: the logger cannot read metrics back.
        Exception: the tracker cannot be read.
    """
    run = read_run(run_dir)
    logged = _points(run)
    logger = prepared.make()
    may_keep = _points(read_run(run_dir, keep_rewound=True)) if _keeps_superseded(logger, run_dir) else {}
    logger.attach(run.info)
    try:
        found = logger.read_metrics(list(logged))
    except NotImplementedError as error:
        raise ConfigError("this logger cannot read metrics back") from error
    finally:
        logger.close()
    comparisons: list[Comparison] = []
    for name, points in logged.items():
        tracked = found.get(name, ())
        comparisons.append(
            Comparison(name, len(points), is_comparable=False)
            if tracked is None
            else compare(name, points, tracked, may_keep.get(name, ()))
        )
    return Verification(mask_urls(logger.address) if logger.address else None, comparisons)


def _keeps_superseded(logger: Logger, run_dir: Path) -> bool:
    return "rewind" not in logger.captures and bool(read_rewinds(run_dir / JOURNAL))


def _points(run: RunData) -> dict[str, list[TrackedPoint]]:
    logged = _initial_metrics(run.dir / JOURNAL)
    for name, series in run.metrics.items():
        steps = (None if step != step else int(step) for step in series.step.tolist())
        logged.setdefault(name, []).extend(zip(steps, series.value.tolist(), strict=True))
    return logged


def _initial_metrics(journal: Path) -> dict[str, list[TrackedPoint]]:
    """Return the initial values that were logged with hyperparameters: loggers log them at step 0."""
    found: dict[str, list[TrackedPoint]] = {}
    for chunk in complete_lines(journal):
        for line in chunk.split(b"\n"):
            if line.startswith(_PARAMS):
                with suppress(msgspec.MsgspecError, ValueError, RecursionError):
                    for name, value in msgspec.json.decode(line, type=Params).initial_metrics().items():
                        found.setdefault(name, []).append((0, value))
    return found


def compare(
    name: str, logged: Iterable[TrackedPoint], found: Iterable[TrackedPoint], may_keep: Iterable[TrackedPoint] = ()
) -> Comparison:
    """Compare the points of a metric, each (step, value).

    Args:
        name: the name of the metric.
        logged: the points that the tracker must have.
        found: the points that it has.
        may_keep: all logged points, including superseded ones, which the tracker may have, too.
    """
    expected, tracked, allowed = _counted(logged), _counted(found), _counted(may_keep)
    result = Comparison(name, expected.total())
    if tracked and all(_is_float32(value) for _, value in tracked):
        expected, allowed = (
            _counted((step, _as_float32(value)) for step, value in points.elements()) for points in (expected, allowed)
        )
    missing, left = expected - tracked, tracked - expected - (allowed - expected)
    _match_without_step(missing, left)
    found_at: dict[int | None, list[_Key]] = {}
    for key in left.elements():
        found_at.setdefault(key[0], []).append(key)
    for key in missing.elements():
        if others := [other for other in found_at.get(key[0], ()) if other not in expected]:
            found_at[key[0]].remove(others[0])
            result.changed.append(Changed(key[0], key[1], others[0][1]))
        else:
            result.missing.append(key)
    for key in chain.from_iterable(found_at.values()):
        (result.doubled if key in expected else result.unknown).append(key)
    return result


def _match_without_step(missing: Counter[_Key], left: Counter[_Key]) -> None:
    """Remove pairs of a value that was logged without a step, and the same value with any step."""
    by_value: dict[float | str, list[_Key]] = {}
    for key in left.elements():
        by_value.setdefault(key[1], []).append(key)
    for key in [key for key in missing.elements() if key[0] is None]:
        if others := by_value.get(key[1]):
            missing -= Counter([key])
            left -= Counter([others.pop()])


def _steps(steps: list[int | None]) -> str:
    first = sorted({step for step in steps if step is not None})[:_MOST_STEPS]
    if not first:
        return "without a step"
    more = ", …" if len(steps) > len(first) else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, first))}{more}"


def _counted(points: Iterable[tuple[int | None, float | str]]) -> Counter[_Key]:
    return Counter((step, _comparable(value)) for step, value in points)


def _comparable(value: float | str) -> float | str:
    """Return a number as a float that equals itself."""
    number = value if isinstance(value, str) else as_float(value)
    return number if number == number else _NAN


def _is_float32(value: float | str) -> bool:
    return isinstance(value, str) or _as_float32(value) == value


def _as_float32(value: float | str) -> float | str:
    if isinstance(value, str):
        return value
    try:
        number: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return number
