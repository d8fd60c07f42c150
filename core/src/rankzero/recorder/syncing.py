"""Which metrics are reduced over which ranks, and when: one exchange for each stage and process group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankzero.recorder.exchange import Exchange, Key, Offer, group_name, is_distributed, normal_group
from rankzero.recorder.metrics import Entry, Label, NumberEntry


class Syncing:
    """Reduces what is logged with ``sync_dist``.

    Args:
        is_default: whether that is the default: then each rank takes part at the end of each loop, also one that had
            no batch and so logged nothing.
    """

    def __init__(self, *, is_default: bool) -> None:
        self._is_default = is_default
        self._exchanges: dict[tuple[str | None, str], Exchange] = {}

    def takes_part(self, stage: str | None, entries: Iterable[Entry]) -> bool:
        """Return whether the end of a loop takes other ranks."""
        return bool(self._exchanges_of(stage, _synced(entries)))

    def step_values(self, stage: str | None, entries: Iterable[Entry]) -> dict[Label, float]:
        """Reduce the last values of the step that were not reduced yet; return them, empty without other ranks."""
        synced = [entry for entry in _synced(entries) if entry.last_of_all is None]
        found: dict[Label, float] = {}
        for exchange in self._exchanges_of(stage, synced):
            mine = {
                Key("step", entry.step.name, entry.reduce_fx): Offer(entry.step, entry.step_reduction())
                for entry in synced
                if _belongs(entry, exchange)
            }
            if mine or exchange.has_step_values:
                found.update(exchange.round(mine, at_end=False) or {})
        for entry in synced:
            entry.last_of_all = found.get(entry.step)
        return found

    def epoch_values(self, stage: str | None, entries: Iterable[Entry]) -> dict[Label, float]:
        """Return what the epoch's values are over all ranks; empty without other ranks."""
        synced = _synced(entries)
        exchanges = self._exchanges_of(stage, synced)
        offers = {
            exchange: {
                Key("epoch", entry.epoch.name, entry.reduce_fx): Offer(entry.epoch, entry.reduction)
                for entry in synced
                if entry.on_epoch and _belongs(entry, exchange)
            }
            for exchange in exchanges
        }
        # Other ranks may still be at their steps, at each of which they reduce in these groups one after the other.
        found = _in_turn({each: offers[each] for each in exchanges if each.has_step_values})
        return found | _in_turn({each: offers[each] for each in exchanges if not each.has_step_values})

    def _exchanges_of(self, stage: str | None, synced: Iterable[NumberEntry]) -> list[Exchange]:
        """Return the stage's exchanges, in an order that is the same on all ranks."""
        groups = [normal_group(entry.given.sync_dist_group) for entry in synced]
        if self._is_default and stage is not None:  # between the loops, all ranks log the same or nothing
            groups.append(None)
        for group in groups:
            if is_distributed(group):
                self._ensure_exchange(stage, group)
        places = sorted(place[1] for place in self._exchanges if place[0] == stage)
        found = [self._exchanges[stage, name] for name in places]
        return [exchange for exchange in found if is_distributed(exchange.group)]

    def _ensure_exchange(self, stage: str | None, group: Any) -> None:
        place = (stage, group_name(group))
        known = self._exchanges.get(place)
        if known is None or known.group is not group:  # names are given again when all groups were destroyed
            self._exchanges[place] = Exchange(group)


def _synced(entries: Iterable[Entry]) -> list[NumberEntry]:
    return [entry for entry in entries if isinstance(entry, NumberEntry) and entry.is_synced]


def _belongs(entry: Entry, exchange: Exchange) -> bool:
    return normal_group(entry.given.sync_dist_group) is exchange.group


def _in_turn(offers: dict[Exchange, dict[Key, Offer]]) -> dict[Label, float]:
    """Take part in one round of each exchange after the other, until all ranks of all of them are at the end."""
    found: dict[Label, float] = {}
    while offers:
        for exchange, mine in list(offers.items()):
            values = exchange.round(mine, at_end=True)
            if values is not None:
                found.update(values)
                del offers[exchange]
    return found
