"""DeepSpeed logs to a run: ``engine.monitor = RankzeroMonitor()``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankzero.integrations.lazy_run import LazyRun
from rankzero.integrations.values import log_values


class RankzeroMonitor(LazyRun):
    """A monitor, with the names and steps of DeepSpeed, which counts samples.

    The arguments are those of `rankzero.start`; or a Run, which the monitor does not end.
    """

    enabled = True

    def write_events(self, event_list: Iterable[tuple[str, Any, int]]) -> None:
        rows = dict[int, dict[str, Any]]()
        for name, value, step in event_list:
            rows.setdefault(step, {})[name] = value
        for step, values in rows.items():
            log_values(self.run, values, step)
