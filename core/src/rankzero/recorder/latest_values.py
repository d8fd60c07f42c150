"""The newest value of each metric, for schedulers and early stopping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankzero.messages import did_you_mean
from rankzero.recorder.exchange import is_distributed
from rankzero.recorder.loop import Loop
from rankzero.recorder.metrics import Entry, Label
from rankzero.recorder.options import Place


class Readings:
    """Metrics by the names under which they can be read: those that are written, and the plain one of forked ones."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._of_rank_zero: set[str] = set()

    def note(self, label: Label, value: Any) -> None:
        """Remember a value that is written."""
        self._values[label.plain_name] = self._values[label.name] = value

    def note_plain(self, values: dict[str, Any]) -> None:
        """Remember values that have no label."""
        self._values.update(values)

    def hide(self, label: Label) -> None:
        """Remember that a value is known on rank zero only."""
        self._of_rank_zero |= {label.plain_name, label.name}

    def note_steps(self, loop: Loop) -> None:
        """Remember the last step values of a loop that ends."""
        if loop.place is Place.TRAIN:
            self._values.update(self._of_steps(loop))

    def all(self, open_loops: Iterable[Loop]) -> dict[str, Any]:
        """Return what can be read now: name → Python number or tensor."""
        values = dict(self._values)
        for loop in open_loops:
            values.update(self._of_steps(loop) if loop.place is Place.TRAIN else self._between(loop))
        return {name: value for name, value in values.items() if name not in self._of_rank_zero}

    def get(self, name: str, open_loops: Iterable[Loop]) -> Any:
        """Return one value.

        Raises:
            KeyError: nothing was logged under that name, or on rank zero only.
        """
        values = self.all(open_loops)
        if name in values:
            return values[name]
        if name in self._of_rank_zero:
            raise KeyError(f"{name!r} was logged with rank_zero_only=True, so that other ranks cannot know it")
        known = f"; there are: {', '.join(values)}" if values else ""
        longer = [each for each in values if each.startswith((f"{name}/", f"{name}_"))]
        raise KeyError(f"no metric {name!r} was logged so far{known}.{did_you_mean(name, longer or values)}")

    def _of_steps(self, loop: Loop) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in loop.entries():
            if entry.last is None:
                continue
            if entry.given.rank_zero_only:
                self.hide(entry.step)
            if not waits_for_ranks(entry):  # this rank's own value would part the ranks that decide by it
                found[entry.step.plain_name] = found[entry.step.name] = entry.newest
        return found

    def _between(self, loop: Loop) -> dict[str, Any]:
        entries = loop.entries() if loop.place is Place.EPOCH else ()
        alone = [entry for entry in entries if not entry.given.rank_zero_only and not is_reduced(entry)]
        return {entry.epoch.name: entry.epoch_value() for entry in alone}


def waits_for_ranks(entry: Entry) -> bool:
    """Return whether an entry's step value is still to be reduced over several ranks."""
    return entry.last is not None and entry.last_of_all is None and is_reduced(entry)


def is_reduced(entry: Entry) -> bool:
    """Return whether an entry's value is one of several ranks."""
    return entry.is_synced and is_distributed(entry.given.sync_dist_group)
