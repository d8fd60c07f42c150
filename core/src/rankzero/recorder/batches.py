"""The batches that a recorder gives a loop to iterate over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any


class Batches:
    """The batches of a loader; each iteration over them is a loop of its own.

    It is not an iterator: a wrapper such as tqdm would keep a loop open that was left.

    Args:
        iterate: begins a loop.
        length: the number of batches, None if unknown.
    """

    def __init__(self, iterate: Callable[[], Iterator[Any]], length: int | None) -> None:
        self._iterate = iterate
        self._length = length

    def __iter__(self) -> Iterator[Any]:
        return self._iterate()

    def __len__(self) -> int:
        """Return the number of batches.

        Raises:
            TypeError: it is unknown.
        """
        if self._length is None:
            raise TypeError("the loader has no length")
        return self._length


def length_of(batches: Iterable[Any]) -> int | None:
    """Return the number of batches, None if unknown."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except Exception:  # of any kind: the length is only shown
        return None


def total_length(loaders: Iterable[Iterable[Any]], limit: int | None) -> int | None:
    """Return the number of batches of all loaders, at most ``limit`` of each; None if unknown."""
    total = 0
    for loader in loaders:
        length = length_of(loader)
        if length is None:
            return None
        total += length if limit is None else min(length, limit)
    return total


class LookAhead:
    """Iterates over batches, and fetches each one before it is needed.

    Args:
        batches: what to iterate over.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._iterator = iter(batches)
        self._next: list[Any] = []
        self.is_last = False
        """Whether the batch that was returned last is the last of all."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        batch = self._next.pop() if self._next else next(self._iterator)
        self._next.extend(islice(self._iterator, 1))
        self.is_last = not self._next
        return batch
