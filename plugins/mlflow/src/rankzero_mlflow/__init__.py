"""MLflow for rankzero: the plugin ``mlflow``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_mlflow.logger import MLFlowLogger

__all__ = ["MLFlowLogger"]


def __getattr__(name: str) -> Any:
    # Lazy: every run imports this package for its importer, also a run that logs elsewhere.
    if name != "MLFlowLogger":
        raise AttributeError(f"module 'rankzero_mlflow' has no attribute {name!r}")
    from rankzero_mlflow.logger import MLFlowLogger

    return MLFlowLogger
