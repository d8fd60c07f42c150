"""Merge metric dictionaries: `merge_dicts` and `Logger.agg_and_log_metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rankzero.rank import rank_zero_warn
from rankzero.values import is_sharded

Reduce = Callable[[Sequence[Any]], Any]


def mean(values: Sequence[Any]) -> Any:
    """Return the arithmetic mean of numbers, tensors or arrays of one shape."""
    if any(getattr(value, "is_meta", False) for value in values):
        return values[-1]  # it has no value, and adding would import torch's compiler, which takes seconds
    return sum(values) / len(values)


def merge_dicts(
    dicts: Sequence[Mapping[str, Any]],
    agg_key_funcs: Mapping[str, Any] | None = None,
    default_func: Reduce = mean,
) -> dict[str, Any]:
    """Merge dictionaries into one, reducing the values that share a key.

    Args:
        dicts: the dictionaries; a key may be missing from some, and a value of None counts as missing.
        agg_key_funcs: key → reduce function; nested like the dictionaries where those are nested.
        default_func: the reduce function of every other key, the mean by default.

    >>> merge_dicts([{"loss": 2.0, "n": 1}, {"loss": 4.0, "n": 2}, {"acc": 0.5}], {"n": max})
    {'loss': 3.0, 'n': 2, 'acc': 0.5}
    """
    funcs = agg_key_funcs or {}
    keys = dict.fromkeys(key for each in dicts for key in each)
    merged: dict[str, Any] = {}
    for key in keys:
        values = [each[key] for each in dicts if each.get(key) is not None]
        if not values:
            continue
        if isinstance(values[0], Mapping):
            merged[key] = merge_dicts(values, funcs.get(key), default_func)
        else:
            reduce: Reduce = funcs.get(key) or default_func
            merged[key] = reduce(values)
    return merged


def _kept(value: Any) -> Any:
    """Return a copy of metrics, because the caller may reuse the mapping or change values in place."""
    try:
        if isinstance(value, Mapping):
            return {key: _kept(each) for key, each in value.items()}
        if hasattr(value, "detach"):
            return value.detach().clone()
        return value.copy() if hasattr(value, "dtype") or isinstance(value, list) else value
    except Exception:  # a broken object, or a mapping inside itself
        return value


class StepAggregator:
    """Buffers the metrics of one step, and returns them merged when the step is over."""

    def __init__(self, agg_key_funcs: Mapping[str, Any] | None = None, agg_default_func: Reduce = mean) -> None:
        self._key_funcs: dict[str, Any] = dict(agg_key_funcs or {})
        self._default_func = agg_default_func
        self._step: int | None = -1
        self._buffer: list[Mapping[str, Any]] = []

    def update_funcs(self, agg_key_funcs: Mapping[str, Any] | None, agg_default_func: Reduce | None) -> None:
        """Add to the key functions; replace the default function if one is given."""
        self._key_funcs.update(agg_key_funcs or {})
        self._default_func = agg_default_func or self._default_func

    def add(self, metrics: Mapping[str, Any], step: int | None) -> tuple[int | None, dict[str, Any]] | None:
        """Buffer ``metrics``; return the (step, metrics) of the previous step if ``step`` is a new one."""
        spread = [key for key, value in metrics.items() if is_sharded(value)]
        if spread:
            rank_zero_warn(
                f"{', '.join(map(str, spread))}: a DTensor that is sharded over the ranks is not merged; log its "
                "full_tensor(), which all ranks must call"
            )
            metrics = {key: value for key, value in metrics.items() if key not in spread}
        try:
            return self.take() if step != self._step else None
        finally:  # values of the last step that cannot be merged must not lose those of this step
            self._step = step
            self._buffer.append(_kept(metrics))

    def take(self) -> tuple[int | None, dict[str, Any]] | None:
        """Empty the buffer and return its content as one (step, metrics); None if it was empty."""
        if not self._buffer:
            return None
        buffered, self._buffer = self._buffer, []
        if len(buffered) == 1:
            return self._step, dict(buffered[0])
        return self._step, merge_dicts(buffered, self._key_funcs, self._default_func)
