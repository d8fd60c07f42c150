"""Pending events: events that were read from the journal and are not yet acknowledged by the tracker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rankzero.events.structs import AnyEvent, Checkpoint, Event, Finish, Metrics, Rewind, Start
from rankzero.journal.opening import stat_journal
from rankzero.journal.rewinds import is_superseded, read_rewinds
from rankzero.journal.tail import Line, Tail, read_events
from rankzero.loggers.base import Logger
from rankzero.rundir.positions import Position

_MOST_FILES = 200  # events with files, before a flush
_LONGEST_REWIND = 1000  # bytes


class Superseded(Event, frozen=True):
    """Stands for an event that is not delivered because a later rewind superseded it."""

    is_logged = False


class Item(NamedTuple):
    """An event and its line in the journal."""

    line: Line
    event: AnyEvent | Superseded


class PendingEvents:
    """A queue of events, oldest first, that is filled from a journal.

    Events that a later rewind supersedes are replaced, so that they are not delivered any more.

    Args:
        journal: the journal's path.
        position: where delivery continues.
        is_own: whether this user started the run; of another user's run, only files in its directory are delivered.
    """

    def __init__(self, journal: Path, position: Position, *, is_own: bool) -> None:
        self.batch_bytes = Logger.batch_bytes
        """The approximate number of bytes to read from the journal at a time."""
        self._journal = journal
        self._is_own = is_own
        self.foreseen: frozenset[int] = frozenset()
        """The ends of the lines of rewinds that supersede nothing in the tracker, which gets the run from line 0."""
        self._items: deque[Item] = deque()
        self._tail = Tail(journal, position.offset, position.line)
        self._rewinds: dict[int, Rewind] = {}
        self._searched = 0  # bytes of the journal, up to which rewinds are known
        self._find_rewinds()

    def __len__(self) -> int:
        return len(self._items)

    def read(self) -> bool:
        """Read more lines if the queue is empty; return whether it has items now."""
        return self.get(0) is not None

    def read_on(self) -> bool:
        """Read more lines; return whether there were any."""
        lines = self._tail.read(self.batch_bytes)
        decoded = ((line, decode(line, is_own=self._is_own)) for line in lines)
        items = [Item(line, event) for line, event in decoded if event is not None]
        self._supersede({line.end: event for line, event in items if isinstance(event, Rewind)})
        self._items.extend(map(self._as_delivered, items) if self._rewinds else items)
        return bool(lines)

    def find_new_rewinds(self) -> None:
        """Find rewinds in lines that are not read yet: what they supersede need not be tried again.

        Raises:
            OSError: the journal cannot be read.
        """
        size = stat_journal(self._journal).st_size
        if size > self._searched:
            first = max(self._tail.offset, self._searched - _LONGEST_REWIND)  # its line may have been incomplete
            self._supersede(read_rewinds(self._journal, first))
            self._searched = size

    def _find_rewinds(self) -> None:
        self._rewinds, self._searched = {}, self._tail.offset
        self.find_new_rewinds()
        self.foreseen = frozenset(() if self._tail.offset else self._rewinds)

    def _supersede(self, rewinds: dict[int, Rewind]) -> None:
        if not rewinds.keys() <= self._rewinds.keys():
            self._rewinds |= rewinds
            self._items = deque(map(self._as_delivered, self._items))

    def _as_delivered(self, item: Item) -> Item:
        line, event = item
        return Item(line, Superseded(event.time)) if is_superseded(line.end, event, self._rewinds) else item

    def get(self, number: int) -> Item | None:
        """Return the item at an index, reading more lines if necessary; None if there are too few."""
        while number >= len(self._items) and self.read_on():
            pass
        return self._items[number] if number < len(self._items) else None

    def first(self, number: int | None = None) -> list[Item]:
        """Return the first items of the queue, by default all."""
        return list(islice(self._items, number))

    def remove(self, number: int) -> None:
        """Remove the first items."""
        for _ in range(number):
            self._items.popleft()

    def seek_line(self, line: int) -> tuple[int, int]:
        """Empty the queue and go to a line, or the end of the journal; return the byte offset and the line."""
        self._items.clear()
        self._tail.seek_line(line)
        self._find_rewinds()
        return self._tail.offset, self._tail.line

    def lines(self) -> int:
        """Return the number of lines of the journal."""
        end = Tail(self._journal, self._tail.offset, self._tail.line)
        try:
            while end.read():
                pass
            return end.line
        finally:
            end.close()

    def status_before(self, line: int) -> str | None:
        """Return the final status of the run before a line; None if the run was still open there."""
        events = (event for each, event in read_events(self._journal) if each.number < line)
        ends = [event for event in events if isinstance(event, Start | Finish)]
        return ends[-1].status if ends and isinstance(ends[-1], Finish) else None

    def close(self) -> None:
        """Close the journal."""
        self._tail.close()


def decode(line: Line, *, is_own: bool) -> AnyEvent | None:
    """Return the event of a line; None for a damaged one.

    A checkpoint names its source file; in another user's run, that path may be any file of this user, so it is removed.
    """
    event = line.decode()
    return event if is_own or not isinstance(event, Checkpoint) else event.without_source()


def before_flush(items: Sequence[Item]) -> Sequence[Item]:
    """Return the first items, to write before the next flush: with a limited number of files, and no Finish.

    A Finish is written alone: the tracker must acknowledge everything before it, and the events after it belong to a
    resumed run, for which the logger is opened again. So is a Rewind, for which a logger may end the tracker's run.
    """
    with_files = [index for index, item in enumerate(items) if item.event.has_files]
    items = items[: with_files[_MOST_FILES] if len(with_files) > _MOST_FILES else len(items)]
    alone = next((index for index, item in enumerate(items) if isinstance(item.event, Finish | Rewind)), len(items))
    return items[: max(1, alone)]


def batches(items: Sequence[Item], logger: Logger) -> Iterator[list[Item]]:
    """Yield the items for each call of the logger: consecutive metrics if it accepts batches, otherwise one event.

    Events that are not for the logger do not split a batch.
    """
    takes_batches = type(logger).log_metrics_batch is not Logger.log_metrics_batch
    batch: list[Item] = []
    skipped: list[Item] = []
    for item in items:
        is_open = takes_batches and bool(batch) and isinstance(batch[0].event, Metrics)
        if is_open and not item.event.is_for(logger.captures):
            skipped.append(item)
            continue
        if is_open and isinstance(item.event, Metrics):
            batch += [*skipped, item]
        else:
            yield from filter(None, [batch, *([each] for each in skipped)])
            batch = [item]
        skipped = []
    yield from filter(None, [batch, *([each] for each in skipped)])
