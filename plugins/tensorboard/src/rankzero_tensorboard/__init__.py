"""Log a training run to TensorBoard: the rankzero plugin ``tensorboard``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_tensorboard.logger import TensorBoardLogger

__all__ = ["TensorBoardLogger"]


def __getattr__(name: str) -> Any:
    # Lazy: every run imports this package for its importer, also a run that logs elsewhere.
    if name != "TensorBoardLogger":
        raise AttributeError(f"module 'rankzero_tensorboard' has no attribute {name!r}")
    from rankzero_tensorboard.logger import TensorBoardLogger

    return TensorBoardLogger
