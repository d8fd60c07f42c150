"""`wandb.plot`: each chart becomes the table of its data, with W&B's columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rankzero.compat.wandb.media import Table

_MOST_ROWS = 10_000  # of the table of a ROC curve, as in W&B


def bar(table: Table, *_: Any, **__: Any) -> Table:
    """Return the data of the chart."""
    return table


histogram = line = scatter = bar


def plot_table(vega_spec_name: str, data_table: Table, *_: Any, **__: Any) -> Table:
    """Return the data of the chart."""
    return data_table


def line_series(xs: Any, ys: Any, keys: Any = None, *_: Any, **__: Any) -> Table:
    """Return the points of lines, with a common x-axis or one for each line."""
    xs, ys = _plain(xs), _plain(ys)
    xs = xs if xs and isinstance(xs[0], list) else [xs] * len(ys)
    lines = zip(keys or [f"line_{index}" for index in range(len(ys))], xs, ys, strict=True)
    rows = [[x, key, y] for key, along, line in lines for x, y in zip(along, line, strict=False)]
    return Table(["step", "lineKey", "lineVal"], rows)


def confusion_matrix(
    probs: Any = None, y_true: Any = None, preds: Any = None, class_names: Any = None, *_: Any, **__: Any
) -> Table:
    """Return how often each class was predicted for each actual class."""
    if (probs is None) == (preds is None):
        raise ValueError("a confusion matrix needs either probs or preds")
    predicted = _plain(preds) if probs is None else [row.index(max(row)) for row in _plain(probs)]
    counts = Counter(zip(_plain(y_true), predicted, strict=True))
    classes = sorted({each for pair in counts for each in pair}) if class_names is None else range(len(class_names))
    names = class_names or [f"Class_{index + 1}" for index in range(len(classes))]
    named = dict(zip(classes, names, strict=True))
    if unnamed := {each for pair in counts for each in pair} - named.keys():
        raise ValueError(f"class_names has no name for {unnamed}")
    rows = [[named[true], named[guess], counts[true, guess]] for true in classes for guess in classes]
    return Table(["Actual", "Predicted", "nPredictions"], rows)


def pr_curve(
    y_true: Any, y_probas: Any, labels: Any = None, classes_to_plot: Any = None, interp_size: int = 21, *_: Any,
    **__: Any,
) -> Table:  # fmt: skip
    """Return the best precision of each class at, or above, each recall."""
    rows = []
    for name, hits, misses in _curves(y_true, y_probas, labels, classes_to_plot):
        precision, recalls = hits / (hits + misses), [index / (interp_size - 1) for index in range(interp_size)]
        for least in reversed(recalls):
            best = precision[hits / hits[-1] >= least].max() if least else 1.0
            rows.append([name, round(float(best), 3), round(least, 3)])
    return Table(["class", "precision", "recall"], rows)


def roc_curve(y_true: Any, y_probas: Any, labels: Any = None, classes_to_plot: Any = None, *_: Any, **__: Any) -> Table:
    """Return the false and true positive rates of each class."""
    rows: list[list[Any]] = []
    for name, hits, misses in _curves(y_true, y_probas, labels, classes_to_plot):
        rates = zip(misses / max(misses[-1], 1), hits / hits[-1], strict=True)
        rows += [[name, 0.0, 0.0], *([name, round(float(fpr), 3), round(float(tpr), 3)] for fpr, tpr in rates)]
    return Table(["class", "fpr", "tpr"], rows[:: 1 + len(rows) // _MOST_ROWS])


def _curves(y_true: Any, y_probas: Any, labels: Any, chosen: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (name, true positives, false positives) of each class, by score from the highest."""
    import numpy as np

    true, scores = np.asarray(_plain(y_true)), np.asarray(_plain(y_probas))
    classes = np.unique(true).tolist()
    for index, each in enumerate(classes):
        if chosen is None or each in _plain(chosen):
            column = scores[:, index if scores.shape[1] == len(classes) else each]
            order = np.argsort(-column, kind="stable")
            is_last = np.append(np.diff(column[order]) != 0, True)  # the last row of each score
            is_hit = true[order] == each
            name = labels[each] if labels is not None and isinstance(each, int) else each
            yield name, np.cumsum(is_hit)[is_last], np.cumsum(~is_hit)[is_last]


def _plain(values: Any) -> Any:
    """Return arrays, tensors and other iterables as lists."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_plain(each) for each in values] if isinstance(values, Iterable) and not isinstance(values, str) else values
