"""Neptune for rankzero: the plugin ``neptune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankzero.plugins.lazy import lazy_names

if TYPE_CHECKING:
    from rankzero_neptune.logger import NeptuneLogger

__all__ = ["NeptuneLogger"]
__getattr__ = lazy_names(__name__, NeptuneLogger="rankzero_neptune.logger")
