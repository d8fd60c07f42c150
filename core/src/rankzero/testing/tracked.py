"""The data of one run in a tracker, in rankzero's terms: the result of `LoggerContract.read_back`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rankzero.values import Number


class Point(NamedTuple):
    """One value of a metric."""

    step: int | None
    value: Number
    time: float | None = None
    """Unix time in seconds, if the tracker stores it."""


@dataclass(frozen=True)
class Item:
    """An image, a table, a checkpoint or other data that is not a number."""

    key: str
    step: int | None = None
    content: Any = None
    """The bytes of a file, or the (columns, rows) of a table or text; None if it is unknown."""
    caption: str | None = None
    aliases: tuple[str, ...] = ()
    score: float | None = None


@dataclass
class Tracked:
    """The data of one run."""

    params: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters, nested or flat with ``/`` between the parts."""
    metrics: dict[str, list[Point]] = field(default_factory=dict)
    items: dict[str, list[Item]] = field(default_factory=dict)
    """Items by the kinds of `rankzero.testing.CAPABILITIES`: ``image``, ``table``, ``checkpoint``, …"""
    tags: list[str] = field(default_factory=list)
    status: str | None = None
    """``success`` or one of the others that `rankzero.events.run_info.Status` names."""

    def add_metric(self, name: str, step: int | None, value: Number, time: float | None = None) -> None:
        """Add one value."""
        self.metrics.setdefault(name, []).append(Point(step, value, time))

    def rewind(self, step: int) -> None:
        """Remove values and media of later steps; files stay."""
        for points in self.metrics.values():
            points[:] = [point for point in points if point.step is None or point.step <= step]
        for kind in self.items.keys() - {"artifact", "checkpoint"}:
            self.items[kind] = [item for item in self.items[kind] if item.step is None or item.step <= step]

    def add_item(
        self,
        kind: str,
        key: str,
        step: int | None = None,
        content: Any = None,
        *,
        caption: str | None = None,
        aliases: Sequence[str] = (),
        score: float | None = None,
    ) -> None:
        """Add an item."""
        self.items.setdefault(kind, []).append(Item(key, step, content, caption, tuple(aliases), score))
