"""Neptune for rankzero: the plugin ``neptune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_neptune.logger import NeptuneLogger

__all__ = ["NeptuneLogger"]


def __getattr__(name: str) -> Any:
    # Not at the top: a run that goes elsewhere imports this package, too, for the hook in it.
    if name != "NeptuneLogger":
        raise AttributeError(f"module 'rankzero_neptune' has no attribute {name!r}")
    from rankzero_neptune.logger import NeptuneLogger

    return NeptuneLogger
