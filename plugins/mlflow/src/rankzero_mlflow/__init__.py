"""MLflow for rankzero: the plugin ``mlflow``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankzero.plugins.lazy import lazy_names

if TYPE_CHECKING:
    from rankzero_mlflow.logger import MLFlowLogger

__all__ = ["MLFlowLogger"]
__getattr__ = lazy_names(__name__, MLFlowLogger="rankzero_mlflow.logger")
