"""Compute the norms of a model's gradients in few kernels, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from rankzero.errors import RecorderError


def gradient_norms(module_or_parameters: Any, norm_type: float = 2.0, per_parameter: bool = False) -> dict[str, Any]:
    """Return ``grad_2.0_norm_total`` and, if asked, ``grad_2.0_norm/NAME`` of each parameter.

    The total is the norm of all gradients as one vector. Parameters without a gradient or without elements are left
    out. The norms of 16-bit gradients are computed in float32. Where gradients are sharded over ranks (DTensors, as
    with ``fully_shard``), the norms are those of the whole, and every rank must call this.

    Args:
        module_or_parameters: a ``torch.nn.Module``; parameters, which are then named 0, 1, …; or pairs of a name and a
            parameter, as ``named_parameters()`` yields them.
        norm_type: the p of the p-norm, positive; ``float("inf")`` or ``"inf"`` for the largest absolute value.
        per_parameter: also return each parameter's norm, before the total.

    Returns:
        Tensors without dimensions or a graph, each on the device of its gradient, and the total on an accelerator if
        there is one; {} if no parameter has a gradient.

    Raises:
        RecorderError: ``norm_type`` is not a positive number, or an argument is not a parameter.
    """
    import torch

    order = _order(norm_type)
    gradients = _gradients(module_or_parameters)
    if not gradients:
        return {}
    with torch.no_grad():
        norms = _norms(gradients, order)
        total = _total(list(norms.values()), order)
    named = {f"grad_{order}_norm/{name}": norm for name, norm in norms.items()} if per_parameter else {}
    return {name: _whole(norm) for name, norm in {**named, f"grad_{order}_norm_total": total}.items()}


def _order(norm_type: Any) -> float:
    try:
        order = float(norm_type)
    except (TypeError, ValueError):
        order = math.nan
    if not order > 0:
        raise RecorderError(
            f"norm_type must be a positive number, or 'inf' for the largest absolute value, not {norm_type!r}"
        )
    return order


def _gradients(source: Any) -> dict[str, Any]:
    return {
        name: parameter.grad
        for name, parameter in _named_parameters(source)
        if parameter.grad is not None and parameter.grad.numel()
    }


def _named_parameters(source: Any) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(source, torch.nn.Module):
        yield from source.named_parameters()
        return
    if isinstance(source, torch.Tensor) or not isinstance(source, Iterable):
        source = [source]
    for number, each in enumerate(source):
        name, parameter = each if isinstance(each, tuple) and len(each) == 2 else (str(number), each)
        if not isinstance(parameter, torch.Tensor):
            raise RecorderError(f"gradient norms need a torch.nn.Module or parameters, not {type(parameter).__name__}")
        yield name, parameter


def _norms(gradients: dict[str, Any], order: float) -> dict[str, Any]:
    """Return the norm of each gradient, with one call for each device and dtype."""
    import torch

    by_kind: dict[Any, dict[str, Any]] = {}
    for name, gradient in gradients.items():
        dense = gradient.coalesce().values() if gradient.is_sparse else gradient
        by_kind.setdefault((dense.device, dense.dtype), {})[name] = dense
    found: dict[str, Any] = {}
    for (_, dtype), group in by_kind.items():
        wider = torch.float32 if dtype in (torch.float16, torch.bfloat16) else None
        found.update(zip(group, torch._foreach_norm(list(group.values()), order, dtype=wider), strict=True))
    return {name: found[name] for name in gradients}


def _total(norms: list[Any], order: float) -> Any:
    """Return the norm of the norms, on an accelerator if there is one: a copy to the CPU would wait."""
    import torch

    by_kind: dict[Any, list[Any]] = {}
    for norm in norms:
        by_kind.setdefault((norm.device, norm.dtype), []).append(norm)
    target = next((device for device, _ in by_kind if device.type != "cpu"), norms[0].device)
    parts = [torch.stack(group).to(target, non_blocking=True) for group in by_kind.values()]
    return torch.linalg.vector_norm(torch.cat(parts) if len(parts) > 1 else parts[0], order)


def _whole(norm: Any) -> Any:
    """Return a plain tensor, gathered from all ranks."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
