"""The batches that a recorder gives a loop to iterate over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any


class Batches:
    """The batches of a loader; each iteration over them is a separate loop.

    It is not an iterator, because a wrapper such as tqdm would keep it, and its loop, open after a ``break``.

    Args:
        iterate: begins a loop.
        length: the number of batches; None if unknown.
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
    """Return the number of batches; None if unknown."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except Exception:  # any: the length is only for display
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
        batches: the batches to iterate over.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._iterator = iter(batches)
        self._next: list[Any] = []
        self.is_last = False
        """Whether the last returned batch is the last one."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        batch = self._next.pop() if self._next else next(self._iterator)
        self._next.extend(islice(self._iterator, 1))
        self.is_last = not self._next
        return batch
