"""Convert metrics to pandas and Arrow, in the long form: metric, step, time, value.

The value column is int64 if every metric is, otherwise float64; time is Unix time in seconds.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

from rankzero.errors import PluginNotInstalledError
from rankzero.reader.series import Series, is_integer

_INT64_LIMIT = 2.0**63
COLUMNS = ("metric", "step", "time", "value")


def to_pandas(metrics: Mapping[str, Series]) -> Any:
    """Convert metrics to a pandas DataFrame; names are a categorical, a missing step is NA."""
    np, pd = import_or_explain("numpy"), import_or_explain("pandas")
    lengths = [len(series) for series in metrics.values()]
    codes = np.repeat(np.arange(len(lengths)), lengths)
    step, time, value = (
        np.concatenate([getattr(series, column) for series in metrics.values()] or [np.empty(0)])
        for column in COLUMNS[1:]
    )
    if not is_integer(step):
        step = pd.array(_steps(step), dtype="Int64")
    names = pd.Categorical.from_codes(codes, list(metrics))
    return pd.DataFrame({"metric": names, "step": step, "time": time, "value": value}, copy=False)


def to_pandas_wide(metrics: Mapping[str, Series]) -> Any:
    """Convert metrics to a pandas DataFrame with a column per metric and a row per step; the last value of a step.

    Metrics without steps are left out.
    """
    pd = import_or_explain("pandas")
    columns = {}
    for name, series in metrics.items():
        column = pd.Series(series.value, index=_steps(series.step), name=name)
        column = column[column.index.notna()]
        if len(column):
            columns[name] = column[~column.index.duplicated(keep="last")]
    frame = pd.DataFrame(columns).sort_index()
    return frame.set_axis(frame.index.astype("int64")).rename_axis("step")


def to_arrow(metrics: Mapping[str, Series]) -> Any:
    """Convert metrics to a pyarrow Table; names are dictionary-encoded, a missing step is null."""
    pa = import_or_explain("pyarrow")
    names = pa.array(list(metrics), pa.string())
    has_integers = all(is_integer(series.value) for series in metrics.values()) and metrics
    types = (
        pa.dictionary(pa.int32(), pa.string()),
        pa.int64(),
        pa.float64(),
        pa.int64() if has_integers else pa.float64(),
    )
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    batches = [
        pa.record_batch(
            [
                pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(code, pa.int32()), len(series)), names),
                pa.array(_steps(series.step), from_pandas=True).cast(pa.int64()),
                pa.array(series.time),
                pa.array(series.value).cast(schema.field("value").type, safe=False),
            ],
            schema=schema,
        )
        for code, series in enumerate(metrics.values())
    ]
    return pa.Table.from_batches(batches, schema)


def _steps(numbers: Any) -> Any:
    """Return the steps; those that do not fit into 64 bits become NaN."""
    if is_integer(numbers):
        return numbers
    if hasattr(numbers, "dtype"):
        np = import_or_explain("numpy")
        return np.where(np.abs(numbers) < _INT64_LIMIT, numbers, np.nan)
    return [step if abs(step) < _INT64_LIMIT else math.nan for step in numbers]


def import_or_explain(module: str, requirement: str = "rankzero[data]") -> Any:
    """Import a module of the extra ``data``, or of another requirement.

    Raises:
        PluginNotInstalledError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise PluginNotInstalledError(f"this needs {package}: pip install '{requirement}'", name=package) from error
