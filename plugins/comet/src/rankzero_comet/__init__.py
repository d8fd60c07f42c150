"""Comet for rankzero: the plugin ``comet``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankzero.plugins.lazy import lazy_names

if TYPE_CHECKING:
    from rankzero_comet.logger import CometLogger

__all__ = ["CometLogger"]
__getattr__ = lazy_names(__name__, CometLogger="rankzero_comet.logger")
