"""Check the values for a recorder: a number, a tensor of one element, or a torchmetrics Metric."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from rankzero.errors import RecorderError
from rankzero.messages import describe
from rankzero.values import is_sharded, size_of, to_dense, to_number

_LARGEST_INT = 1 << 1000  # floats end at 1 << 1024


def is_tensor(value: Any) -> bool:
    """Return whether ``value`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_metric(value: Any) -> bool:
    """Return whether ``value`` is a ``torchmetrics.Metric``."""
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, torchmetrics.Metric)


def is_collection(value: Any) -> bool:
    """Return whether ``value`` is a ``torchmetrics.MetricCollection``."""
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, torchmetrics.MetricCollection)


def checked(name: Any, value: Any) -> Any:
    """Return ``value`` as a Python number, a tensor without dimensions or a Metric; a tensor is not read.

    Raises:
        RecorderError: it is none of these.
    """
    try:
        return _checked(name, value)
    except RecorderError:
        raise
    except Exception as error:  # an object whose attributes raise
        raise RecorderError(f"log() was given a value that cannot be read: {describe(error)}") from error


def _checked(name: Any, value: Any) -> Any:
    if not (isinstance(name, str) and name):
        what = "empty" if name == "" else f"of type {type(name).__name__}"
        raise RecorderError(f"log() takes a name and a value, and the name is {what}; log_dict() takes several at once")
    if value.__class__ is float or (value.__class__ is int and -_LARGEST_INT < value < _LARGEST_INT):
        return value
    if is_tensor(value):
        return _checked_tensor(name, value)
    if is_metric(value):
        return value
    if isinstance(value, Mapping) or is_collection(value):
        raise RecorderError(
            f"log({name!r}, …) takes one number, not {type(value).__name__}; log_dict() takes several, not nested"
        )
    number = to_number(value)
    if number is None:
        size = size_of(value)
        several = f" of {size} elements; log one, such as its mean()" if size and size > 1 else ""
        raise RecorderError(
            f"log({name!r}, …) takes a number, a tensor of one element or a torchmetrics.Metric, not "
            f"{type(value).__name__}{several}"
        )
    if number.__class__ is int and abs(number) >= _LARGEST_INT:
        return math.inf if number > 0 else -math.inf
    return number


def _checked_tensor(name: str, tensor: Any) -> Any:
    if tensor.numel() != 1:
        raise RecorderError(
            f"log({name!r}, …) takes a tensor of one element, and this one has the shape {tuple(tensor.shape)}; "
            f"log one number of it, such as its mean()"
        )
    if tensor.is_complex():
        raise RecorderError(f"log({name!r}, …) takes a real number; log the parts of a complex one separately")
    if type(tensor).__name__ == "DTensor":
        tensor = _local_tensor(name, tensor)
    return to_dense(tensor).reshape(()) if tensor.is_sparse or tensor.dim() else tensor


def _local_tensor(name: str, tensor: Any) -> Any:
    if is_sharded(tensor):
        raise RecorderError(
            f"log({name!r}, …) takes a number that each rank has, and this is a DTensor that is sharded over "
            "the ranks; log its full_tensor(), which all ranks must call"
        )
    return tensor.to_local()


def detached_copy(value: Any) -> Any:
    """Return a copy of a tensor, detached from its graph; a number as it is."""
    return value.detach().clone() if hasattr(value, "detach") else value
