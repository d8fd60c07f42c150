"""Convert metrics and hyperparameters of any type to numbers and JSON.

Tensors, arrays and other objects are recognised by their attributes, so nothing here imports torch or numpy.
"""

from __future__ import annotations

import enum
import math
import numbers
import os
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Literal

import msgspec

Number = int | float
NonFinite = Literal["NaN", "Infinity", "-Infinity"]

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""NaN and the infinities, which JSON lacks, as a journal writes them (as JavaScript does)."""

_NON_FINITE_NAMES: dict[float, NonFinite] = {math.inf: "Infinity", -math.inf: "-Infinity"}
_MAX_INT_BITS = 14_000  # Python and JSON decoders read at most 4,300 digits
_MAX_DEPTH = 100
_MAX_REVISITS = 1000  # of containers seen before: some that contain each other have endless paths
_shortened = reprlib.Repr()
_shortened.maxlevel = 2


class SplitMetrics(msgspec.Struct):
    """The values of one log call: numbers, numbers on an accelerator, and the rest."""

    numbers: dict[str, Number] = {}
    on_device: dict[str, Any] = {}
    """One-element tensors on an accelerator, which may still be computing them."""
    rest: dict[str, Any] = {}
    """Values that are not numbers: text, lists, arrays of several elements, None, …"""
    repeated: list[str] = []
    """Keys of several values, such as ``a/b`` in ``{"a/b": 1, "a": {"b": 2}}``."""


def split_metrics(metrics: Mapping[Any, Any]) -> SplitMetrics:
    """Split the values of one log call by type; nested mappings are flattened with ``/``."""
    split = SplitMetrics()
    seen: set[str] = set()
    for key, value in flatten(metrics):
        if key in seen:
            split.repeated.append(key)
        seen.add(key)
        if _is_on_accelerator(value):
            split.on_device[key] = value.to_local() if hasattr(value, "to_local") else value
            continue
        number = to_number(value)
        if number is None:
            split.rest[key] = value
        else:
            split.numbers[key] = number
    return split


def flatten(mapping: Mapping[Any, Any], separator: str = "/") -> Iterator[tuple[str, Any]]:
    """Flatten a nested mapping: yield (key, leaf), with the keys of a path joined by ``separator``.

    A mapping that contains itself is a leaf where it repeats.
    """
    return _flatten(mapping, "", separator, (), _Traversal())


def _flatten(
    mapping: Mapping[Any, Any], prefix: str, separator: str, parents: tuple[int, ...], traversal: _Traversal
) -> Iterator[tuple[str, Any]]:
    parents = (*parents, id(mapping))
    for key, value in mapping.items():
        name = f"{prefix}{to_key(key)}"
        if type(value) is float or not safe_isinstance(value, Mapping):  # the check of a class is slow
            yield name, value
        elif traversal.may_enter(value, parents):
            yield from _flatten(value, name + separator, separator, parents, traversal)
        else:
            yield name, _text(value)


class _Traversal:
    """Remembers the containers of a traversal, so that cycles end."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # the references keep ids from being reused
        self._visits_left = _MAX_REVISITS

    def may_enter(self, container: Any, parents: tuple[int, ...]) -> bool:
        """Return whether to traverse ``container``; ``parents`` are the ids of the containers around it."""
        if id(container) in parents or len(parents) > _MAX_DEPTH:
            return False
        if id(container) in self._seen:
            self._visits_left -= 1
            return self._visits_left >= 0
        self._seen[id(container)] = container
        return True


def has_cycle(value: Any) -> bool:
    """Return whether nested lists and tuples contain each other; numpy would not return from such a cycle."""
    done: set[int] = set()

    def leads_back(container: Any, parents: frozenset[int]) -> bool:
        if id(container) in parents:
            return True
        if id(container) in done:
            return False
        within = parents | {id(container)}
        found = any(leads_back(each, within) for each in container if isinstance(each, list | tuple))
        done.add(id(container))
        return found

    return safe_isinstance(value, list | tuple) and leads_back(value, frozenset())


def safe_isinstance(value: Any, kind: Any) -> bool:
    """Return ``isinstance(value, kind)``, or False if that raises, as for a proxy of a deleted object."""
    try:
        return isinstance(value, kind)
    except Exception:
        return False


def _is_on_accelerator(value: Any) -> bool:
    """Return whether ``value`` is a torch tensor of one real number on an accelerator."""
    try:
        if getattr(value.device, "type", "cpu") in ("cpu", "meta") or is_sharded(value):
            return False
        return value.numel() == 1 and not value.is_complex()
    except Exception:  # not a tensor
        return False


def as_float(number: Number) -> float:
    """Return a number as a float; an infinity if no float is as large."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def to_number(value: Any) -> Number | None:
    """Convert ``value`` to a Python int or float; None if it is not a single real number.

    - bool, int and other integers (of numpy and torch, of any width): the same int;
    - float, float16/32/64 and bfloat16: the float64 of the same value, including NaN and ±Inf;
    - `decimal.Decimal`, `fractions.Fraction`, numpy.longdouble: the nearest float64, ±Inf beyond its range;
    - a tensor or array of one element, of any shape: that element, detached from its graph.
    """
    try:
        return _to_number(value)
    except Exception:  # a broken object, or a meta tensor, which has no value
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
    if is_sharded(value):  # item() would be a collective
        return None
    element = value.item()
    return None if hasattr(element, "item") and not isinstance(element, numbers.Real) else _to_number(element)


def size_of(value: Any) -> int | None:
    """Return the number of elements of a tensor or array; None for other values."""
    if isinstance(value, type):
        return None
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    return size if isinstance(size, int) else None


def is_sharded(value: Any) -> bool:
    """Return whether ``value`` is a torch DTensor that is sharded over ranks."""
    return hasattr(type(value), "full_tensor") and not all(each.is_replicate() for each in value.placements)


def to_json_number(value: Number) -> Number | NonFinite:
    """Return a number as JSON has it: NaN and infinities as strings, ±Infinity for ints of 4,200 digits."""
    if isinstance(value, int):
        if value.bit_length() <= _MAX_INT_BITS:
            return value
        value = math.inf if value > 0 else -math.inf
    return value if math.isfinite(value) else _NON_FINITE_NAMES.get(value, "NaN")


def from_json_number(value: Number | NonFinite) -> Number:
    """Undo `to_json_number`."""
    return NON_FINITE[value] if isinstance(value, str) else value


def restore_non_finite(value: Any) -> Any:
    """Undo `to_json_number` in the nested result of `to_jsonable`; a text "NaN" also becomes NaN."""
    if isinstance(value, dict):
        return {key: restore_non_finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [restore_non_finite(each) for each in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def parse_number(text: str | None) -> Number | None:
    """Return the number that a text is, also NaN and infinities; None if it is no number."""
    for kind in (int, float):
        with suppress(TypeError, ValueError):
            return kind(text or "")
    return None


def as_utf8(text: str) -> str:
    """Return ``text`` as a plain str that UTF-8 can encode; lone surrogates are escaped."""
    text = str.__str__(text)  # str() of a subclass such as numpy.str_ may differ
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def to_text(value: Any) -> str:
    """Return ``str(value)`` as UTF-8 can encode it; never raises."""
    try:
        if isinstance(value, enum.Enum) and isinstance(value.value, str):
            value = value.value
        if _is_container(value):
            value = _text(value) if has_cycle(value) else to_jsonable(value)
        return as_utf8(value if isinstance(value, str) else str(value))
    except Exception:
        return _text(value)


def to_key(key: Any) -> str:
    """Return a mapping's key as text: as a JSON encoder writes it, else `to_text`."""
    if type(key) is str and key.isascii():  # nearly always
        return key
    if safe_isinstance(key, str):
        return as_utf8(key)
    try:
        (written,) = msgspec.json.decode(msgspec.json.encode({key: None}))
        return str(written)
    except Exception:
        return _text(key) if safe_isinstance(key, tuple) else to_text(key)


def as_names(text: str) -> list[str]:
    """Return the names in a text that separates them by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def as_list(values: Any) -> list[Any]:
    """Return a collection as a list, a single value or text as a list of one, None as an empty list."""
    if values is None:
        return []
    is_single = isinstance(values, str | bytes) or not hasattr(values, "__iter__")
    return [values] if is_single else list(values)


def to_int(value: Any) -> int | None:
    """Convert a finite number to an int; None for other values and for ints of more than 4,200 digits."""
    number = to_number(value)
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        return None
    return int(number) if number.__class__ is float or int(number).bit_length() <= _MAX_INT_BITS else None


def to_jsonable(value: Any) -> Any:
    """Convert ``value`` to nested dicts, lists, strings, numbers, bools and None; never raises.

    Takes hyperparameters of any type: Namespaces, dataclasses, enums, OmegaConf nodes, tensors, classes. A value
    without a JSON form becomes its name or its ``repr``; so does a container inside itself.
    """
    return _to_jsonable(value, (), _Traversal())


def _to_jsonable(value: Any, parents: tuple[int, ...], traversal: _Traversal) -> Any:
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, str):
            return as_utf8(value)
        if is_sharded(value):
            return "a DTensor that is sharded over ranks"
        number = to_number(value)
        if number is not None:
            return to_json_number(number)
        if not traversal.may_enter(value, parents):
            is_repeated = _is_container(value) and len(parents) <= _MAX_DEPTH
            return _type_name(value) if is_repeated else _text(value)
        return _convert_container(value, (*parents, id(value)), traversal)
    except Exception:
        return _text(value)


def _convert_container(value: Any, parents: tuple[int, ...], traversal: _Traversal) -> Any:
    if type(value).__module__.startswith("omegaconf."):
        value = _from_omegaconf(value)
    if hasattr(type(value), "to_dict") and not hasattr(value, "shape"):  # of Transformers; hides tokens
        value = value.to_dict()
    if hasattr(type(value), "__dataclass_fields__"):
        import dataclasses

        value = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
    if hasattr(type(value), "model_fields") and hasattr(value, "model_dump"):  # pydantic's
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        value = vars(value)
    if isinstance(value, Mapping):
        return {to_key(key): _to_jsonable(each, parents, traversal) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_jsonable(each, parents, traversal) for each in value]
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return as_utf8(f"{value.__module__}.{value.__qualname__}")
    if hasattr(value, "tolist"):
        return _to_jsonable(to_dense(value).tolist(), parents, traversal)
    if hasattr(value, "__fspath__"):
        return as_utf8(os.fsdecode(value))
    if hasattr(value, "isoformat"):  # a date, pandas' Timestamp
        return as_utf8(str(value.isoformat()))
    # Dates, bytes, UUIDs, classes of msgspec and attrs; other types come back to this function and become their repr.
    plain = msgspec.to_builtins(value, enc_hook=lambda each: _to_jsonable(each, parents, traversal), str_keys=True)
    return plain if isinstance(plain, str) else _to_jsonable(plain, parents, traversal)


def to_dense(tensor: Any) -> Any:
    """Return a sparse tensor as a dense one, and any other value unchanged."""
    is_sparse = hasattr(tensor, "to_dense") and str(getattr(tensor, "layout", "")) != "torch.strided"
    return tensor.to_dense() if is_sparse else tensor


def _from_omegaconf(node: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException:  # an interpolation of a missing key
        return OmegaConf.to_container(node, resolve=False)


def _text(value: Any) -> str:
    try:
        if type(value) in (list, tuple, set, frozenset, dict):
            return as_utf8(_shortened.repr(value))  # shortened: containers in a cycle have a very long repr
        if _is_container(value):
            return _type_name(value)
        return as_utf8(repr(value))
    except Exception:
        return _type_name(value)


def _is_container(value: Any) -> bool:
    is_record = hasattr(type(value), "__dataclass_fields__") or type(value).__name__ in ("Namespace", "SimpleNamespace")
    return is_record or isinstance(value, Mapping | list | tuple | set | frozenset)


def _type_name(value: Any) -> str:
    return as_utf8(f"<{type(value).__module__}.{type(value).__qualname__}>")
