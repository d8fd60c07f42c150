"""Comet for rankzero: the plugin ``comet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_comet.logger import CometLogger

__all__ = ["CometLogger"]


def __getattr__(name: str) -> Any:
    # Not at the top: a run that goes elsewhere imports this package, too, for the hook in it.
    if name != "CometLogger":
        raise AttributeError(f"module 'rankzero_comet' has no attribute {name!r}")
    from rankzero_comet.logger import CometLogger

    return CometLogger
