"""Operations in parts of which each is no more than a server should get in one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MOST_POINTS = 20_000
"""Points in a request."""

_POINT = 100  # bytes


def batches(made: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield operations in parts of which each is no more than the server should get in one request."""
    batch: list[Any] = []
    size = 0
    for operation in made:
        if batch and size + _size(operation) > MOST_POINTS:
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += _size(operation)
    if batch:
        yield batch


def _size(operation: Any) -> int:
    """Return how many points an operation is as large as."""
    values = getattr(operation, "values", ())
    data = sum(len(getattr(each.value, "data", "")) for each in values if hasattr(each, "value"))
    return len(values) + data // _POINT + 1
