"""Read the learning rates of optimizers, with the names of Lightning's LearningRateMonitor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rankzero.errors import RecorderError
from rankzero.rank import rank_zero_warn

_INTERVALS = ("step", "epoch")


class LearningRateMonitor:
    """Reads learning rates, and if requested momenta and weight decays.

    Names: ``lr-Adam``; ``lr-Adam-1`` for the second optimizer of the class; ``lr-Adam/pg1`` or ``lr-Adam/NAME`` if an
    optimizer has several parameter groups, or one with a name. Suffixes are ``-momentum`` and ``-weight_decay``.
    Optimizers of schedulers are counted before the others. Groups can be added later; the names are then as if the
    optimizer had them from the beginning.
    """

    def __init__(
        self,
        optimizers: Sequence[Any],
        *,
        logging_interval: str = "step",
        log_momentum: bool = False,
        log_weight_decay: bool = False,
        log_key_prefix: str = "",
    ) -> None:
        """Check the arguments.

        Args:
            optimizers: torch optimizers, learning rate schedulers, and wrappers that keep one as ``optimizer`` or
                ``scheduler``; an optimizer that is given several times counts once.
            logging_interval: ``step`` or ``epoch``: when the caller reads.
            log_momentum: also read the momentum, or the first of ``betas``; 0, with a warning, where there is neither.
            log_weight_decay: also read the weight decay; 0 where there is none.
            log_key_prefix: put before every name.

        Raises:
            RecorderError: the interval is invalid, an argument is not an optimizer, there is none, or two groups have
                the same name.
        """
        if logging_interval not in _INTERVALS:
            raise RecorderError(f"logging_interval must be 'step' or 'epoch', not {logging_interval!r}")
        if not optimizers:
            raise RecorderError("monitor_learning_rate() needs an optimizer or scheduler")
        self.logging_interval = logging_interval
        self._log_momentum = log_momentum
        self._log_weight_decay = log_weight_decay
        self._prefix = log_key_prefix
        self._optimizers = _distinct(optimizers)
        self._names()
        without = [type(each).__name__ for each in self._optimizers if not _has_momentum(each)]
        if log_momentum and without:
            rank_zero_warn(f"log_momentum=True: {', '.join(without)} has no momentum; 0 is logged for it")

    def read(self) -> dict[str, Any]:
        """Return name → learning rate; a tensor where the optimizer keeps one, which is not read.

        A group whose learning rate is None, as in an optimizer that computes its own, is left out.

        Raises:
            RecorderError: an added group has the name of another one.
        """
        found: dict[str, Any] = {}
        for optimizer, names in zip(self._optimizers, self._names(), strict=True):
            for group, name in zip(optimizer.param_groups, names, strict=True):
                if group.get("lr") is not None:
                    found[name] = group["lr"]
                if self._log_momentum:
                    found[f"{name}-momentum"] = _momentum(group)
                if self._log_weight_decay:
                    found[f"{name}-weight_decay"] = group.get("weight_decay", 0)
        return found

    def _names(self) -> list[list[str]]:
        """Return the names of each optimizer's groups; groups may be added at any time."""
        seen: Counter[str] = Counter()
        names = []
        for optimizer in self._optimizers:
            kind = type(optimizer).__name__
            number = f"-{seen[kind]}" if seen[kind] else ""
            seen[kind] += 1
            names.append(_group_names(f"{self._prefix}lr-{kind}{number}", optimizer.param_groups))
        return names


def _distinct(given: Sequence[Any]) -> list[Any]:
    """Return the optimizers, each once, those of schedulers first."""
    of_schedulers = {id(found): found for each in given if not _has_groups(each) for found in [_optimizer_of(each)]}
    by_themselves = {id(found): found for each in given if _has_groups(each) for found in [_optimizer_of(each)]}
    return list((of_schedulers | by_themselves).values())


def _optimizer_of(given: Any) -> Any:
    """Return the innermost optimizer of ``given``; its class is part of the name."""
    found, seen = given, set()
    while id(found) not in seen:
        seen.add(id(found))
        found = getattr(found, "optimizer", None) or getattr(found, "scheduler", None) or found
    if not _has_groups(found):
        raise RecorderError(
            f"a learning rate is read from a torch optimizer or a learning rate scheduler, not {type(given).__name__}; "
            "pass each one as a separate argument"
        )
    return found


def _has_groups(candidate: Any) -> bool:
    groups = getattr(candidate, "param_groups", None)
    return isinstance(groups, Sequence) and all(isinstance(group, dict) for group in groups)


def _group_names(name: str, groups: Sequence[dict[str, Any]]) -> list[str]:
    if len(groups) == 1 and not groups[0].get("name"):
        return [name]
    suffixes = [group.get("name", f"pg{number}") for number, group in enumerate(groups, 1)]
    twice = [repr(suffix) for suffix, count in Counter(suffixes).items() if count > 1]
    if twice:
        raise RecorderError(
            f"{name} has several parameter groups named {', '.join(twice)}, whose learning rates could not be "
            "distinguished; give each group a different name"
        )
    return [f"{name}/{suffix}" for suffix in suffixes]


def _has_momentum(optimizer: Any) -> bool:
    return any("betas" in group or "momentum" in group for group in optimizer.param_groups)


def _momentum(group: dict[str, Any]) -> Any:
    return group["betas"][0] if "betas" in group else group.get("momentum", 0)
