"""The metrics in a progress bar: read when it is drawn, and never waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankzero.capture.device_values import DeviceCopy
from rankzero.values import Number, split_metrics


class ShownMetrics:
    """The numbers of the metrics that were given last, as far as they are there."""

    def __init__(self) -> None:
        self.given: Mapping[str, Any] = {}
        """Name → number or one-element tensor; not looked into before `read`."""
        self._numbers: dict[str, Number] = {}
        self._copy: DeviceCopy | None = None

    def read(self) -> None:
        """Read what can be read now; a number from an accelerator is the one of an earlier call."""
        known = self._numbers
        if self._copy is not None and self._copy.ready():
            copy, self._copy = self._copy, None
            known = {**known, **copy.wait()}
        split = split_metrics(self.given)
        if split.on_device and self._copy is None:
            self._copy = DeviceCopy(split.on_device)
        known = {**known, **split.numbers}
        self._numbers = {name: known[name] for name in self.given if name in known}

    def texts(self) -> list[str]:
        """Return ``name=0.1234`` of each metric."""
        return [f"{name}={_shown(number)}" for name, number in self._numbers.items()]


def _shown(number: Number) -> str:
    return str(number) if isinstance(number, int) else f"{number:.4g}"
