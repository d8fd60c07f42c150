"""What people pass as a metric or a hyperparameter → numbers and JSON.

A tensor, array or object is recognised by what it can do, so that nothing here imports torch or numpy.
"""

from __future__ import annotations

import enum
import math
import numbers
import os
import reprlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

Number = int | float
NonFinite = Literal["NaN", "Infinity", "-Infinity"]

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How the floats that JSON lacks are spelled in a journal (as JavaScript spells them)."""

_SPELLING: dict[float, NonFinite] = {math.inf: "Infinity", -math.inf: "-Infinity"}
_LONGEST_INT = 14_000  # bits; Python and JSON decoders read no more than 4,300 digits
_DEEPEST = 100
_MOST_VISITS = 1000  # of containers met before: a few that hold each other could be walked through for ever
_shortened = reprlib.Repr()
_shortened.maxlevel = 2


class SplitMetrics(msgspec.Struct):
    """The values of one log call, by what can be done with them now."""

    numbers: dict[str, Number] = {}
    on_device: dict[str, Any] = {}
    """One-element tensors on an accelerator, whose value is perhaps not computed yet."""
    rest: dict[str, Any] = {}
    """What is no number: text, lists, arrays of several elements, None, …"""
    repeated: list[str] = []
    """Keys that several values have, as ``a/b`` in ``{"a/b": 1, "a": {"b": 2}}``."""


def split_metrics(metrics: Mapping[Any, Any]) -> SplitMetrics:
    """Sort the values of one log call; nested mappings are flattened with ``/``."""
    split = SplitMetrics()
    seen: set[str] = set()
    for key, value in flatten(metrics):
        if key in seen:
            split.repeated.append(key)
        seen.add(key)
        if _is_awaited(value):
            split.on_device[key] = value.to_local() if hasattr(value, "to_local") else value
            continue
        number = to_number(value)
        if number is None:
            split.rest[key] = value
        else:
            split.numbers[key] = number
    return split


def flatten(mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (key, leaf) of a nested mapping, the keys of one path joined with ``/``.

    A mapping that stands inside itself is a leaf there.
    """
    return _flatten(mapping, "", (), _Walk())


def _flatten(
    mapping: Mapping[Any, Any], prefix: str, parents: tuple[int, ...], walk: _Walk
) -> Iterator[tuple[str, Any]]:
    parents = (*parents, id(mapping))
    for key, value in mapping.items():
        name = f"{prefix}{to_key(key)}"
        if not safe_isinstance(value, Mapping):
            yield name, value
        elif walk.may_enter(value, parents):
            yield from _flatten(value, f"{name}/", parents, walk)
        else:
            yield name, _text(value)


class _Walk:
    """Where a walk through nested containers has been, so that it ends."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # kept, so that no id is used again
        self._visits_left = _MOST_VISITS

    def may_enter(self, container: Any, parents: tuple[int, ...]) -> bool:
        """Return whether to go into ``container``, which stands in those with the ids ``parents``."""
        if id(container) in parents or len(parents) > _DEEPEST:
            return False
        if id(container) in self._seen:
            self._visits_left -= 1
            return self._visits_left >= 0
        self._seen[id(container)] = container
        return True


def has_cycle(value: Any) -> bool:
    """Return whether nested lists and tuples hold each other, which numpy would walk through for ever."""
    done: set[int] = set()

    def is_on_a_way_back(container: Any, parents: frozenset[int]) -> bool:
        if id(container) in parents:
            return True
        if id(container) in done:
            return False
        within = parents | {id(container)}
        found = any(is_on_a_way_back(each, within) for each in container if isinstance(each, list | tuple))
        done.add(id(container))
        return found

    return safe_isinstance(value, list | tuple) and is_on_a_way_back(value, frozenset())


def safe_isinstance(value: Any, kind: Any) -> bool:
    """Return ``isinstance(value, kind)``; False of what cannot be asked, such as a weak proxy of what is gone."""
    try:
        return isinstance(value, kind)
    except Exception:
        return False


def _is_awaited(value: Any) -> bool:
    """Return whether ``value`` is one real number in a torch tensor on an accelerator."""
    try:
        if getattr(value.device, "type", "cpu") in ("cpu", "meta") or is_sharded(value):
            return False
        return value.numel() == 1 and not value.is_complex()
    except Exception:  # no tensor
        return False


def to_number(value: Any) -> Number | None:
    """Return ``value`` as a Python int or float, None if it is no single real number.

    - bool, int and anything integral (numpy and torch integers of any width): an int, exactly;
    - float, float16/32/64 and bfloat16: the float64 of the same value; NaN and ±Inf as they are;
    - `decimal.Decimal`, `fractions.Fraction`, numpy.longdouble: the nearest float64, ±Inf beyond its range;
    - a tensor or array of one element, whatever its shape: that element, detached.
    """
    try:
        return _to_number(value)
    except Exception:  # a broken object, a meta tensor: it has no value that could be had
        return None


def _to_number(value: Any) -> Number | None:
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, Decimal):
        return math.nan if value.is_nan() else float(value)
    if isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return -math.inf if str(value).startswith("-") else math.inf
    if isinstance(value, str | bytes | type) or not hasattr(value, "item") or size_of(value) != 1:
        return None
    if is_sharded(value):  # asking it would take the other ranks
        return None
    element = value.item()
    return None if hasattr(element, "item") and not isinstance(element, numbers.Real) else _to_number(element)


def size_of(value: Any) -> int | None:
    """Return how many elements a tensor or array has; None for what is neither."""
    if isinstance(value, type):
        return None
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    return size if isinstance(size, int) else None


def is_sharded(value: Any) -> bool:
    """Return whether ``value`` is a torch DTensor of which this rank holds only a part."""
    return hasattr(type(value), "full_tensor") and not all(each.is_replicate() for each in value.placements)


def to_json_number(value: Number) -> Number | NonFinite:
    """Return ``value``, or the JSON string for it where JSON has no number; ±Infinity for an int of 4,200 digits."""
    if isinstance(value, int):
        if value.bit_length() <= _LONGEST_INT:
            return value
        value = math.inf if value > 0 else -math.inf
    return value if math.isfinite(value) else _SPELLING.get(value, "NaN")


def from_json_number(value: Number | NonFinite) -> Number:
    """Undo `to_json_number`."""
    return NON_FINITE[value] if isinstance(value, str) else value


def restore_non_finite(value: Any) -> Any:
    """Undo `to_json_number` at any depth of what `to_jsonable` returned; a text that reads "NaN" becomes a NaN, too."""
    if isinstance(value, dict):
        return {key: restore_non_finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [restore_non_finite(each) for each in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def as_utf8(text: str) -> str:
    """Return ``text`` as a plain str that UTF-8 can hold: a lone surrogate becomes its escape."""
    text = str.__str__(text)  # numpy.str_ and other subclasses may say something else of themselves
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def to_text(value: Any) -> str:
    """Return a text as it is, and ``str()`` of anything else, as UTF-8 can hold it; never raises."""
    try:
        if isinstance(value, enum.Enum) and isinstance(value.value, str):
            value = value.value
        if _is_taken_apart(value):
            value = _text(value) if has_cycle(value) else to_jsonable(value)
        return as_utf8(value if isinstance(value, str) else str(value))
    except Exception:
        return _text(value)


def to_key(key: Any) -> str:
    """Return a mapping's key as text: as JSON encoders write it, which numbers beside it need not be, or `to_text`."""
    if safe_isinstance(key, str):
        return as_utf8(key)
    try:
        (written,) = msgspec.json.decode(msgspec.json.encode({key: None}))
        return str(written)
    except Exception:
        return _text(key) if safe_isinstance(key, tuple) else to_text(key)


def as_list(values: Any) -> list[Any]:
    """Return what was given as a list: a text, and what is no collection, as the only one; nothing for None."""
    if values is None:
        return []
    is_one = isinstance(values, str | bytes) or not hasattr(values, "__iter__")
    return [values] if is_one else list(values)


def to_int(value: Any) -> int | None:
    """Return a finite number as an int, None for anything else and for an int of more than 4,200 digits."""
    number = to_number(value)
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        return None
    return int(number) if number.__class__ is float or int(number).bit_length() <= _LONGEST_INT else None


def to_jsonable(value: Any) -> Any:
    """Return ``value`` in dicts, lists, strings, numbers, bools and None, keeping its nesting; never raises.

    Hyperparameters come as anything: Namespaces, dataclasses, enums, OmegaConf nodes, tensors, classes.
    What has no JSON form becomes its name or, at last, its ``repr``; so does what stands inside itself.
    """
    return _to_jsonable(value, (), _Walk())


def _to_jsonable(value: Any, parents: tuple[int, ...], walk: _Walk) -> Any:
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, str):
            return as_utf8(value)
        if is_sharded(value):
            return "a DTensor that is spread over ranks"
        number = to_number(value)
        if number is not None:
            return to_json_number(number)
        if not walk.may_enter(value, parents):
            is_met_again = _is_taken_apart(value) and len(parents) <= _DEEPEST
            return _type_name(value) if is_met_again else _text(value)
        return _take_apart(value, (*parents, id(value)), walk)
    except Exception:
        return _text(value)


def _take_apart(value: Any, parents: tuple[int, ...], walk: _Walk) -> Any:
    if type(value).__module__.startswith("omegaconf."):
        value = _from_omegaconf(value)
    if hasattr(type(value), "__dataclass_fields__"):
        import dataclasses

        value = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
    if hasattr(type(value), "model_fields") and hasattr(value, "model_dump"):  # pydantic's
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        value = vars(value)
    if isinstance(value, Mapping):
        return {to_key(key): _to_jsonable(each, parents, walk) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_jsonable(each, parents, walk) for each in value]
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return as_utf8(f"{value.__module__}.{value.__qualname__}")
    if hasattr(value, "tolist"):
        return _to_jsonable(to_dense(value).tolist(), parents, walk)
    if hasattr(value, "__fspath__"):
        return as_utf8(os.fsdecode(value))
    if hasattr(value, "isoformat"):  # a date, pandas' Timestamp
        return as_utf8(str(value.isoformat()))
    # Dates, bytes, UUIDs, msgspec's and attrs' classes; what it does not know comes back here and becomes its repr.
    plain = msgspec.to_builtins(value, enc_hook=lambda each: _to_jsonable(each, parents, walk), str_keys=True)
    return plain if isinstance(plain, str) else _to_jsonable(plain, parents, walk)


def to_dense(tensor: Any) -> Any:
    """Return a sparse tensor as a dense one, and anything else as it is."""
    is_sparse = hasattr(tensor, "to_dense") and str(getattr(tensor, "layout", "")) != "torch.strided"
    return tensor.to_dense() if is_sparse else tensor


def _from_omegaconf(node: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException:  # an interpolation that leads nowhere
        return OmegaConf.to_container(node, resolve=False)


def _text(value: Any) -> str:
    try:
        if type(value) in (list, tuple, set, frozenset, dict):
            return as_utf8(_shortened.repr(value))  # those that hold each other have a repr without end
        if _is_taken_apart(value):
            return _type_name(value)
        return as_utf8(repr(value))
    except Exception:
        return _type_name(value)


def _is_taken_apart(value: Any) -> bool:
    is_record = hasattr(type(value), "__dataclass_fields__") or type(value).__name__ in ("Namespace", "SimpleNamespace")
    return is_record or isinstance(value, Mapping | list | tuple | set | frozenset)


def _type_name(value: Any) -> str:
    return as_utf8(f"<{type(value).__module__}.{type(value).__qualname__}>")
