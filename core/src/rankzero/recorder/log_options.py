"""Check the options of a log call; their defaults and valid values depend on the phase of training."""

from __future__ import annotations

import enum
import sys
from typing import Any, NamedTuple

from rankzero.errors import RecorderError


class Phase(enum.Enum):
    """The place of a log call in a training; the values are for error messages."""

    TRAIN = "in a train loop"
    EVALUATION = "in a validate or test loop"
    EPOCH = "between the loops of an epoch"


class LogOptions(NamedTuple):
    """The given options of `rankzero.Recorder.log`."""

    prog_bar: bool = False
    logger: bool | None = None
    on_step: bool | None = None
    on_epoch: bool | None = None
    reduce_fx: Any = "mean"
    enable_graph: bool = False
    sync_dist: bool | None = None
    sync_dist_group: Any = None
    add_dataloader_idx: bool = True
    metric_attribute: str | None = None
    rank_zero_only: bool = False


_LEVELS = {Phase.TRAIN: (True, False), Phase.EVALUATION: (False, True), Phase.EPOCH: (False, True)}
_REDUCTIONS = {"mean": "mean", "avg": "mean", "sum": "sum", "min": "min", "max": "max"}
_BUILTINS = {id(sum): "sum", id(min): "min", id(max): "max"}


def levels(name: str, phase: Phase, options: LogOptions) -> tuple[bool, bool]:
    """Return (on_step, on_epoch), with the phase's defaults instead of None.

    Raises:
        RecorderError: they are invalid in this phase, or both are False.
    """
    by_default = _LEVELS[phase]
    on_step = by_default[0] if options.on_step is None else bool(options.on_step)
    on_epoch = by_default[1] if options.on_epoch is None else bool(options.on_epoch)
    if phase is Phase.EPOCH and on_step:
        raise RecorderError(
            f"log({name!r}, on_step=True) is called {phase.value}, where there is no step; leave on_step out, or log "
            "it in the body of rec.train() or rec.validate()"
        )
    if not on_step and not on_epoch:
        raise RecorderError(
            f"log({name!r}, on_step=False, on_epoch=False) would record nothing; set one of them to True, or leave "
            f"both out: {phase.value} they are on_step={by_default[0]}, on_epoch={by_default[1]}"
        )
    return on_step, on_epoch


def reduction_name(name: str, reduce_fx: Any) -> str:
    """Return ``mean``, ``sum``, ``min`` or ``max``.

    Raises:
        RecorderError: it is not one of these.
    """
    if isinstance(reduce_fx, str):
        found = _REDUCTIONS.get(reduce_fx.lower())
    else:
        torch = sys.modules.get("torch")
        of_torch = {id(getattr(torch, each)): each for each in _REDUCTIONS.values()} if torch else {}
        found = {**_BUILTINS, **of_torch}.get(id(reduce_fx))
    if found is None:
        raise RecorderError(
            f"log({name!r}, reduce_fx={reduce_fx!r}): reduce_fx must be 'mean', 'sum', 'min' or 'max'; for any other "
            "reduction log a torchmetrics.Metric"
        )
    return found
