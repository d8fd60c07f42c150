"""MLflow for rankzero: the plugin ``mlflow``."""

from rankzero_mlflow.logger import MLFlowLogger

__all__ = ["MLFlowLogger"]
