"""What people pass as a metric or a hyperparameter → numbers and JSON.

A tensor, array or object is recognised by what it can do, so that nothing here imports torch or numpy.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

Number = int | float

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How the floats that JSON lacks are spelled in a journal (as the JavaScript and Comet spelling)."""

_SPELLING = {math.inf: "Infinity", -math.inf: "-Infinity"}


class SplitMetrics(msgspec.Struct):
    """The values of one log call, by what can be done with them now."""

    numbers: dict[str, Number] = {}
    on_device: dict[str, Any] = {}
    """One-element tensors on an accelerator, whose value is perhaps not computed yet."""
    rest: dict[str, Any] = {}
    """What is no number: text, lists, arrays of several elements, None, …"""


def split_metrics(metrics: Mapping[Any, Any]) -> SplitMetrics:
    """Sort the values of one log call; nested mappings are flattened with ``/``."""
    split = SplitMetrics()
    for key, value in flatten(metrics):
        if is_on_accelerator(value) and value.numel() == 1:
            split.on_device[key] = value
            continue
        number = to_number(value)
        if number is None:
            split.rest[key] = value
        else:
            split.numbers[key] = number
    return split


def flatten(mapping: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, leaf) of a nested mapping, the keys of one path joined with ``/``."""
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}/")
        else:
            yield name, value


def is_on_accelerator(value: Any) -> bool:
    """Return whether ``value`` is a torch tensor that lives neither in the CPU's memory nor nowhere."""
    device = getattr(value, "device", None)
    return hasattr(value, "numel") and getattr(device, "type", "cpu") not in ("cpu", "meta")


def to_number(value: Any) -> Number | None:
    """Return ``value`` as a Python int or float, None if it is no single real number.

    - bool, int and anything integral (numpy and torch integers of any width): an int, exactly;
    - float, float16/32/64 and bfloat16: the float64 of the same value; NaN and ±Inf as they are;
    - `decimal.Decimal`, `fractions.Fraction`, numpy.longdouble: the nearest float64;
    - a tensor or array of one element, whatever its shape: that element, detached.
    """
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Decimal | numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, str | bytes) or not hasattr(value, "item") or _size(value) != 1:
        return None
    try:
        element = value.item()
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if hasattr(element, "item") and not isinstance(element, numbers.Real) else to_number(element)


def _size(value: Any) -> int | None:
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    return size if isinstance(size, int) else None


def spell(value: Number) -> Number | str:
    """Return ``value``, or the JSON string for it where JSON has no number."""
    if isinstance(value, int) or math.isfinite(value):
        return value
    return _SPELLING.get(value, "NaN")


def unspell(value: Number | str) -> Number:
    """Undo `spell`."""
    return NON_FINITE[value] if isinstance(value, str) else value


def to_jsonable(value: Any) -> Any:
    """Return ``value`` in dicts, lists, strings, numbers, bools and None, keeping its nesting.

    Hyperparameters come as anything: Namespaces, dataclasses, enums, OmegaConf nodes, tensors, classes.
    What has no JSON form becomes its name or, at last, its ``repr``.
    """
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_jsonable(each) for each in value]
    if isinstance(value, str | bool | None):
        return str(value) if isinstance(value, str) else value
    number = to_number(value)
    if number is not None:
        return spell(number)
    builtins = msgspec.to_builtins(value, enc_hook=_describe, str_keys=True)
    return to_jsonable(builtins) if isinstance(builtins, dict | list) else builtins


def _describe(value: Any) -> Any:
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        return vars(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_iter_ex"):  # an OmegaConf list; its mappings are Mappings
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value) if hasattr(value, "__fspath__") else repr(value)
