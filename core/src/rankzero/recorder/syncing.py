"""Reduce metrics with ``sync_dist`` over ranks, at steps and at the ends of loops."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankzero.recorder.exchange import Exchange, Key, Offer, group_name, is_distributed, normal_group
from rankzero.recorder.metrics import Label, LoggedMetric, NumberMetric


class Syncing:
    """Reduces metrics with ``sync_dist``.

    Args:
        is_default: whether ``sync_dist`` is the default. Then each rank takes part at the end of each loop, even if it
            had no batch and logged nothing.
    """

    def __init__(self, *, is_default: bool) -> None:
        self._is_default = is_default
        self._exchanges: dict[tuple[str | None, str], Exchange] = {}

    def takes_part(self, stage: str | None, metrics: Iterable[LoggedMetric]) -> bool:
        """Return whether other ranks take part at the end of a loop."""
        return bool(self._exchanges_of(stage, _synced(metrics)))

    def step_values(self, stage: str | None, metrics: Iterable[LoggedMetric]) -> dict[Label, float]:
        """Reduce the last values of the step that are not reduced yet; return {} without other ranks."""
        synced = [metric for metric in _synced(metrics) if metric.last_of_all is None]
        found: dict[Label, float] = {}
        for exchange in self._exchanges_of(stage, synced):
            mine = {
                Key("step", metric.step.name, metric.reduce_fx): Offer(metric.step, metric.step_reduction())
                for metric in synced
                if _belongs(metric, exchange)
            }
            if mine or exchange.has_step_values:
                found.update(exchange.reduce(mine, at_end=False) or {})
        for metric in synced:
            metric.last_of_all = found.get(metric.step)
        return found

    def epoch_values(self, stage: str | None, metrics: Iterable[LoggedMetric]) -> dict[Label, float]:
        """Return the epoch's values over all ranks; {} without other ranks."""
        synced = _synced(metrics)
        exchanges = self._exchanges_of(stage, synced)
        offers = {
            exchange: {
                Key("epoch", metric.epoch.name, metric.reduce_fx): Offer(metric.epoch, metric.reduction)
                for metric in synced
                if metric.on_epoch and _belongs(metric, exchange)
            }
            for exchange in exchanges
        }
        # Other ranks may still reduce their steps, in these groups one after the other.
        found = _in_turn({each: offers[each] for each in exchanges if each.has_step_values})
        return found | _in_turn({each: offers[each] for each in exchanges if not each.has_step_values})

    def _exchanges_of(self, stage: str | None, synced: Iterable[NumberMetric]) -> list[Exchange]:
        """Return the stage's exchanges, in an order that is the same on all ranks."""
        groups = [normal_group(metric.given.sync_dist_group) for metric in synced]
        if self._is_default and stage is not None:  # between the loops, all ranks log the same or nothing
            groups.append(None)
        for group in groups:
            if is_distributed(group):
                self._ensure_exchange(stage, group)
        keys = sorted(key[1] for key in self._exchanges if key[0] == stage)
        found = [self._exchanges[stage, name] for name in keys]
        return [exchange for exchange in found if is_distributed(exchange.group)]

    def _ensure_exchange(self, stage: str | None, group: Any) -> None:
        key = (stage, group_name(group))
        known = self._exchanges.get(key)
        if known is None or known.group is not group:  # names are used again after all groups were destroyed
            self._exchanges[key] = Exchange(group)


def _synced(metrics: Iterable[LoggedMetric]) -> list[NumberMetric]:
    return [metric for metric in metrics if isinstance(metric, NumberMetric) and metric.is_synced]


def _belongs(metric: LoggedMetric, exchange: Exchange) -> bool:
    return normal_group(metric.given.sync_dist_group) is exchange.group


def _in_turn(offers: dict[Exchange, dict[Key, Offer]]) -> dict[Label, float]:
    """Reduce in one exchange after the other, until all ranks of each exchange are at the end."""
    found: dict[Label, float] = {}
    while offers:
        for exchange, mine in list(offers.items()):
            values = exchange.reduce(mine, at_end=True)
            if values is not None:
                found.update(values)
                del offers[exchange]
    return found
