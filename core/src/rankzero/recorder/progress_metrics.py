"""Metrics beside a progress bar, read without waiting for a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankzero.capture.device_values import DeviceCopy
from rankzero.values import Number, split_metrics


class ShownMetrics:
    """The newest known values of the current metrics.

    Args:
        fixed: name → text that is always shown, after the metrics.
    """

    def __init__(self, fixed: Mapping[str, str]) -> None:
        self.given: Mapping[str, Any] = {}
        """Name → number or one-element tensor; not read before `read`."""
        self._fixed = fixed
        self._numbers: dict[str, Number] = {}
        self._copy: DeviceCopy | None = None

    def read(self) -> None:
        """Read the values that are available now; those of an accelerator are from an earlier call."""
        known = self._numbers
        if self._copy is not None and self._copy.ready():
            copy, self._copy = self._copy, None
            known = {**known, **copy.wait()}
        split = split_metrics(self.given)
        if split.on_device and self._copy is None:
            self._copy = DeviceCopy(split.on_device)
        known = {**known, **split.numbers}
        self._numbers = {name: known[name] for name in self.given if name in known}

    def text(self) -> str:
        """Return the metrics as ``loss=0.1234, lr=0.01``."""
        shown = {name: _shown(number) for name, number in self._numbers.items()}
        return ", ".join(f"{name}={text}" for name, text in {**shown, **self._fixed}.items())


def _shown(number: Number) -> str:
    return str(number) if isinstance(number, int) else f"{number:.4g}"
