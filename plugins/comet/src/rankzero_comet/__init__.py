"""Comet for rankzero: the plugin ``comet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_comet.logger import CometLogger

__all__ = ["CometLogger"]


def __getattr__(name: str) -> Any:
    # Lazy: every run imports this package for its importer, also a run that logs elsewhere.
    if name != "CometLogger":
        raise AttributeError(f"module 'rankzero_comet' has no attribute {name!r}")
    from rankzero_comet.logger import CometLogger

    return CometLogger
