"""Values of metrics and params, and which of them Comet holds: asked when an answer did not arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

_MOST_LISTED = 15_000  # points: of a longer series Comet may list a sample

_Point = tuple[int, int | None, str]
"""Time in milliseconds, step, and the value as Python spells it as a float."""


class Value(NamedTuple):
    """A metric's value, or a param's."""

    name: str
    value: Any
    time: float
    """Unix time in seconds."""
    step: int | None = None
    epoch: int | None = None

    @property
    def point(self) -> _Point:
        """What tells it apart from others of its name in Comet."""
        return round(self.time * 1000), self.step, _spelled(str(+self.value))


def missing(rest: Any, key: str, values: Sequence[Value]) -> list[Value]:
    """Return which values of metrics an experiment does not hold: one request, and one for each metric with news.

    Args:
        rest: Comet's ``RestApiClient``.
        key: the experiment's key.
        values: in the order in which they were logged.
    """
    summaries = (rest.get_experiment_metrics_summaries(key) or {}).get("values") or []
    latest = {each["name"]: _listed(each, "timestampCurrent", "stepCurrent", "valueCurrent") for each in summaries}
    sent: dict[str, list[_Point]] = {}
    for value in values:
        sent.setdefault(value.name, []).append(value.point)
    held = {
        name: iter(_are_held(rest, key, name, latest[name], points))
        for name, points in sent.items()
        if name in latest and latest[name][0] >= min(points)[0]
    }
    return [value for value in values if value.name not in held or not next(held[value.name])]


def _are_held(rest: Any, key: str, name: str, latest: _Point, sent: Sequence[_Point]) -> list[bool]:
    """Return of each point of a metric whether Comet holds it; one that it lists answers for one that was sent."""
    listed = (rest.get_experiment_metric(key, name) or {}).get("metrics") or []
    points = Counter(_listed(each, "timestamp", "step", "metricValue") for each in listed)
    is_sample = len(listed) >= _MOST_LISTED
    if is_sample:
        points[latest] = points[latest] or 1
    held = []
    for point in sent:
        points[point] -= 1
        held.append(points[point] >= 0)
    if is_sample and True in held:  # Comet takes values in order: with a later one it has those before it
        last = len(held) - held[::-1].index(True)
        held[:last] = [True] * last
    return held


def _listed(said: dict[str, Any], time: str, step: str, value: str) -> _Point:
    return said[time] or 0, said[step], _spelled(str(said[value]))


def _spelled(value: str) -> str:
    return repr(float(value))
