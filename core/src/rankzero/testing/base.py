"""The base class of `LoggerContract` and `DeliveryContract`: methods that authors provide, and comparisons."""

from __future__ import annotations

import functools
import math
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rankzero.events.run_info import RunInfo
from rankzero.loggers.base import Logger
from rankzero.rank import RANK_VARIABLES
from rankzero.testing.capabilities import ALL
from rankzero.testing.compare import difference, few, params_difference
from rankzero.testing.journals import TIME
from rankzero.testing.tracked import Point, Tracked
from rankzero.values import Number, flatten

Attach = Callable[..., Logger]
Values = Mapping[str, list[Point]]

_CLOSE_WRITES = "If the logger buffers what it is given, close() must write it: call self.flush() there"


class TrackerContract:
    """The common base class; subclass `LoggerContract` or `DeliveryContract` instead."""

    capabilities: ClassVar[frozenset[str]] = ALL
    """The capabilities of the tracker: a subset of `rankzero.testing.CAPABILITIES`, e.g. ``ALL - {"nan"}``."""

    time_precision: ClassVar[float] = 0.001
    """The allowed difference of a time that is read back, in seconds."""

    def make_logger(self, tmp_path: Path) -> Logger:
        """Return a new logger. Called several times in a test; all loggers must write to the same tracker."""
        raise NotImplementedError

    def read_back(self, logger: Logger) -> Tracked:
        """Return the data of the logger's run (see `Logger.run_info`) in the tracker; the logger may be closed."""
        raise NotImplementedError

    # Helpers of the tests

    @pytest.fixture(autouse=True)
    def _on_rank_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in RANK_VARIABLES:
            monkeypatch.delenv(variable, raising=False)

    @pytest.fixture
    def attach(self, tmp_path: Path) -> Iterator[Attach]:
        """Return a function that makes a logger and attaches it to the run of a name, as a courier does."""
        opened: list[Logger] = []

        def attach(run: str = "run", logger: Logger | None = None) -> Logger:
            logger = logger or self.make_logger(tmp_path)
            opened.append(logger)
            logger.attach(run_info_of(tmp_path, run))
            check_watermark(logger.watermark())
            return logger

        yield attach
        for logger in opened:
            with suppress(Exception):
                logger.close()

    def has(self, capability: str) -> bool:
        """Return whether the tracker has a capability."""
        return capability in self.capabilities

    def expect(
        self,
        logger: Logger,
        expected: Values,
        *,
        times: bool = False,
        at_least_once: bool = False,
        delivered: bool = False,
    ) -> None:
        """Compare logged metrics with those in the tracker.

        Args:
            logger: the logger of the run.
            expected: the logged metrics.
            times: also compare the times.
            at_least_once: allow duplicated values.
            delivered: whether a courier delivered them.
        """
        __tracebackhide__ = True
        found = self._tracked(logger).metrics
        if not self.has("any_name"):
            self._expect_under_any_name(found, expected)
            return
        for name, points in expected.items():
            if name not in found:
                there = few([repr(other) for other in sorted(found)])
                hint = "" if delivered else f". {_CLOSE_WRITES}"
                pytest.fail(f"all values of {name!r} are missing; there are the metrics {there}{hint}")
            wanted, got = self._series(points), self._series(found[name])
            problem = difference(name, wanted, got, again=at_least_once, delivered=delivered)
            if problem is not None:
                pytest.fail(problem)
            if times and self.has("times"):
                late = [
                    (point.time, other.time)
                    for point, other in zip(self._arranged(points), self._arranged(found[name]), strict=True)
                    if other.time is None or abs(other.time - (point.time or 0)) > self.time_precision
                ]
                if late:
                    pytest.fail(f"times of {name!r} are wrong, as (logged, came back): {few(late)}")

    def _expect_under_any_name(self, found: Values, expected: Values) -> None:
        """Compare metrics whose names in the tracker are unknown, but must differ."""
        __tracebackhide__ = True
        series = [self._series(points) for points in found.values()]
        for name, points in expected.items():
            if self._series(points) not in series:
                wanted = few(self._series(points))
                missing = f"values of {name!r}, as (step, value), are missing: no metric came back with {wanted}"
                pytest.fail(f"{missing}. {_CLOSE_WRITES}")
        if len(found) < len(expected):
            pytest.fail(f"{len(expected)} metrics came back under {len(found)} names: {sorted(found)}")

    def _tracked(self, logger: Logger) -> Tracked:
        __tracebackhide__ = True
        tracked = self.read_back(logger)
        if not isinstance(tracked, Tracked):
            pytest.fail(f"read_back() returned {tracked!r}; it must return a rankzero.testing.Tracked")
        return tracked

    def _series(self, points: Iterable[Point]) -> list[tuple[int | None, str]]:
        return [(point.step, self._written(point.value)) for point in self._arranged(points)]

    def _arranged(self, points: Iterable[Point]) -> list[Point]:
        points = list(points)
        if not self.has("repeated_steps"):
            points = list({point.step: point for point in points}.values())
        return points if self.has("order") else sorted(points, key=lambda point: (point.step or 0, point.time or 0))

    def _written(self, value: Number) -> str:
        """Return a text that is equal for values that count as equal, also for NaN."""
        if isinstance(value, int) and abs(value) <= 2**53:
            value = float(value)  # most trackers know one kind of number
        if value == 0 and not self.has("signed_zero"):
            value = 0.0
        if isinstance(value, float) and math.isfinite(value) and not self.has("float64"):
            value = struct.unpack("f", struct.pack("f", value))[0]
        return repr(value)

    def _expect_params(self, logger: Logger, expected: Mapping[str, Any]) -> None:
        __tracebackhide__ = True
        found = dict(flatten(self._tracked(logger).params))
        problem = params_difference(dict(flatten(expected)), found, typed=self.has("typed_params"))
        if problem is not None:
            pytest.fail(problem)


def check_watermark(watermark: object) -> None:
    """Fail if a watermark is invalid."""
    __tracebackhide__ = True
    if watermark is not None and (type(watermark) is not int or watermark < 0):
        pytest.fail(
            f"watermark() returned {watermark!r}; it must return the number of lines that the tracker has, an int from "
            "0, or None if that is unknown"
        )


@functools.cache  # a run has one start time
def run_info_of(tmp_path: Path, run: str) -> RunInfo:
    """Return the run of a name; each test has its own runs."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, str(tmp_path / run)).hex  # constant in a test, different in others
    directory = tmp_path / "runs" / "contract" / identity
    directory.mkdir(parents=True, exist_ok=True)
    return RunInfo(identity, f"{run}-{identity[:6]}", "contract", str(directory), started=time.time())


def points_of(rows: Iterable[tuple[int, Mapping[str, Number]]]) -> dict[str, list[Point]]:
    """Return the points that a tracker should have for rows logged one second apart."""
    points: dict[str, list[Point]] = {}
    for index, (step, metrics) in enumerate(rows):
        for name, value in metrics.items():
            points.setdefault(name, []).append(Point(step, value, TIME + index))
    return points
