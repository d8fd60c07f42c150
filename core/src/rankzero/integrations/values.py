"""What frameworks give a tracker to log: numbers and texts in one mapping, and models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rankzero.run.run import Run
from rankzero.values import flatten

_NUMBERS = {float, int}


def log_values(run: Run, values: Mapping[str, Any], step: int | None = None, **context: Any) -> None:
    """Log numbers as metrics and texts as texts, at the same step.

    Args:
        run: the run.
        values: name → value; nested mappings are flattened with ``/``.
        step: the step; by default one more than the last one.
        **context: ``epoch`` and ``stage``, as in `Run.log_metrics`.
    """
    if _NUMBERS.issuperset(map(type, values.values())):  # nearly always; the rest takes as long as `Run.log_metrics`
        if values:
            run.log_metrics(values, step=step, **context)
        return
    flat = dict(flatten(values))
    texts = {name: value for name, value in flat.items() if isinstance(value, str)}
    numbers = {name: value for name, value in flat.items() if name not in texts}
    if numbers:
        run.log_metrics(numbers, step=step, **context)
    for name, text in texts.items():
        run.log_text(name, text, step=run.step if step is None else step)


def model_sizes(weights: Iterable[Any], trained: Iterable[Any]) -> dict[str, int]:
    """Return the parameters of a run that say how large a model is, given all weights and those that are trained."""
    sizes = [sum(math.prod(weight.shape) for weight in each) for each in (weights, trained)]
    return dict(zip(("model/num_parameters", "model/num_trainable_parameters"), sizes, strict=True))
