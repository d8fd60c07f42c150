"""The newest value of each metric, for schedulers and early stopping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankzero.messages import did_you_mean
from rankzero.recorder.exchange import is_distributed
from rankzero.recorder.log_options import Phase
from rankzero.recorder.loop import Loop
from rankzero.recorder.metrics import Label, LoggedMetric


class LatestValues:
    """The newest values, by their written and logged names."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._of_rank_zero: set[str] = set()

    def note(self, label: Label, value: Any) -> None:
        """Set a written value."""
        self._values[label.plain_name] = self._values[label.name] = value

    def note_plain(self, values: dict[str, Any]) -> None:
        """Set values without labels."""
        self._values.update(values)

    def hide(self, label: Label) -> None:
        """Hide a value that only rank zero knows."""
        self._of_rank_zero |= {label.plain_name, label.name}

    def note_steps(self, loop: Loop) -> None:
        """Set the last step values of a loop that ends."""
        if loop.phase is Phase.TRAIN:
            self._values.update(self._of_steps(loop))

    def all(self, open_loops: Iterable[Loop]) -> dict[str, Any]:
        """Return name → Python number or tensor of all readable values."""
        values = dict(self._values)
        for loop in open_loops:
            values.update(self._of_steps(loop) if loop.phase is Phase.TRAIN else self._between(loop))
        return {name: value for name, value in values.items() if name not in self._of_rank_zero}

    def get(self, name: str, open_loops: Iterable[Loop]) -> Any:
        """Return one value.

        Raises:
            KeyError: nothing was logged with this name, or on rank zero only.
        """
        values = self.all(open_loops)
        if name in values:
            return values[name]
        if name in self._of_rank_zero:
            raise KeyError(f"{name!r} was logged with rank_zero_only=True, so other ranks do not know it")
        known = f"; there are {', '.join(values)}" if values else ""
        longer = [each for each in values if each.startswith((f"{name}/", f"{name}_"))]
        raise KeyError(f"no metric {name!r} was logged yet{known}.{did_you_mean(name, longer or values)}")

    def _of_steps(self, loop: Loop) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for metric in loop.metrics():
            if metric.last is None:
                continue
            if metric.given.rank_zero_only:
                self.hide(metric.step)
            if not waits_for_ranks(metric):  # with its own value, each rank might decide differently
                found[metric.step.plain_name] = found[metric.step.name] = metric.newest
        return found

    def _between(self, loop: Loop) -> dict[str, Any]:
        metrics = loop.metrics() if loop.phase is Phase.EPOCH else ()
        alone = [metric for metric in metrics if not metric.given.rank_zero_only and not is_reduced(metric)]
        return {metric.epoch.name: metric.epoch_value() for metric in alone}


def waits_for_ranks(metric: LoggedMetric) -> bool:
    """Return whether a metric's step value is still to be reduced over several ranks."""
    return metric.last is not None and metric.last_of_all is None and is_reduced(metric)


def is_reduced(metric: LoggedMetric) -> bool:
    """Return whether a metric's value is reduced over several ranks."""
    return metric.is_synced and is_distributed(metric.given.sync_dist_group)
