"""``sync_dist``: reduce the metrics of a loop over all ranks, with one all_reduce for each process group.

The ranks first agree on a layout: the slots of each metric in the tensor to reduce. For this they gather all names,
first in each stage, and again when a rank has a new name. So ranks may log different names.

Ranks may also have different numbers of batches. Beside the slots, the tensor has two flags: whether this rank is at
the end of its loop, and whether it has a name that is not in the layout. A rank at the end takes part in the
reductions of the others until all are at the end; the last reduction has the values of the epoch. Each metric's slots
begin with another flag: whether this rank has the metric.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rankzero.errors import RecorderError
from rankzero.recorder.metrics import Label
from rankzero.recorder.reduction import Reduction, make_reduction
from rankzero.recorder.values import is_tensor


class Key(NamedTuple):
    """Identifies a value to reduce."""

    level: str
    """``step`` or ``epoch``."""
    name: str
    """The written name."""
    reduce_fx: str


class Offer(NamedTuple):
    """A rank's part of a value."""

    label: Label
    reduction: Reduction


_AT_END, _HAS_NEW, _FLAGS = 0, 1, 2


class Exchange:
    """Reduces a stage's metrics over the ranks of one process group.

    Args:
        group: a ``torch.distributed`` group that this rank belongs to; None for all ranks.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self._layout: dict[Key, Label] = {}
        self._is_agreed = False

    @property
    def has_step_values(self) -> bool:
        """Whether any rank logs a value that is reduced at each written step."""
        return any(key.level == "step" for key in self._layout)

    def reduce(self, mine: Mapping[Key, Offer], *, at_end: bool) -> dict[Label, float] | None:
        """Return the values over all ranks of the group, which all must call this.

        Args:
            mine: the values of this rank.
            at_end: whether this rank's loop has ended. Then the values of the epoch are returned, or None while other
                ranks are in their loops; otherwise those of a step.

        Raises:
            RecorderError: two ranks log one metric with different reductions.
        """
        while True:
            if not self._is_agreed:
                self._agree(mine)
            sums = self._all_reduce(mine, at_end)
            if not sums[_HAS_NEW]:
                break
            self._is_agreed = False
        if at_end and sums[_AT_END] < self._ranks:
            return None
        found = self._merged(sums, "epoch" if at_end else "step")
        return {mine[key].label if key in mine else self._layout[key]: value for key, value in found}

    @property
    def _ranks(self) -> int:
        return int(_distributed().get_world_size(self.group))

    def _agree(self, mine: Mapping[Key, Offer]) -> None:
        offered: list[Any] = [None] * self._ranks
        _distributed().all_gather_object(offered, [(key, offer.label) for key, offer in mine.items()], self.group)
        layout: dict[Key, Label] = {}
        taken: dict[tuple[str, str], Key] = {}
        for key, label in (pair for pairs in offered for pair in pairs):
            other = taken.setdefault((key.level, key.name), key)
            if other != key:
                raise RecorderError(
                    f"the metric {key.name!r} is logged with reduce_fx={other.reduce_fx!r} on one rank and with "
                    f"{key.reduce_fx!r} on another"
                )
            layout.setdefault(key, label)
        kept = {key: label for key, label in self._layout.items() if (key.level, key.name) not in taken}
        self._layout = dict(sorted({**kept, **layout}.items()))
        self._is_agreed = True

    def _all_reduce(self, mine: Mapping[Key, Offer], at_end: bool) -> list[float]:
        distributed = _distributed()
        rank, ranks = distributed.get_rank(self.group), self._ranks
        has_new = not mine.keys() <= self._layout.keys()
        slots: list[Any] = [float(at_end), float(has_new)]
        for key in self._layout:
            reduction = mine[key].reduction if key in mine else make_reduction(key.reduce_fx)
            slots += [float(key in mine), *reduction.slots(rank, ranks)]
        packed = pack(slots, _device(self.group))
        distributed.all_reduce(packed, group=self.group)
        sums: list[float] = packed.tolist()
        return sums

    def _merged(self, sums: Sequence[float], level: str) -> Iterator[tuple[Key, float]]:
        begin = _FLAGS
        for key in self._layout:
            reduction = make_reduction(key.reduce_fx)
            end = begin + 1 + len(reduction.slots(0, self._ranks))
            is_there = bool(sums[begin])
            if is_there and key.level == level:
                yield key, reduction.merge(sums[begin + 1 : end])
            begin = end


def pack(slots: Sequence[Any], device: Any) -> Any:
    """Return Python numbers and tensors without dimensions as one tensor of float64 on ``device``."""
    import torch

    packed = torch.tensor([0.0 if is_tensor(each) else each for each in slots], dtype=torch.float64, device=device)
    indices = [index for index, each in enumerate(slots) if is_tensor(each)]
    if indices:
        tensors = [slots[index].detach().to(device=device, dtype=torch.float64) for index in indices]
        packed[torch.tensor(indices, device=device)] = torch.stack(tensors)
    return packed


def is_distributed(group: Any = None) -> bool:
    """Return whether ``group`` contains this rank and others."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    if group == distributed.GroupMember.NON_GROUP_MEMBER:
        return False
    try:
        return bool(distributed.get_world_size(group) > 1)
    except ValueError:  # a group that was destroyed
        return False


def normal_group(group: Any) -> Any:
    """Return the group; None for the group of all ranks."""
    return None if is_distributed() and group is _distributed().group.WORLD else group


def group_name(group: Any) -> str:
    """Return the name of a group, the same on all its ranks; empty for the group of all ranks."""
    return "" if group is None else str(group.group_name)


def _distributed() -> Any:
    return sys.modules["torch.distributed"]


def _device(group: Any) -> Any:
    """Return the device to reduce on; it does not depend on the values, so that it is the same on all ranks."""
    import torch

    if group is None:
        group = _distributed().group.WORLD
    kinds = {device.type for device in group._device_types}
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and accelerator.type in kinds:
        return torch.device(accelerator.type, torch.accelerator.current_device_index())
    return torch.device("cpu")
