"""The least or greatest value of a metric so far, for the tables of MLflow that show only the last one."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rankzero_mlflow.names import metric_name

_BEST = {"minimize": "min", "maximize": "max"}


class Summary(NamedTuple):
    """A value to be logged under a name of its own."""

    name: str
    """``loss.min``."""
    step: int


def summary_of(summary: str | None, goal: str | None) -> str | None:
    """Return ``min`` or ``max`` for what `define_metric` was given, None if that asks for neither."""
    if summary in (None, "best"):
        return _BEST.get(goal or "")
    return summary if summary in ("min", "max") else None


class Summaries:
    """Knows which metrics are summarised, and the best value of each.

    Args:
        known: the last value of every metric of the run, as MLflow's ``Metric``: a former process's go on.
    """

    def __init__(self, known: Iterable[Any] = ()) -> None:
        self._best = {metric.key: (metric.value, metric.step) for metric in known}
        self._kinds: dict[str, str | None] = {}

    def define(self, pattern: str, kind: str | None) -> None:
        """Summarise the metrics whose names match ``pattern`` (``val/*``) by their ``min`` or ``max``, or not at all.

        A name without a wildcard counts for more than a pattern, and what is said last counts most.
        """
        self._kinds.pop(pattern, None)
        self._kinds[pattern] = kind

    def improved(self, name: str, value: float, step: int) -> Summary | None:
        """Return how MLflow is to hold ``value`` if it is a new best; None otherwise."""
        kind = self._kind_of(name)
        if kind is None or math.isnan(value):
            return None
        summary = f"{name}.{kind}"
        known = metric_name(summary)
        best, last = self._best.get(known, (math.nan, step))
        if value >= best if kind == "min" else value <= best:
            return None
        # MLflow shows the value of the greatest step, and a resumed run may repeat steps.
        self._best[known] = (value, max(step, last))
        return Summary(summary, max(step, last))

    @contextmanager
    def unchanged_on_failure(self) -> Iterator[None]:
        """Forget what was improved within the context if MLflow did not take it: it will be sent again."""
        before = dict(self._best)
        try:
            yield
        except Exception:
            self._best = before
            raise

    def _kind_of(self, name: str) -> str | None:
        if name in self._kinds:
            return self._kinds[name]
        matching = (kind for pattern, kind in reversed(self._kinds.items()) if fnmatch.fnmatchcase(name, pattern))
        return next(matching, None)
