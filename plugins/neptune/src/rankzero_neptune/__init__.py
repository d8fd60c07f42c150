"""Neptune for rankzero: the plugin ``neptune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_neptune.logger import NeptuneLogger

__all__ = ["NeptuneLogger"]


def __getattr__(name: str) -> Any:
    # Lazy: every run imports this package for its importer, also a run that logs elsewhere.
    if name != "NeptuneLogger":
        raise AttributeError(f"module 'rankzero_neptune' has no attribute {name!r}")
    from rankzero_neptune.logger import NeptuneLogger

    return NeptuneLogger
