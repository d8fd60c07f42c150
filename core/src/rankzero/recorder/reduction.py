"""Reduce step values to the value of an epoch (mean, sum, min, max) without waiting for the device.

Python numbers and tensors are accumulated separately, so that a number never becomes a tensor, and combined at the end.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rankzero.recorder.values import is_tensor

_WITHOUT_FLOAT64 = ("mps", "xla")


class Reduction(ABC):
    """Accumulates the values of one metric.

    `slots` and `merge` reduce over ranks: each rank writes its slots, and `merge` gets the sums of the slots over all
    ranks.
    """

    is_weighted = False
    """Whether values are weighted."""

    @abstractmethod
    def add(self, value: Any, weight: Any, *, keep_graph: bool = False) -> None:
        """Add a value with its weight, Python numbers or tensors without dimensions.

        A tensor with a Python number as its weight takes one kernel.
        """

    @abstractmethod
    def value(self) -> Any:
        """Return the reduced value, a Python number or a tensor; None if no value was added."""

    @abstractmethod
    def slots(self, rank: int, ranks: int) -> Sequence[Any]:
        """Return this rank's summands; the number of slots is the same on each rank."""

    @abstractmethod
    def merge(self, sums: Sequence[float]) -> float:
        """Return the value over all ranks, of which at least one has a value, from the sum of each slot."""


class Total(Reduction):
    """A sum, ``Σ value``."""

    def __init__(self) -> None:
        self._number: float = 0
        self._tensor: Any = None
        self._is_empty = True

    def add(self, value: Any, weight: Any, *, keep_graph: bool = False) -> None:
        self._add(value, 1, keep_graph)

    def _add(self, value: Any, weight: float, keep_graph: bool) -> None:
        self._is_empty = False
        if not is_tensor(value):
            self._number += value * weight
            return
        if self._tensor is None:
            self._tensor = _zero_like(value)
        elif self._tensor.device != value.device:
            self._tensor = self._tensor.to(value.device)
        if keep_graph:
            self._tensor = self._tensor + _wide(value) * weight
        else:
            self._tensor.add_(value, alpha=weight)

    def _sum(self) -> Any:
        if self._tensor is None:
            return self._number
        return self._tensor + self._number if self._number else self._tensor

    def value(self) -> Any:
        return None if self._is_empty else self._sum()

    def slots(self, rank: int, ranks: int) -> Sequence[Any]:
        return (self._sum(),)

    def merge(self, sums: Sequence[float]) -> float:
        return sums[0]


class Mean(Total):
    """A mean weighted by batch size, ``Σ value·weight / Σ weight``."""

    is_weighted = True

    def __init__(self) -> None:
        super().__init__()
        self._weights = Total()

    def add(self, value: Any, weight: Any, *, keep_graph: bool = False) -> None:
        self._weights.add(weight, 1)
        if is_tensor(weight):
            self._add(_wide(value) * weight, 1, keep_graph)
        else:
            self._add(value, weight, keep_graph)

    def value(self) -> Any:
        if self._is_empty:
            return None
        weights = self._weights.value()
        return self._sum() / weights if is_tensor(weights) or weights else math.nan

    def slots(self, rank: int, ranks: int) -> Sequence[Any]:
        return (self._sum(), self._weights._sum())

    def merge(self, sums: Sequence[float]) -> float:
        return sums[0] / sums[1] if sums[1] else math.nan


class Extreme(Reduction):
    """The minimum or the maximum; NaN if one value is NaN.

    Args:
        sign: 1 for the maximum, -1 for the minimum.
    """

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._number: float | None = None
        self._tensor: Any = None

    def add(self, value: Any, weight: Any, *, keep_graph: bool = False) -> None:
        if not is_tensor(value):
            self._number = value if self._number is None else self._of_numbers(self._number, value)
        elif self._tensor is None:
            self._tensor = value.clone()
        else:
            self._tensor = self._of_tensors(self._tensor.to(value.device), value)

    def _of_numbers(self, one: float, other: float) -> float:
        if one != one or other != other:
            return math.nan
        return max(one, other) if self._sign > 0 else min(one, other)

    def _of_tensors(self, one: Any, other: Any) -> Any:
        import torch

        return (torch.maximum if self._sign > 0 else torch.minimum)(one, other)

    def value(self) -> Any:
        if self._tensor is None or self._number is None:
            return self._number if self._tensor is None else self._tensor
        number = self._tensor.new_full((), self._number, dtype=accumulating_dtype(self._tensor))
        return self._of_tensors(self._tensor, number)

    def slots(self, rank: int, ranks: int) -> Sequence[Any]:
        own = self.value()
        slots: list[Any] = [0.0] * ranks
        slots[rank] = -self._sign * math.inf if own is None else own
        return slots

    def merge(self, sums: Sequence[float]) -> float:
        return functools.reduce(self._of_numbers, sums)


def make_reduction(name: str) -> Reduction:
    """Return an empty reduction: ``mean``, ``sum``, ``min`` or ``max``."""
    if name in ("min", "max"):
        return Extreme(1 if name == "max" else -1)
    return Mean() if name == "mean" else Total()


def _zero_like(value: Any) -> Any:
    import torch

    with torch.inference_mode(False):  # a tensor that was made in that mode cannot change outside of it
        return torch.zeros((), dtype=accumulating_dtype(value), device=value.device)


def _wide(value: Any) -> Any:
    return value.to(accumulating_dtype(value)) if is_tensor(value) else value


def accumulating_dtype(tensor: Any) -> Any:
    """Return the widest float type of the tensor's device: float64, or float32 without it."""
    import torch

    return torch.float32 if tensor.device.type in _WITHOUT_FLOAT64 else torch.float64
