"""Infer the number of samples in a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

_MOST = 1000


def batch_sizes(batch: Any) -> Iterator[int]:
    """Yield the length of each tensor and array in ``batch``, in order.

    A batch may be nested in mappings, sequences and dataclasses. A tensor without dimensions counts as one sample.
    The search ends after 1,000 objects, and at an unreadable object.
    """
    for each in islice(_walk(batch), _MOST):
        if isinstance(each, int):
            yield each


def _walk(batch: Any) -> Iterator[Any]:
    """Yield the size of each tensor in ``batch``, and None for other objects."""
    nested = [iter((batch,))]
    while nested:
        try:
            size, inner = _look(next(nested[-1]))
        except StopIteration:
            nested.pop()
        except Exception:  # such as a nested tensor's
            return
        else:
            yield size
            if inner is not None:
                nested.append(iter(inner))


def _look(each: Any) -> tuple[int | None, Iterable[Any] | None]:
    """Return the size of a tensor, or the elements of a collection."""
    if isinstance(each, str | bytes | int | float):
        return None, None
    shape = getattr(each, "shape", None)
    if isinstance(shape, tuple):
        return (int(shape[0]) if shape else 1), None
    if isinstance(each, Mapping):
        return None, each.values()
    if dataclasses.is_dataclass(each) and not isinstance(each, type):
        return None, [getattr(each, field.name) for field in dataclasses.fields(each)]
    if isinstance(each, Iterable) and not isinstance(each, Iterator):  # which this would exhaust
        return None, each
    return None, None
