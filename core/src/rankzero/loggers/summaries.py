"""The summaries of metrics from `define_metric`, such as the minimum of a loss."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection

GOALS = {"minimize": "min", "maximize": "max"}
"""The goals of a metric → the summary with its best value."""
KINDS = ("min", "max", "mean", "last", "first")
"""The summaries of a metric's values."""
SUMMARIES = (*KINDS, "best", "none", "copy")
"""All names of summaries; ``best`` depends on the goal."""


def kinds_of(summary: str | None, goal: str | None) -> tuple[tuple[str, ...] | None, str | None]:
    """Return the `KINDS` of a definition (None for the tracker's default), and a description of its error, if any.

    Args:
        summary: some of `KINDS`, separated by commas; ``none``; or ``best``, which needs a goal.
        goal: ``minimize`` or ``maximize``.
    """
    if summary in (None, "best"):
        if goal in GOALS:
            return (GOALS[goal],), None
        problem = f"goal={goal!r} is neither minimize nor maximize" if goal else 'summary="best" needs a goal'
        return None, problem if goal or summary else None
    names = [each.strip() for each in str(summary).split(",")]
    if names == ["none"]:
        return (), None
    unknown = ", ".join(each for each in names if each not in KINDS)
    kinds = tuple(each for each in names if each in KINDS)
    return kinds or None, f"there is no summary {unknown}" if unknown else None


def find_definition(metric: str, defined: Collection[str]) -> str | None:
    """Return the name under which a metric is defined: its own, or else the last pattern, such as ``val/*``, that fits.

    Args:
        metric: the name of the metric.
        defined: the names given to ``define_metric``, in order.
    """
    if metric in defined:
        return metric
    return next((each for each in reversed([*defined]) if _pattern(each).fullmatch(metric)), None)


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
